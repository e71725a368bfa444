"""Data sets on disk: .npz files, folders of images, and prepared TFDS sets read without TensorFlow.

An .npz is read whole; folders and TFDS sets decode an image when it is asked for, in whichever process asks.
"""

import dataclasses
import difflib
import functools
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from gjax.data.convert import resize
from gjax.data.dataset import IGNORE, DataError, Dataset, Split, check_dataset, check_split, image_fields

_KEYS = ('train_images', 'train_labels', 'test_images', 'test_labels')
_VALIDATION = ('validation_images', 'validation_labels')
_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp')
_TEST_FOLDERS = ('test', 'val', 'validation')
OWN = ('usps', 'mnist_m', 'syn_digits', 'office31', 'pacs')  # the builders of `gjax.data.builders`


def npz(path: str, key: str = 'data.name') -> Dataset:
    """A Dataset from an .npz file with train_images, train_labels, test_images, test_labels; never unpickles.

    validation_images and validation_labels are its validation split, if they are there. Labels uint8 [N, H, W] are label
    maps, whose pixels of the value `ignore` (a number in the file; default 255) count nowhere; images float32 [N, D] are
    points. key: how messages call the setting.

    Raises:
      DataError: no such file, no npz file, a key is missing, or an array is not of the form of `check_split`.
    """
    name = f'npz:{path}'
    if not os.path.isfile(path):
        raise DataError(f'{key} is {name!r}, but there is no such file; write one with numpy.savez({", ".join(_KEYS)})')
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in _KEYS if key not in file.files]
            if missing:
                raise DataError(f'{name} lacks {", ".join(missing)}; needed: {", ".join(_KEYS)}')
            more = [array for array in (*_VALIDATION, 'ignore') if array in file.files]
            arrays = {array: file[array] for array in (*_KEYS, *more)}
    except DataError:
        raise
    except Exception as error:
        raise DataError(f'{name} is not a readable .npz file: {" ".join(str(error).split())[:200]}') from error
    if len(arrays.keys() & set(_VALIDATION)) == 1:
        raise DataError(f'{name} has one of {", ".join(_VALIDATION)}; allowed: both or none')
    names = ('train', 'test', 'validation') if _VALIDATION[0] in arrays else ('train', 'test')
    splits = {s: check_split(f'{name} {s}', arrays[f'{s}_images'], arrays[f'{s}_labels']) for s in names}
    ignore = arrays.get('ignore', np.asarray(IGNORE))
    if ignore.shape or not np.issubdtype(ignore.dtype, np.integer):
        raise DataError(f'{name} has an ignore of {ignore.dtype} {ignore.shape}; allowed: one integer')
    return check_dataset(name, ignore=int(ignore), **splits)


def is_held_out(relative: str) -> bool:
    """A fixed tenth of the files, chosen by the hash of their path, so that adding files moves no other."""
    return hashlib.sha256(relative.encode()).digest()[0] < 26


def _to_pixels(image: Image.Image, image_size: int) -> np.ndarray:
    """uint8 [H, W, 3]; a square of image_size pixels if that is not 0. ValueError for pixels of more than 8 bits."""
    if image.mode[0] in 'IF':  # Pillow would cut them off at 255
        raise ValueError(f'its pixels have more than 8 bits (mode {image.mode})')
    if image.mode != 'RGB':
        image = image.convert('RGB')
    if image_size and image.size != (image_size, image_size):
        image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _stack(name: str, images: list[np.ndarray]) -> np.ndarray:
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise DataError(f'{name} holds images of {len(shapes)} sizes, e.g. {sorted(shapes)[:2]}; set data.image_size')
    return np.stack(images)


@dataclasses.dataclass(frozen=True, eq=False)
class FolderRecords:
    """One split of a folder tree, decoded file by file."""

    name: str
    root: Path
    files: tuple[str, ...]
    labels: np.ndarray
    image_size: int

    def __len__(self):
        return len(self.files)

    def _pixels(self, file: str) -> np.ndarray:
        try:
            with open(f'{self.root}/{file}', 'rb') as stream, Image.open(stream) as image:
                return _to_pixels(image, self.image_size)
        except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
            raise DataError(f'{self.name}: {file} is not a readable image: {error}') from error

    def read(self, rows) -> Split:
        images = _stack(self.name, [self._pixels(self.files[row]) for row in rows])
        return Split({'image': images, 'label': self.labels[rows]})

    def class_labels(self) -> np.ndarray:
        return self.labels


