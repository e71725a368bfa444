"""Streamed sets: reading ahead, whose waiting counts, and workers that die."""

import threading
from types import SimpleNamespace

import jax
import numpy as np
import psutil
import pytest
from PIL import Image

from gjax import data
from gjax.methods.core.contract import Role
from gjax.train.feeds import Streamed, make_pools
from gjax.train.feeds.streamed import _Ahead

KEY = jax.random.key(3)


@pytest.mark.parametrize('computing', [False, True])
def test_waiting_while_the_devices_compute_is_not_waiting_for_data(computing):
    asked, ready, account = [], threading.Event(), SimpleNamespace(waited=0.0)

    def source():
        yield ready.wait(60)

    def busy():  # the source comes while its consumer waits
        asked.append(1)
        if len(asked) == 3 or not computing:
            ready.set()
        return computing

    with _Ahead(source(), account, busy) as ahead:
        assert next(ahead) is True
    assert len(asked) >= 3 if computing else asked == [1]
    assert (account.waited == 0) == computing


def test_a_worker_that_dies_ends_the_stream_with_one_line(tmp_path, meshes):
    for i in range(20):
        file = tmp_path / 'ab'[i % 2] / f'{i:02d}.png'
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(file)
    dataset = data.find(f'folder:{tmp_path}')
    datasets = {'source': dataset}
    pools = make_pools({'': Role(('source',))}, datasets, 6, KEY)
    feed = Streamed(datasets, pools, meshes[1], num_steps=10_000, max_steps=2, workers=1)
    with feed.chunks(0, [2] * 5000) as sources:
        next(sources)
        (worker,) = (p for p in psutil.Process().children() if 'spawn_main' in ' '.join(p.cmdline()))
        worker.kill()
        with pytest.raises(data.DataError, match='a data worker failed: Worker process was terminated'):
            list(sources)
