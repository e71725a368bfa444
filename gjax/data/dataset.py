"""What every data source returns: named columns of examples, checked at the edge, in memory or decoded on demand."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np


class DataError(ValueError):
    """A data set is missing, unreadable or not of the stated form; the message is one line."""


class Field(NamedTuple):
    """What one column holds for each example."""

    kind: str  # 'image' (uint8 [H, W, C]), 'label' (a class), 'map' (a class for each pixel, uint8 [H, W]) or 'points'
    shape: tuple[int, ...]  # of one example
    dtype: str  # as stored
    classes: int = 0  # of labels and maps: values are 0..classes-1
    ignore: int | None = None  # of maps: the value of pixels that count nowhere


IGNORE = 255  # the ignore value of label maps that name no other


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Columns [N, ...] by field: 'image' uint8 [N, H, W, C] or 'points' float32 [N, D], and, of a set with labels, 'label',
    integers [N] or uint8 maps [N, H, W]. The index of an example is its row.
    """

    columns: Mapping[str, np.ndarray]

    @property
    def images(self) -> np.ndarray:
        return self.columns['image']

    @property
    def labels(self) -> np.ndarray:
        return self.columns['label']

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def read(self, rows) -> 'Split':
        """The examples of these rows."""
        return Split({name: column[rows] for name, column in self.columns.items()})

    def class_labels(self) -> np.ndarray:
        """The class of every example, int [N]."""
        return self.labels

    def known_labels(self) -> np.ndarray | None:
        return self.columns.get('label')


