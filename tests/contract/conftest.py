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
    """An npz of 80 + 40 images of 8x8 pixels: class 1 is bright in the right half, class 0 in the left, plus noise."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (('train', 80), ('test', 40)):
        labels = np.arange(count, dtype=np.int32) % 2
        images = rng.integers(0, 120, (count, 8, 8, 1))
        right = np.arange(8)[None, None, :, None] >= 4
        images += np.where(right == (labels == 1)[:, None, None, None], 110, 0)
        arrays |= {f'{split}_images': images.astype(np.uint8), f'{split}_labels': labels}
    folder = once('toy', lambda folder: np.savez(folder / 'toy.npz', **arrays))
    return f'npz:{folder}/toy.npz'
