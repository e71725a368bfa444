"""What every data source returns: uint8 images and int32 labels, checked at the edge, in memory or decoded on demand."""

import dataclasses
from typing import Protocol

import numpy as np


class DataError(ValueError):
    """A data set is missing, unreadable or not of the stated form; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Split:
    """images uint8 [N, H, W, C], labels int32 [N] (any integers until `check_dataset`); an example's index is its row."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def read(self, rows) -> 'Split':
        """The examples of these rows."""
        return Split(self.images[rows], self.labels[rows])


class Records(Protocol):
    """A split whose examples are decoded when asked for; a `Split` is one that has been decoded already."""

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray) -> Split:
        """The examples of these rows, in this order; DataError if one cannot be read."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A named set with a train and a test split and labels 0..num_classes-1; images are uint8 of one shape."""

    name: str
    train: Records
    test: Records
    num_classes: int
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...] = ()  # where the source gives them

    def load(self) -> 'Dataset':
        """The same set with both splits decoded into memory."""
        if isinstance(self.train, Split) and isinstance(self.test, Split):
            return self
        splits = (split.read(np.arange(len(split))) for split in (self.train, self.test))
        return dataclasses.replace(check_dataset(self.name, *splits, self.num_classes), class_names=self.class_names)

    @property
    def nbytes(self) -> int:
        """What both splits take when decoded."""
        return (len(self.train) + len(self.test)) * int(np.prod(self.image_shape))


def check_split(name: str, images: np.ndarray, labels: np.ndarray) -> Split:
    """A Split of these arrays.

    Args:
      name: how messages call the pair, e.g. 'npz:a.npz train'.
      images: uint8 [N, H, W] or [N, H, W, C], N > 0.
      labels: integers [N].

    Raises:
      DataError: wrong dtype or shape; the message names it and what is allowed.
    """
    if images.dtype != np.uint8:
        raise DataError(f'{name} images have dtype {images.dtype}; allowed: uint8 (0..255)')
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        allowed = '[N, H, W], [N, H, W, 1] or [N, H, W, 3], none of them 0'
        raise DataError(f'{name} images have shape {images.shape}; allowed: {allowed}')
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f'{name} labels have dtype {labels.dtype}; allowed: integers')
    if labels.shape != images.shape[:1]:
        raise DataError(f'{name} labels have shape {labels.shape}; allowed: {images.shape[:1]}, one per image')
    return Split(np.ascontiguousarray(images), labels)


def check_dataset(name: str, train: Split, test: Split, num_classes: int | None = None) -> Dataset:
    """A Dataset of the two splits; `num_classes` defaults to the largest training label plus one.

    Raises:
      DataError: labels outside 0..num_classes-1, or image shapes that differ between the splits.
    """
    num_classes = int(train.labels.max()) + 1 if num_classes is None else num_classes
    for split_name, split in (('train', train), ('test', test)):
        low, high = int(split.labels.min()), int(split.labels.max())  # before the cast to int32, which would wrap
        if low < 0 or high >= num_classes:
            raise DataError(f'{name} {split_name} labels run from {low} to {high}; allowed: 0..{num_classes - 1}')
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f'{name} test images have shape {test.images.shape[1:]}; allowed: {train.images.shape[1:]}, as in train'
        )
    train, test = (Split(split.images, split.labels.astype(np.int32)) for split in (train, test))
    return Dataset(name, train, test, num_classes, train.images.shape[1:])
