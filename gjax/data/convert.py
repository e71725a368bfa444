"""Images of one size and number of channels, and as many as asked, whatever their source."""

import dataclasses

import numpy as np
from PIL import Image

from gjax.data.dataset import DataError, Dataset, Records, Split


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W, C], C 1 or 3, as [size, size, C], bilinearly and, where it shrinks, with antialiasing."""
    pixels = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    pixels = np.asarray(pixels.resize((size, size), Image.Resampling.BILINEAR))
    return pixels[..., None] if image.shape[-1] == 1 else pixels


def _recolour(images: np.ndarray, channels: int) -> np.ndarray:
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    return np.stack([np.asarray(Image.fromarray(image).convert('L'))[..., None] for image in images])


def _convert(split: Split, size: int, channels: int) -> Split:
    images = split.images
    if size and images.shape[1:3] != (size, size):
        images = np.stack([resize(image, size) for image in images])
    return Split(_recolour(images, channels or images.shape[-1]), split.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class ConvertedRecords:
    """A split whose images are converted when read."""

    records: Records
    size: int
    channels: int

    def __len__(self):
        return len(self.records)

    def read(self, rows) -> Split:
        return _convert(self.records.read(rows), self.size, self.channels)


def converted(dataset: Dataset, size: int = 0, channels: int = 0) -> Dataset:
    """The set with images of `size` pixels a side and 1 or 3 `channels`; 0 keeps what they have."""
    height, width, depth = dataset.image_shape
    shape = (size or height, size or width, channels or depth)
    if shape == tuple(dataset.image_shape):
        return dataset
    splits = (dataset.train, dataset.test)
    if all(isinstance(split, Split) for split in splits):
        train, test = (_convert(split, size, channels) for split in splits)
    else:
        train, test = (ConvertedRecords(split, size, channels) for split in splits)
    return dataclasses.replace(dataset, train=train, test=test, image_shape=shape)


@dataclasses.dataclass(frozen=True, eq=False)
class SubsetRecords:
    """Some rows of a split."""

    records: Records
    rows: np.ndarray

    def __len__(self):
        return len(self.rows)

    def read(self, rows) -> Split:
        return self.records.read(self.rows[rows])


def subset(dataset: Dataset, count: int, seed: int, key: str) -> Dataset:
    """The set with `count` of its training examples, drawn by the seed; 0 keeps all.

    Raises:
      DataError: it has fewer; the message names the config's `key`.
    """
    total = len(dataset.train)
    if not 0 <= count <= total:
        raise DataError(f'{key} is {count}; allowed: 0..{total}, the training examples of {dataset.name}')
    if not count:
        return dataset
    rows = np.sort(np.random.default_rng(abs(seed)).choice(total, count, replace=False))
    in_memory = isinstance(dataset.train, Split)
    return dataclasses.replace(dataset, train=dataset.train.read(rows) if in_memory else SubsetRecords(dataset.train, rows))
