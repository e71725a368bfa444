"""Data sets on disk: .npz files, and prepared TFDS sets read without TensorFlow (folders of images: `folders`).

An .npz is read whole; folders and TFDS sets decode an image when it is asked for, in whichever process asks.
"""

import contextlib
import dataclasses
import difflib
import functools
import io
import os
from pathlib import Path

import numpy as np

from gjax.data import prepared
from gjax.data.convert import resize
from gjax.data.dataset import IGNORE, DataError, Dataset, Split, check_dataset, check_split, image_fields
from gjax.data.entries import is_hidden, listed
from gjax.data.folders import stack
from gjax.data.images import opened, to_channels

_KEYS = ('train_images', 'train_labels', 'test_images', 'test_labels')
# The builders of `gjax.data.builders`.
OWN = ('usps', 'mnist_m', 'syn_digits', 'office31', 'office_caltech10', 'pacs', 'pacs_kfold', 'domainnet')


def npz(path: str, key: str = 'data.name') -> Dataset:
    """A Dataset from an .npz file with train_images, train_labels, test_images, test_labels; never unpickles.

    validation_images and validation_labels are its validation split, if they are there. Labels uint8 [N, H, W] are label
    maps, whose pixels of the value `ignore` (a number in the file; default 255) count nowhere; images float32 [N, D] are
    points. A file without any labels, or whose labels are all -1, is a set without labels. key: how messages call the
    setting.

    Raises:
      DataError: no such file, no npz file, a key is missing, only some of the splits or examples have labels, or an array is
        not of the form of `check_split`.
    """
    name = f'npz:{path}'
    if not os.path.isfile(path):
        if os.path.exists(path):  # a pipe would wait for ever
            raise DataError(f'{key} is {name!r}, which is no regular file; allowed: a file of numpy.savez')
        raise DataError(f'{key} is {name!r}, but there is no such file; write one with numpy.savez({", ".join(_KEYS)})')
    arrays, left = _read_npz(path, name)
    splits = ('train', 'test', *(['validation'] if arrays.keys() & {'validation_images', 'validation_labels'} else []))
    labelled = [split for split in splits if f'{split}_labels' in arrays]
    needed = [f'{split}_{what}' for split in splits for what in ('images', *(['labels'] if labelled else []))]
    if missing := [array for array in needed if array not in arrays]:
        both = '; allowed: labels in all splits or in none' if all(array.endswith('labels') for array in missing) else ''
        raise DataError(f'{name} lacks {", ".join(missing)}; needed: {", ".join(needed)}{both}')
    if labelled and all(_are_none(arrays[f'{split}_labels']) for split in splits):
        for split in splits:
            shape, count = arrays.pop(f'{split}_labels').shape, arrays[f'{split}_images'].shape[:1]
            if shape != count:
                raise DataError(f'{name} {split} labels have shape {shape}; allowed: {count}, one per image')
    none = [split for split in splits if f'{split}_labels' in arrays and _are_none(arrays[f'{split}_labels'])]
    if none:
        raise DataError(
            f'{name} {none[0]} labels are all -1, those of other splits not; allowed: labels in all splits or in none'
        )
    made = {s: check_split(f'{name} {s}', arrays[f'{s}_images'], arrays.get(f'{s}_labels')) for s in splits}
    ignore = arrays.get('ignore', np.asarray(IGNORE))
    if ignore.shape or ignore.dtype.kind not in 'iu':
        raise DataError(f'{name} has an ignore of {ignore.dtype} {ignore.shape}; allowed: one integer')
    if not -(2**31) <= int(ignore) < 2**31:
        raise DataError(f'{name} has an ignore of {int(ignore)}; allowed: an integer of 32 bits')
    notes = (f'left out: {len(left)} {"array" if len(left) == 1 else "arrays"} ({listed(left)})',) if left else ()
    return dataclasses.replace(check_dataset(name, ignore=int(ignore), **made), notes=notes)


