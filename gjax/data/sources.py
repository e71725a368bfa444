"""Data sets on disk: .npz files, folders of images, and prepared TFDS sets read without TensorFlow."""

import difflib
import hashlib
import os
from pathlib import Path

import numpy as np
from PIL import Image

from gjax.data.dataset import DataError, Dataset, Split, check_dataset, check_split

_KEYS = ('train_images', 'train_labels', 'test_images', 'test_labels')
_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp')
_TEST_FOLDERS = ('test', 'val', 'validation')


def npz(path: str) -> Dataset:
    """A Dataset from an .npz file with train_images, train_labels, test_images, test_labels; never unpickles.

    Raises:
      DataError: no such file, no npz file, a key is missing, or an array is not of the form of `check_split`.
    """
    name = f'npz:{path}'
    if not os.path.isfile(path):
        raise DataError(f'data.name is {name!r}, but there is no such file; write one with numpy.savez({", ".join(_KEYS)})')
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in _KEYS if key not in file.files]
            if missing:
                raise DataError(f'{name} lacks {", ".join(missing)}; needed: {", ".join(_KEYS)}')
            arrays = {key: file[key] for key in _KEYS}
    except DataError:
        raise
    except Exception as error:
        raise DataError(f'{name} is not a readable .npz file: {" ".join(str(error).split())[:200]}') from error
    splits = [check_split(f'{name} {s}', arrays[f'{s}_images'], arrays[f'{s}_labels']) for s in ('train', 'test')]
    return check_dataset(name, *splits)


def _is_test(relative: Path) -> bool:
    """A fixed tenth of the files, chosen by the hash of their path, so that adding files moves no other."""
    return hashlib.sha256(relative.as_posix().encode()).digest()[0] < 26


def folder(path: str, image_size: int = 0) -> Dataset:
    """A Dataset from class/image files, from train/class/image and test/class/image, or from domain/class/image.

    The test folder may be called val or validation. Classes are the sorted folder names. Without such folders a tenth of
    the files, by hash of the path, is the test split; domains are pooled. Images become RGB, resized to image_size if given.

    Raises:
      DataError: no such folder, no images, or sizes that differ without `image_size`.
    """
    root, name = Path(path), f'folder:{path}'
    if not root.is_dir():
        raise DataError(f'data.name is {name!r}, but there is no such folder; it should hold class/image files')
    files = sorted(f for f in root.rglob('*') if f.suffix.lower() in _SUFFIXES and f.is_file())
    relatives = [f.relative_to(root) for f in files]
    depths = {len(r.parts) for r in relatives}
    if depths not in ({2}, {3}):
        raise DataError(
            f'{name} holds images at depths {sorted(depths)}; allowed: all class/image or all domain/class/image'
        )
    first = {r.parts[0] for r in relatives}
    has_splits = depths == {3} and 'train' in first
    if has_splits and (len(first) != 2 or not first & set(_TEST_FOLDERS)):
        raise DataError(f'{name} holds {", ".join(sorted(first))}; allowed: train with one of {", ".join(_TEST_FOLDERS)}')
    classes = sorted({r.parts[-2] for r in relatives})
    rows = {'train': ([], []), 'test': ([], [])}
    for file, relative in zip(files, relatives, strict=True):
        is_test = relative.parts[0] != 'train' if has_splits else _is_test(relative)
        split = 'test' if is_test else 'train'
        try:
            with Image.open(file) as image:
                image = image.convert('RGB')
                if image_size:
                    image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
                rows[split][0].append(np.asarray(image))
        except OSError as error:
            raise DataError(f'{name}: {relative} is not a readable image: {error}') from error
        rows[split][1].append(classes.index(relative.parts[-2]))
    shapes = {image.shape for images, _ in rows.values() for image in images}
    if len(shapes) > 1:
        raise DataError(f'{name} holds images of {len(shapes)} sizes, e.g. {sorted(shapes)[:2]}; set data.image_size')
    splits = {s: check_split(f'{name} {s}', np.asarray(i), np.asarray(y, np.int32)) for s, (i, y) in rows.items()}
    return check_dataset(name, splits['train'], splits['test'], len(classes))


def tfds_names() -> list[str]:
    """The names of all TFDS builders, without TensorFlow or network."""
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def _tfds_directory(data_dir: str | None) -> Path:
    return Path(data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets').expanduser()


def is_tfds(name: str, data_dir: str | None) -> bool:
    """Whether `name` is a TFDS builder's, or a prepared set of that name lies in the TFDS directory."""
    base = name.partition('/')[0]
    return base.isidentifier() and ((_tfds_directory(data_dir) / base).is_dir() or base in tfds_names())


def _read(builder, split: str, name: str) -> Split:
    images, labels = [], []
    try:
        for example in builder.as_data_source(split):
            images.append(example['image'])
            labels.append(example['label'])
    except Exception as error:
        reason = ' '.join(str(error).split())[:160]
        raise DataError(f'{name} {split} is prepared but cannot be read ({reason}); prepare it again') from error
    if len({image.shape for image in images}) > 1:
        raise DataError(f'{name} {split} holds images of different sizes; prepare them at one size first')
    return check_split(f'{name} {split}', np.asarray(images), np.asarray(labels))


def tfds(name: str, data_dir: str | None) -> Dataset:
    """A Dataset from a prepared TFDS set in array_record format, decoded once into memory; no TensorFlow.

    Args:
      name: a TFDS name, e.g. 'cifar10', or that of a set prepared by a builder of your own.
      data_dir: the TFDS directory; default TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Raises:
      DataError: not prepared there (the message has the command that prepares it), or without image and label.
    """
    import tensorflow_datasets

    directory = _tfds_directory(data_dir)
    try:
        # A set prepared by any builder, registered or not, is found by its folder and metadata alone.
        builder = tensorflow_datasets.builder(name, data_dir=str(directory), try_gcs=False)
        # Not by the metadata's splits: they are empty under tfds.testing.mock_data.
        builder.as_data_source('train')
    except Exception as error:
        if isinstance(error, NotImplementedError) and builder.info.splits:
            raise DataError(
                f'{name} in {directory} is not in array_record format; prepare it with --file_format=array_record'
            ) from error
        prepare = f'tfds build {name} --file_format=array_record --data_dir={directory}'
        raise DataError(
            f'data.name is {name!r}, but {directory} holds no prepared TFDS set of that name; '
            f'run: pip install tensorflow && {prepare}'
        ) from error
    if not {'image', 'label'} <= set(builder.info.features):
        raise DataError(f'{name} has features {", ".join(builder.info.features)}; needed: image and label')
    splits = list(builder.info.splits) or ['train', 'test']
    test_name = next((s for s in ('test', 'validation') if s in splits), None)
    if 'train' not in splits or test_name is None:
        raise DataError(f'{name} has splits {", ".join(splits)}; needed: train, and test or validation')
    label = builder.info.features['label']
    if not hasattr(label, 'num_classes'):
        raise DataError(f'{name} has a label of type {type(label).__name__}; needed: ClassLabel')
    train, test = _read(builder, 'train', name), _read(builder, test_name, name)
    return check_dataset(name, train, test, label.num_classes)


def nearest(name: str, known) -> str:
    """' (did you mean X?)' for the nearest known name, or ''."""
    near = difflib.get_close_matches(name, known, 1)
    return f' (did you mean {near[0]}?)' if near else ''