def folder(path: str, image_size: int = 0, key: str = 'data.name') -> Dataset:
    """A Dataset from class/image files, from train/class/image and test/class/image, or from domain/class/image.

    The test folder may be called val or validation; beside one called test, such a folder is the validation split. Classes
    are the sorted folder names. Without such folders a tenth of the files, by hash of the path, is the test split; domains
    are pooled. Images become RGB, resized to image_size if given. Images are decoded when read. key: how messages call the
    setting.

    Raises:
      DataError: no such folder, no images, or, when read, sizes that differ without `image_size`.
    """
    root, name = Path(path), f'folder:{path}'
    if not root.is_dir():
        raise DataError(f'{key} is {name!r}, but there is no such folder; it should hold class/image files')
    found = [Path(at, file) for at, _, files in os.walk(root) for file in files if file.lower().endswith(_SUFFIXES)]
    relatives = sorted(file.relative_to(root) for file in found)
    depths = {len(r.parts) for r in relatives}
    if depths not in ({2}, {3}):
        raise DataError(
            f'{name} holds images at depths {sorted(depths)}; allowed: all class/image or all domain/class/image'
        )
    first = {r.parts[0] for r in relatives}
    has_splits = depths == {3} and 'train' in first
    named = {own: 'train' if own == 'train' else 'test' for own in first}  # the split that each first folder is
    if has_splits:
        others = first - {'train'}
        if 'test' in others and len(others) == 2:
            named |= {own: 'validation' for own in others if own != 'test'}
        if not others <= set(_TEST_FOLDERS) or len(set(named.values())) != len(first) or len(first) < 2:
            raise DataError(
                f'{name} holds {", ".join(sorted(first))}; allowed: train with one of {", ".join(_TEST_FOLDERS)}, or with '
                'test and one of the others'
            )
    classes = {name: k for k, name in enumerate(sorted({r.parts[-2] for r in relatives}))}
    members: dict[str, list[str]] = {'train': [], 'test': []} | {split: [] for split in named.values() if has_splits}
    for relative in relatives:
        file = relative.as_posix()
        split = named[relative.parts[0]] if has_splits else 'test' if is_held_out(file) else 'train'
        members[split].append(file)
    records = {}
    for split, files in members.items():
        if not files:
            raise DataError(f'{name} holds too few images: none falls into the {split} split')
        labels = np.asarray([classes[Path(file).parts[-2]] for file in files], np.int32)
        records[split] = FolderRecords(name, root, tuple(files), labels, image_size)
    fields = image_fields(records['train'].read([0]).images.shape[1:], len(classes))
    return Dataset(name, records['train'], records['test'], fields, tuple(classes), records.get('validation'))


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
    num_classes: int
    image_size: int
    labelled: bool = True

    @functools.cached_property
    def _source(self):
        return _tfds_builder(self.name, self.directory).as_data_source(self.split)

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key != '_source'}

    def __len__(self):
        return len(self._source)

    def _pixels(self, image: np.ndarray) -> np.ndarray:
        if not self.image_size or image.shape[:2] == (self.image_size, self.image_size) or image.dtype != np.uint8:
            return image
        return resize(image, self.image_size)

    def read(self, rows) -> Split:
        name = f'{self.name} {self.split}'
        try:
            images, labels = [], np.zeros(len(rows), np.int64)
            for i, row in enumerate(rows):
                example = self._source[int(row)]
                images.append(self._pixels(example['image']))
                labels[i] = example['label'] if self.labelled else 0
        except Exception as error:
            reason = ' '.join(str(error).split())[:160]
            raise DataError(f'{name} is prepared but cannot be read ({reason}); prepare it again') from error
        split = check_split(name, _stack(name, images), labels)
        if split.labels.min() < 0 or split.labels.max() >= self.num_classes:
            low, high = split.labels.min(), split.labels.max()
            raise DataError(f'{name} labels run from {low} to {high}; allowed: 0..{self.num_classes - 1}')
        return Split({'image': split.images, 'label': split.labels.astype(np.int32)})

    def class_labels(self) -> np.ndarray:
        if not self.labelled:
            return np.zeros(len(self), np.int32)
        return np.asarray([self._source[i]['label'] for i in range(len(self))], np.int32)


def _tfds_builder(name: str, directory: str):
    import tensorflow_datasets

    # A set prepared by any builder, registered or not, is found by its folder and metadata alone.
    return tensorflow_datasets.builder(name, data_dir=directory, try_gcs=False)


def tfds(name: str, data_dir: str | None, image_size: int = 0, key: str = 'data.name') -> Dataset:
    """A Dataset from a prepared TFDS set in array_record format, decoded when read; no TensorFlow.

    Args:
      name: a TFDS name, e.g. 'cifar10', or that of a set prepared by a builder of your own.
      data_dir: the TFDS directory; default TFDS_DATA_DIR, else ~/tensorflow_datasets.
      image_size: side to which images are resized; 0 keeps them.

    Raises:
      DataError: not prepared there (the message has the command that prepares it), or without images.
    """
    directory = tfds_directory(data_dir)
    try:
        builder = _tfds_builder(name, str(directory))
        # Not by the metadata's splits: they are empty under tfds.testing.mock_data.
        builder.as_data_source('train')
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
    splits = list(builder.info.splits) or ['train', 'test']
    test_name = next((s for s in ('test', 'validation') if s in splits), None)
    if 'train' not in splits or test_name is None:
        raise DataError(f'{name} has splits {", ".join(splits)}; needed: train, and test or validation')
    labelled, classes, names = 'label' in features, 1, ()  # all images of a set without labels are of one class
    if labelled and not hasattr(features['label'], 'num_classes'):
        raise DataError(f'{name} has a label of type {type(features["label"]).__name__}; needed: ClassLabel')
    if labelled:
        classes, names = features['label'].num_classes, tuple(features['label'].names or ())
    options = (classes, image_size, labelled)
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