def _read_npz(path: str, name: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of an .npz file that mean something to `npz`, and the names of its others."""
    known = ('ignore', *(f'{split}_{what}' for split in ('train', 'test', 'validation') for what in ('images', 'labels')))
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {array: file[array] for array in known if array in file.files}
            left = sorted(array for array in file.files if array not in known and not is_hidden(array))
    except Exception as error:
        raise DataError(f'{name} is not a readable .npz file: {" ".join(str(error).split())[:200]}') from error
    for array, values in arrays.items():
        if not isinstance(values, np.ndarray):  # NumPy gives the bytes of a member that is no array
            raise DataError(f'{name} has {array}, which is no array; write it with numpy.savez')
    return arrays, left


def _are_none(labels: np.ndarray) -> bool:
    """Whether labels say that there are none: -1 all of them."""
    return labels.dtype.kind == 'i' and labels.size > 0 and bool((labels == -1).all())


def tfds_names() -> list[str]:
    """The names of all TFDS builders, without TensorFlow or network."""
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def tfds_directory(data_dir: str | None) -> Path:
    """Where prepared sets lie: data_dir, TFDS_DATA_DIR or ~/tensorflow_datasets.

    Raises:
      DataError: that is in a home folder, and the user has none.
    """
    directory = data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
    try:
        return Path(directory).expanduser()
    except RuntimeError:
        raise DataError(
            f'data.dir is {data_dir or ""!r}: this user has no home folder for {directory}; set data.dir or TFDS_DATA_DIR'
        ) from None


def is_tfds(name: str, data_dir: str | None) -> bool:
    """Whether `name` is a TFDS builder's, or a prepared set of that name lies in the TFDS directory."""
    base = name.partition('/')[0]
    return base.isidentifier() and (base in OWN or (tfds_directory(data_dir) / base).is_dir() or base in tfds_names())


@dataclasses.dataclass(frozen=True, eq=False)
class TfdsRecords:
    """One split of a prepared TFDS set, decoded example by example; every process opens the files for itself."""

    name: str
    directory: str
    split: str
    num_classes: int  # 0: without labels
    image_size: int
    channels: int  # of the encoded images

    @functools.cached_property
    def _source(self):
        return _open_records(prepared.builder(self.name, self.directory), self.split)

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key != '_source'}

    def __len__(self):
        return len(self._source)

    def _pixels(self, image: bytes | np.ndarray, row: int) -> np.ndarray:
        if isinstance(image, bytes):  # arrays come from sets that store no encoded images, and from TFDS's mock data
            with opened(io.BytesIO(image), f'example {row}') as encoded:
                image = to_channels(encoded, self.channels)
        if not self.image_size or image.shape[:2] == (self.image_size, self.image_size) or image.dtype != np.uint8:
            return image
        return resize(image, self.image_size)

    def read(self, rows) -> Split:
        images, labels = [], []
        with self._reading():
            for row in rows:
                example = self._source[int(row)]
                if lacking := [name for name in ('image', 'label')[: 1 + bool(self.num_classes)] if example[name] is None]:
                    raise ValueError(f'example {row} has no {lacking[0]}')
                images.append(self._pixels(example['image'], int(row)))
                labels.append(example['label'] if self.num_classes else -1)
        name = f'{self.name} {self.split}'
        split = check_split(name, stack(name, images), np.asarray(labels, np.int64) if self.num_classes else None)
        return Split({**split.columns, 'label': self._checked(split.labels)}) if self.num_classes else split

    def class_labels(self) -> np.ndarray:
        with self._reading():
            labels = np.asarray([self._source[i]['label'] for i in range(len(self))], np.int64)
        return self._checked(labels)

    def known_labels(self) -> None:
        return None

    def paths(self) -> list[str]:
        """The files that hold the split; empty where its metadata names none."""
        with self._reading():
            info = prepared.builder(self.name, self.directory).info.splits.get(self.split)
            return sorted(map(str, info.filepaths)) if info is not None else []

    @contextlib.contextmanager
    def _reading(self):
        """Turns whatever TFDS raises into one line."""
        try:
            yield
        except Exception as error:
            reason = ' '.join(str(error).split())[:160]
            raise DataError(
                f'{self.name} {self.split} is prepared but cannot be read ({reason}); prepare it again'
            ) from error

    def _checked(self, labels: np.ndarray) -> np.ndarray:
        """The labels as int32; DataError if one is no class."""
        if len(labels) and (labels.min() < 0 or labels.max() >= self.num_classes):
            low, high, name = labels.min(), labels.max(), f'{self.name} {self.split}'
            raise DataError(f'{name} labels run from {low} to {high}; allowed: 0..{self.num_classes - 1}')
        return labels.astype(np.int32)


