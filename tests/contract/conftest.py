import fcntl
import os

import numpy as np
import pytest


@pytest.fixture(scope='session')
def once(tmp_path_factory):
    """(name, make) -> a folder that make(folder) filled, once for all test workers."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if 'PYTEST_XDIST_WORKER' in os.environ else root

    def folder(name, make):
        with open(root / f'{name}.lock', 'w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = root / f'{name}.done'
            if not done.exists():
                (root / name).mkdir()
                make(root / name)
                done.touch()
        return root / name

    return folder


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
