"""Images of one size and number of channels, as many examples as asked, and a validation split, whatever the source."""

import dataclasses

import numpy as np
from PIL import Image

from gjax.data.dataset import DataError, Dataset, Records, Split


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W, C], C 1 or 3, as [size, size, C], bilinearly and, where it shrinks, with antialiasing."""
    pixels = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    pixels = np.asarray(pixels.resize((size, size), Image.Resampling.BILINEAR))
    return pixels[..., None] if image.shape[-1] == 1 else pixels


def _resize_map(labels: np.ndarray, size: int) -> np.ndarray:
    """A label map uint8 [H, W] as [size, size]: every pixel takes its nearest neighbour's class."""
    return np.asarray(Image.fromarray(labels).resize((size, size), Image.Resampling.NEAREST))


def _recolour(images: np.ndarray, channels: int) -> np.ndarray:
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    return np.stack([np.asarray(Image.fromarray(image).convert('L'))[..., None] for image in images])


def _convert(split: Split, size: int, channels: int) -> Split:
    columns = dict(split.columns)
    if size and split.images.shape[1:3] != (size, size):
        columns['image'] = np.stack([resize(image, size) for image in split.images])
        if (known := split.known_labels()) is not None and known.ndim == 3:
            columns['label'] = np.stack([_resize_map(labels, size) for labels in known])
    columns['image'] = _recolour(columns['image'], channels or columns['image'].shape[-1])
    return Split(columns)


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

    def class_labels(self) -> np.ndarray:
        return self.records.class_labels()

    def known_labels(self) -> np.ndarray | None:
        return self.records.known_labels()


def converted(dataset: Dataset, size: int = 0, channels: int = 0) -> Dataset:
    """The set with images (and label maps) of `size` pixels a side and 1 or 3 `channels`; 0 keeps what they have.

    Raises:
      DataError: a size or a number of channels for points.
    """
    if 'image' not in dataset.fields:
        if size or channels:
            raise DataError(
                f'data.image_size, data.channels are {size}, {channels}; allowed: 0 for {dataset.name}, which has points'
            )
        return dataset
    height, width, depth = dataset.image_shape
    shape = (size or height, size or width, channels or depth)
    if shape == tuple(dataset.image_shape):
        return dataset
    fields = {**dataset.fields, 'image': dataset.fields['image']._replace(shape=shape)}
    if 'label' in fields and fields['label'].kind == 'map':
        fields['label'] = fields['label']._replace(shape=shape[:2])
    in_memory = all(isinstance(split, Split) for split in dataset.splits.values())
    change = _convert if in_memory else ConvertedRecords
    splits = {name: change(records, size, channels) for name, records in dataset.splits.items()}
    return dataclasses.replace(dataset, fields=fields, **splits)


@dataclasses.dataclass(frozen=True, eq=False)
class SubsetRecords:
    """Some rows of a split."""

    records: Records
    rows: np.ndarray

    def __len__(self):
        return len(self.rows)

    def read(self, rows) -> Split:
        return self.records.read(self.rows[rows])

    def class_labels(self) -> np.ndarray:
        return self.records.class_labels()[self.rows]

    def known_labels(self) -> np.ndarray | None:
        known = self.records.known_labels()
        return None if known is None else known[self.rows]


def rows_of(records: Records, rows: np.ndarray) -> Records:
    """These rows of a split as a split, decoded if it is."""
    return records.read(rows) if isinstance(records, Split) else SubsetRecords(records, rows)


LABELS_READ = 200_000  # of a split in files: reading the labels of more, only to draw some examples, would take minutes


def drawn_rows(dataset: Dataset, split: str, count: int, seed: int) -> np.ndarray:
    """The rows of `count` examples of a split, ascending, drawn by the seed: of every class its share, to one example.

    Drawn of all examples alike where they have no class, or where too many files would have to be read (`LABELS_READ`). All
    rows where there are not more.
    """
    records = dataset.splits[split]
    total = len(records)
    if count >= total:
        return np.arange(total)
    rng = np.random.default_rng([abs(seed), 2])
    labels = np.zeros(total)
    if 'label' in dataset.fields and dataset.fields['label'].kind == 'label':
        known = records.known_labels()
        if known is not None or total <= LABELS_READ:
            labels = records.class_labels() if known is None else known
    groups = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    wanted = np.asarray([count * len(rows) / total for rows in groups])
    shares = np.floor(wanted).astype(int)
    # What is left goes to those whose share was cut most; among equals the seed decides.
    order = np.lexsort((rng.permutation(len(groups)), shares - wanted))
    shares[order[: count - shares.sum()]] += 1
    return np.sort(np.concatenate([rng.permutation(rows)[:share] for rows, share in zip(groups, shares, strict=True)]))


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
    origins = {**dataset.origins, 'train': f'of {total}, drawn by the seed'}
    return dataclasses.replace(dataset, train=rows_of(dataset.train, rows), origins=origins)


def with_validation(dataset: Dataset, share: float, seed: int) -> Dataset:
    """The set with a validation split: its own or, where it has none, `share` of its training examples, held out.

    They are drawn by the seed, of every class the same share (label maps, and sets without labels: of all). With a share of
    0 nothing is held out.

    Raises:
      DataError: not 0 <= share < 1.
    """
    if not 0 <= share < 1:
        raise DataError(f'data.validation is {share}; allowed: 0 <= share < 1')
    if dataset.validation is not None or not share:
        return dataset
    rng, total = np.random.default_rng([abs(seed), 1]), len(dataset.train)
    if 'label' in dataset.fields and dataset.fields['label'].kind == 'label':
        labels = np.asarray(dataset.train.class_labels())
        groups = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    else:
        groups = [np.arange(total)]
    held = np.concatenate([rng.permutation(rows)[: round(share * len(rows))] for rows in groups])
    is_held = np.zeros(total, bool)
    is_held[held] = True
    if not is_held.any():
        return dataset
    parts = {'train': ~is_held, 'validation': is_held}
    splits = {name: rows_of(dataset.train, np.flatnonzero(own)) for name, own in parts.items()}
    origins = {**dataset.origins, 'validation': f'{share:g} of the training examples, drawn by the seed'}
    return dataclasses.replace(dataset, origins=origins, **splits)
