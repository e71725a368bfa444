"""Streamed batches are those of the in-memory path: same order for any number of workers and processes, from any step."""

import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import psutil
import pytest
from PIL import Image

from gjax import data
from gjax.data.folders import FolderRecords
from gjax.data.streaming import EvalBatches, TrainBatches, stream

KEY = jax.random.key(3)
STEPS = 7  # of batches of 6 out of 20 examples: more than two epochs


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """20 training and 9 test JPEGs, one grey level each, in two classes."""
    root = tmp_path_factory.mktemp('tree')
    for split, count in (('train', 20), ('test', 9)):
        for i in range(count):
            file = root / split / 'ab'[i % 2] / f'{i:02d}.jpg'
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), 12 * i, np.uint8)).save(file)
    return root


def _batches(dataset, rows=None):
    rows = np.arange(6) if rows is None else rows
    order = data.HostDraw(data.Draw((np.arange(20, dtype=np.int32),), 6), np.asarray(jax.random.key_data(KEY)))
    return TrainBatches(dataset.train, order, rows, STEPS, dataset.image_shape)


def _read(batches, start, **options):
    with stream(batches, start, **options) as iterator:
        return list(iterator)


@pytest.mark.parametrize('workers', [0, 1, pytest.param(3, marks=pytest.mark.slow)])
def test_order_is_that_of_batch_index_for_any_number_of_workers(tree, workers):
    dataset = data.find(f'folder:{tree}')
    whole = dataset.load().train
    for start in (0, 4):
        read = _read(_batches(dataset), start, workers=workers)
        assert len(read) == STEPS - start
        for step, batch in enumerate(read, start):
            index = np.asarray(data.batch_index(KEY, step, 20, 6))
            np.testing.assert_array_equal(batch['index'], index)
            np.testing.assert_array_equal(batch['image'], whole.images[index])
            np.testing.assert_array_equal(batch['label'], whole.labels[index])


def test_processes_share_a_batch(tree):
    dataset = data.find(f'folder:{tree}')
    whole = _read(_batches(dataset), 0)
    parts = [_read(_batches(dataset, np.arange(first, first + 2)), 0) for first in (0, 2, 4)]
    for step, batch in enumerate(whole):
        for name, values in batch.items():
            np.testing.assert_array_equal(np.concatenate([part[step][name] for part in parts]), values)


def test_the_last_test_batch_is_padded(tree):
    dataset = data.find(f'folder:{tree}')
    read = _read(EvalBatches(dataset.test, np.arange(9), 4, np.arange(4), dataset.image_shape), 0)
    assert [batch['index'].tolist() for batch in read] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 8, 8, 8]]


def test_chosen_rows_come_in_their_order(tree):
    dataset = data.find(f'folder:{tree}')
    read = _read(EvalBatches(dataset.test, np.asarray([7, 0, 3]), 2, np.arange(2), dataset.image_shape), 0)
    assert [batch['index'].tolist() for batch in read] == [[7, 0], [3, 3]]
    np.testing.assert_array_equal(read[0]['image'], dataset.test.read(np.asarray([7, 0])).images)


@pytest.mark.parametrize('workers', [0, 1])
def test_an_unreadable_image_is_named(tree, tmp_path, workers):
    (tmp_path / 'train').symlink_to(tree / 'train')
    (tmp_path / 'test' / 'a').mkdir(parents=True)
    (tmp_path / 'test' / 'a' / 'bad.png').write_bytes(b'no image')
    dataset = data.find(f'folder:{tree}')
    broken = FolderRecords('folder:x', tmp_path, ('test/a/bad.png',), np.zeros(1, np.int32), 0)
    batches = EvalBatches(broken, np.arange(1), 1, np.arange(1), dataset.image_shape)
    with pytest.raises(data.DataError, match=r'folder:x: test/a/bad\.png is not a readable image') as caught:
        _read(batches, 0, workers=workers)
    assert '\n' not in str(caught.value)


def test_images_of_another_size_are_refused(tree, tmp_path):
    for name, size in (('a', 8), ('b', 9)):
        (tmp_path / 'cat').mkdir(exist_ok=True)
        Image.fromarray(np.zeros((size, size, 3), np.uint8)).save(tmp_path / 'cat' / f'{name}.png')
    records = FolderRecords('x', tmp_path, ('cat/b.png',), np.zeros(1, np.int32), 0)
    with pytest.raises(
        data.DataError, match=r'images of shape \(9, 9, 3\) among images of \(8, 8, 3\); set data.image_size'
    ):
        _read(EvalBatches(records, np.arange(1), 1, np.arange(1), (8, 8, 3)), 0)


_PARENT = """
import sys, time
import numpy as np
from gjax import data
from gjax.data.streaming import EvalBatches, stream
dataset = data.find(sys.argv[1])
batches = EvalBatches(dataset.train, np.arange(20), 1, np.arange(1), dataset.image_shape)
with stream(batches, 0, workers=2) as iterator:
    next(iterator), next(iterator)
    print('ready', flush=True)
    time.sleep(600)
"""


def test_workers_end_with_a_run_that_is_killed(tree):
    process = subprocess.Popen([sys.executable, '-c', _PARENT, f'folder:{tree}'], stdout=subprocess.PIPE, env=os.environ)
    with process.stdout:
        assert process.stdout.readline() == b'ready\n'
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 60
        while any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers):
            assert time.monotonic() < deadline
            time.sleep(0.05)