class Records(Protocol):
    """A split whose examples are decoded when asked for; a `Split` is one that has been decoded already."""

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray) -> Split:
        """The examples of these rows, in this order; DataError if one cannot be read."""

    def class_labels(self) -> np.ndarray:
        """The class of every example, int [N], without decoding images; only of a set with labels."""

    def known_labels(self) -> np.ndarray | None:
        """The labels of all examples, [N] or maps [N, H, W]; None if there are none, or files would have to be read."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A named set with a training and a test split, and a validation split where it has one.

    A set without labels has no field 'label', and its examples have no such column.
    """

    name: str
    train: Records
    test: Records
    fields: Mapping[str, Field]
    class_names: tuple[str, ...] = ()  # where the source gives them
    validation: Records | None = None
    origins: Mapping[str, str] = dataclasses.field(default_factory=dict)  # how a split came about that its source lacks
    notes: tuple[str, ...] = ()  # what a reader should know, e.g. which files of its folder are left out

    @property
    def splits(self) -> dict[str, Records]:
        """The splits that there are, by name."""
        every = {'train': self.train, 'validation': self.validation, 'test': self.test}
        return {name: records for name, records in every.items() if records is not None}

    @property
    def num_classes(self) -> int:
        """Of the labels or maps; 0 if the set has neither."""
        return self.fields['label'].classes if 'label' in self.fields else 0

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C) of images, (D,) of points."""
        return tuple(self.fields['image' if 'image' in self.fields else 'points'].shape)

    def load(self) -> 'Dataset':
        """The same set with all splits decoded into memory."""
        if all(isinstance(split, Split) for split in self.splits.values()):
            return self
        splits = {name: records.read(np.arange(len(records))) for name, records in self.splits.items()}
        if (label := self.fields.get('label')) is not None and label.kind == 'map':
            splits['ignore'] = label.ignore
        loaded = check_dataset(self.name, splits.pop('train'), splits.pop('test'), self.num_classes, **splits)
        return dataclasses.replace(loaded, class_names=self.class_names, origins=self.origins, notes=self.notes)

    @property
    def example_bytes(self) -> int:
        """What one example takes when decoded."""
        return sum(int(np.prod(field.shape)) * np.dtype(field.dtype).itemsize for field in self.fields.values())

    @property
    def nbytes(self) -> int:
        """What all splits take when decoded."""
        return sum(map(len, self.splits.values())) * self.example_bytes


def image_fields(image_shape, num_classes: int) -> dict[str, Field]:
    """The fields of a set of images with one class each, or without labels if `num_classes` is 0."""
    label = {'label': Field('label', (), 'int32', num_classes)} if num_classes else {}
    return {'image': Field('image', tuple(image_shape), 'uint8')} | label


def check_split(name: str, images: np.ndarray, labels: np.ndarray | None) -> Split:
    """A Split of these arrays.

    Args:
      name: how messages call the pair, e.g. 'npz:a.npz train'.
      images: uint8 [N, H, W] or [N, H, W, C], N > 0; or points, float32 [N, D].
      labels: integers [N]; or label maps, uint8 [N, H, W]; None for a split without labels.

    Raises:
      DataError: wrong dtype or shape, or points that are not finite; the message names it and what is allowed.
    """
    if images.dtype == np.float32 and images.ndim == 2 and images.size:
        if not np.isfinite(images).all():
            row = int(np.flatnonzero(~np.isfinite(images).all(axis=1))[0])
            raise DataError(f'{name} has points that are not finite, e.g. in row {row}; allowed: finite numbers')
        first = {'points': np.ascontiguousarray(images)}
    else:
        first = {'image': _check_images(name, images)}
    if labels is None:
        return Split(first)
    if labels.dtype.kind not in 'iu':  # NumPy counts timedelta64 as an integer, too
        raise DataError(f'{name} labels have dtype {labels.dtype}; allowed: integers')
    pixels = first['image'].shape[:3] if 'image' in first else None
    if labels.dtype == np.uint8 and labels.shape == pixels and labels.ndim == 3:
        return Split(first | {'label': np.ascontiguousarray(labels)})
    if labels.shape != images.shape[:1]:
        maps = f', or uint8 maps of {pixels}' if pixels else ''
        raise DataError(f'{name} labels have shape {labels.shape}; allowed: {images.shape[:1]}, one per image{maps}')
    return Split(first | {'label': labels})


def _check_images(name: str, images: np.ndarray) -> np.ndarray:
    if images.dtype != np.uint8:
        raise DataError(f'{name} images have dtype {images.dtype}; allowed: uint8 (0..255)')
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        allowed = '[N, H, W], [N, H, W, 1] or [N, H, W, 3], none of them 0'
        raise DataError(f'{name} images have shape {images.shape}; allowed: {allowed}')
    return np.ascontiguousarray(images)


def check_dataset(
    name: str,
    train: Split,
    test: Split,
    num_classes: int | None = None,
    *,
    validation: Split | None = None,
    ignore: int = IGNORE,
) -> Dataset:
    """A Dataset of the splits; `num_classes` defaults to the largest training label plus one.

    Args:
      name: how messages call the set.
      train, test, validation: of `check_split`, all of one form: all have labels, or none.
      num_classes: K.
      ignore: of label maps, the value of pixels that count nowhere.

    Raises:
      DataError: labels outside 0..num_classes-1, or splits of different forms.
    """
    splits = {'train': train, 'test': test} | ({} if validation is None else {'validation': validation})
    is_map = (labels := train.known_labels()) is not None and labels.ndim == 3
    if num_classes is None:
        num_classes = max(0, (_range(labels, ignore) or (0, -1))[1] + 1)
    for split_name, split in splits.items():
        if split.columns.keys() != train.columns.keys():
            own, expected = (', '.join(each.columns) for each in (split, train))
            raise DataError(f'{name} {split_name} has {own}; allowed: {expected}, as in train')
        # Before the cast, which would wrap; a map may hold ignored pixels alone.
        highest = min(num_classes, _MOST_CLASSES) - 1
        low, high = _range(split.known_labels(), ignore) or (0, highest)
        if low < 0 or high > highest:
            more = f', or {ignore}' if is_map else ''
            raise DataError(f'{name} {split_name} labels run from {low} to {high}; allowed: 0..{highest}{more}')
        for column, values in split.columns.items():
            expected = train.columns[column].shape[1:]
            if values.shape[1:] != expected:
                what = 'images' if column == 'image' else f'{column} values'
                raise DataError(
                    f'{name} {split_name} {what} have shape {values.shape[1:]}; allowed: {expected}, as in train'
                )
    fields = {}
    for column, values in train.columns.items():
        if column != 'label':
            fields[column] = Field(column, tuple(values.shape[1:]), str(values.dtype))
        elif is_map:
            fields[column] = Field('map', tuple(values.shape[1:]), 'uint8', num_classes, ignore)
        else:
            fields[column] = Field('label', (), 'int32', num_classes)
    kinds = {
        split: Split({column: values.astype(fields[column].dtype, copy=False) for column, values in own.columns.items()})
        for split, own in splits.items()
    }
    return Dataset(name, kinds['train'], kinds['test'], fields, validation=kinds.get('validation'))


_MOST_CLASSES = 2**31 - 1  # labels are int32


def _range(labels: np.ndarray | None, ignore: int) -> tuple[int, int] | None:
    """The lowest and the highest label that counts; None if there is none."""
    if labels is not None and labels.ndim == 3:
        labels = labels[labels != ignore]
    return (int(labels.min()), int(labels.max())) if labels is not None and labels.size else None
