import numpy as np
import pytest


@pytest.fixture(scope='session')
def toy_data(tmp_path_factory):
    """An npz of 80 + 40 images of 8x8 pixels: class 1 is bright in the right half, class 0 in the left, plus noise."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (('train', 80), ('test', 40)):
        labels = np.arange(count, dtype=np.int32) % 2
        images = rng.integers(0, 120, (count, 8, 8, 1))
        right = np.arange(8)[None, None, :, None] >= 4
        images += np.where(right == (labels == 1)[:, None, None, None], 110, 0)
        arrays |= {f'{split}_images': images.astype(np.uint8), f'{split}_labels': labels}
    path = tmp_path_factory.mktemp('toy') / 'toy.npz'
    np.savez(path, **arrays)
    return f'npz:{path}'
