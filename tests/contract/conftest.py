"""The toy data of the contract battery, and the finished runs that several of its files compare with."""

import jax
import numpy as np
import pytest

from gjax.train.devices import data_mesh
from gjax.train.loop import train_and_evaluate
from tests.contract.cases import L2, tiny_config


@pytest.fixture(scope='session')
def toy_data(once):
    """An npz of 80 + 40 images of 8x8 pixels: class 1 is bright in the right half, class 0 in the left, plus noise. Beside
    it lies another domain, toy_target.npz: 96 + 30 images, brighter, with less contrast."""
    rng = np.random.default_rng(0)

    def make(folder):
        for name, counts, light, contrast in (('toy', (80, 40), 0, 110), ('toy_target', (96, 30), 40, 80)):
            arrays = {}
            for split, count in zip(('train', 'test'), counts, strict=True):
                labels = np.arange(count, dtype=np.int32) % 2
                images = light + rng.integers(0, 120, (count, 8, 8, 1))
                right = np.arange(8)[None, None, :, None] >= 4
                images += np.where(right == (labels == 1)[:, None, None, None], contrast, 0)
                arrays |= {f'{split}_images': images.astype(np.uint8), f'{split}_labels': labels}
            np.savez(folder / f'{name}.npz', **arrays)

    return f'npz:{once("toy", make)}/toy.npz'


@pytest.fixture(scope='session')
def finished(toy_data, once):
    """(case, devices) -> the directory of a case's tiny run by one process on so many devices, trained once."""

    def directory(case, devices):
        config, mesh = tiny_config(case, toy_data, **L2), data_mesh(jax.devices()[:devices])
        return once(f'finished_{case}_on_{devices}', lambda out: train_and_evaluate(config, out, mesh=mesh))

    return directory