def _open_records(builder, split: str):
    """The records of a prepared split, of which nothing but the label and arrays are decoded.

    TFDS would decode images by whatever Pillow knows, and start ffmpeg for sounds.
    """
    import tensorflow_datasets as tfds

    class Skip(tfds.decode.SkipDecoding):
        """Leaves a feature encoded, in sequences too."""

        def decode_batch_example_np(self, serialized_example):
            return serialized_example

        decode_ragged_example_np = decode_batch_example_np

    def skipped(feature):
        if isinstance(feature, tfds.features.Sequence) and not isinstance(feature, tfds.features.Dataset):
            return skipped(feature.feature)
        return {k: skipped(own) for k, own in feature.items()} if isinstance(feature, tfds.features.FeaturesDict) else Skip()

    features, source = builder.info.features, builder.as_data_source(split)
    source.decoders = {
        name: skipped(feature)
        for name, feature in features.items()
        if name != 'label' and (name != 'image' or isinstance(feature, tfds.features.Image))
    }
    return source


def tfds(name: str, data_dir: str | None, image_size: int = 0, key: str = 'data.name') -> Dataset:
    """A Dataset from a prepared TFDS set in array_record format, decoded when read; no TensorFlow.

    A set without the feature 'label' is one without labels.

    Args:
      name: a TFDS name, e.g. 'cifar10', or that of a set prepared by a builder of your own.
      data_dir: the TFDS directory; default TFDS_DATA_DIR, else ~/tensorflow_datasets.
      image_size: side to which images are resized; 0 keeps them.

    Raises:
      DataError: not prepared there (the message has the command that prepares it), or without images.
    """
    import tensorflow_datasets

    directory = tfds_directory(data_dir)
    try:
        builder = prepared.builder(name, str(directory))
        # Not by the metadata's splits: they are empty under tfds.testing.mock_data.
        builder.as_data_source('train')
    except DataError:
        raise
    except Exception as error:
        if isinstance(error, NotImplementedError) and builder.info.splits:
            raise DataError(
                f'{name} in {directory} is not in array_record format; prepare it with --file_format=array_record'
            ) from error
        if name.partition('/')[0] in OWN:
            prepare = f'gjax prepare {name} --data_dir={directory}'
        else:
            prepare = f'pip install tensorflow && tfds build {name} --file_format=array_record --data_dir={directory}'
        raise DataError(
            f'{key} is {name!r}, but {directory} holds no prepared TFDS set of that name; run: {prepare}'
        ) from error
    features = builder.info.features
    if 'image' not in features:
        raise DataError(f'{name} has features {", ".join(features)}; needed: image, and label where there are classes')
    image = features['image']
    if not isinstance(image, tensorflow_datasets.features.Image | tensorflow_datasets.features.Tensor):
        raise DataError(f'{name} has an image of type {type(image).__name__}; needed: Image, or Tensor')
    if image.np_dtype != np.uint8:
        raise DataError(f'{name} has images of {np.dtype(image.np_dtype)}; allowed: uint8 (0..255)')
    splits = list(builder.info.splits) or ['train', 'test']
    test_name = next((s for s in ('test', 'validation') if s in splits), None)
    if 'train' not in splits or test_name is None:
        raise DataError(f'{name} has splits {", ".join(splits)}; needed: train, and test or validation')
    classes, names = 0, ()
    if 'label' in features:
        if not hasattr(features['label'], 'num_classes'):
            raise DataError(f'{name} has a label of type {type(features["label"]).__name__}; needed: ClassLabel')
        classes, names = features['label'].num_classes, tuple(features['label'].names or ())
    options = (classes, image_size, (image.shape or (0,))[-1] or 0)
    train, test = (TfdsRecords(name, str(directory), split, *options) for split in ('train', test_name))
    for records in (train, test):
        if not len(records):
            raise DataError(f'{name} {records.split} holds no examples; prepare it again')
    validation = None
    if test_name == 'test' and 'validation' in splits:
        validation = TfdsRecords(name, str(directory), 'validation', *options)
    fields = image_fields(train.read([0]).images.shape[1:], classes)
    return Dataset(name, train, test, fields, names, validation)


def nearest(name: str, known) -> str:
    """' (did you mean X?)' for the nearest known name, or ''."""
    near = difflib.get_close_matches(name, known, 1)
    return f' (did you mean {near[0]}?)' if near else ''
