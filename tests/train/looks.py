"""A run without a network, of a few tiny sets, for the tests of `Look` and of evaluators."""

from types import SimpleNamespace

import jax
import numpy as np

from gjax import data
from gjax.data.dataset import check_dataset, check_split
from gjax.methods.core.contract import DataInfo, Role
from gjax.train.devices import data_mesh
from gjax.train.feeds import Resident, make_pools
from gjax.train.look import Look
from gjax.train.run import Run

BATCH = 4  # of evaluation; no split below is a multiple of it


def dataset(name: str, start: int, train: int = 11, test: int = 6, validation: int = 0) -> data.Dataset:
    """Images [1, 1, 1] of one level each, counted from `start`, in three classes."""
    splits = []
    for count in (train, test, validation):
        images = np.arange(start, start + count, dtype=np.uint8).reshape(-1, 1, 1)
        start += count
        splits.append(check_split(name, images, np.arange(count) % 3) if count else None)
    return check_dataset(name, splits[0], splits[1], 3, validation=splits[2])


class TinyRun:
    """What a `Look` asks of a `gjax.train.run.Run`: resident sets, a key, compiled functions that are kept."""

    once = Run.once

    def __init__(self, datasets: dict, trained: tuple[str, ...]):
        self.datasets, self.trained, self.mesh, self._compiled = datasets, trained, data_mesh(jax.devices()[:1]), {}
        self.config = SimpleNamespace(train=SimpleNamespace(eval_batch_size=BATCH), seed=0)
        pools = make_pools({'': Role(trained)}, datasets, 2, jax.random.key(0))
        self.feed = Resident(datasets, pools, self.mesh)
        self.eval_rng, self.info = jax.random.key(9), DataInfo(3, 11, 5, 10, (1, 1, 1))
        self.checked = 0

    def check(self):
        self.checked += 1

    def look(self, state, when='log', log=()):
        return Look(self, state, when=when, log=log)


def levels(run: TinyRun, name: str, split: str) -> np.ndarray:
    """The images of a split in [0, 1], [N]."""
    return run.datasets[name].splits[split].images.reshape(-1) / np.float32(255)
