"""The toy data of the contract battery: two domains of images that anything learns within seconds."""

from pathlib import Path

import numpy as np


def write_toy(folder: Path) -> None:
    """Writes toy.npz, 80 + 40 images of 8x8 pixels: class 1 is bright in the right half, class 0 in the left, plus noise.
    And two other domains: toy_target.npz, 96 + 30 images, brighter, with less contrast; toy_unseen.npz, 24 + 20 images,
    between both."""
    rng = np.random.default_rng(0)
    domains = (('toy', (80, 40), 0, 110), ('toy_target', (96, 30), 40, 80), ('toy_unseen', (24, 20), 20, 95))
    for name, counts, light, contrast in domains:
        arrays = {}
        for split, count in zip(('train', 'test'), counts, strict=True):
            labels = np.arange(count, dtype=np.int32) % 2
            images = light + rng.integers(0, 120, (count, 8, 8, 1))
            right = np.arange(8)[None, None, :, None] >= 4
            images += np.where(right == (labels == 1)[:, None, None, None], contrast, 0)
            arrays |= {f'{split}_images': images.astype(np.uint8), f'{split}_labels': labels}
        np.savez(folder / f'{name}.npz', **arrays)
