"""Data sets by name, and batches as pure functions of (seed, step)."""

from gjax.data import sources
from gjax.data.batching import DeviceData, augment, batch_index, epoch_order, flip, gather, pad_crop, to_batch, to_levels
from gjax.data.convert import converted, subset
from gjax.data.dataset import DataError, Dataset, Records, Split
from gjax.data.embedded import EMBEDDED

__all__ = [
    'EMBEDDED',
    'DataError',
    'Dataset',
    'DeviceData',
    'Records',
    'Split',
    'augment',
    'batch_index',
    'epoch_order',
    'find',
    'flip',
    'from_config',
    'gather',
    'load',
    'pad_crop',
    'target_from_config',
    'to_batch',
    'to_levels',
]


def find(name: str, data_dir: str | None = None, image_size: int = 0, channels: int = 0) -> Dataset:
    """The data set `name`; folders and TFDS sets are decoded when read.

    Args:
      name: an embedded set (digits, mnist5k, mnistm5k, syndigits), 'npz:PATH', 'folder:PATH', or a TFDS name.
      data_dir: where prepared TFDS sets lie; default TFDS_DATA_DIR.
      image_size: side to which images are resized; 0 keeps them.
      channels: 3 repeats grey images, 1 takes the luma of coloured ones; 0 keeps them.

    Raises:
      DataError: unknown name, missing or malformed data; one line that says what to do.
    """
    return converted(_find(name, data_dir, image_size), image_size, channels)


def _find(name: str, data_dir: str | None, image_size: int) -> Dataset:
    if name in EMBEDDED:
        return EMBEDDED[name]()
    kind, _, path = name.partition(':')
    if kind == 'npz' and path:
        return sources.npz(path)
    if kind == 'folder' and path:
        return sources.folder(path, image_size)
    if sources.is_tfds(name, data_dir):
        return sources.tfds(name, data_dir, image_size)
    hint = sources.nearest(name, [*EMBEDDED, *sources.OWN, *sources.tfds_names()])
    raise DataError(f'data.name is {name!r}{hint}; allowed: {", ".join(EMBEDDED)}, npz:PATH, folder:PATH or a TFDS name')


def load(name: str, data_dir: str | None = None, image_size: int = 0, channels: int = 0) -> Dataset:
    """`find`, with both splits decoded into memory."""
    return find(name, data_dir, image_size, channels).load()


def from_config(section, seed: int = 0) -> Dataset:
    """The data set of a config's section `data`; seed: draws the examples, where not all are asked for."""
    found = find(section['name'], section['dir'] or None, section['image_size'], section.get('channels', 0))
    return subset(found, section.get('examples', 0), seed, 'data.examples')  # older run directories lack some keys


def target_from_config(section, source: Dataset, seed: int = 0) -> Dataset:
    """The target set of a config's section `data`, with the classes and the image shape of the source, `from_config`'s.

    Raises:
      DataError: as `find`, in the words of data.target; other classes or another image shape.
    """
    try:
        target = find(section['target'], section['dir'] or None, section['image_size'], section['channels'])
    except DataError as error:
        raise DataError(str(error).replace('data.name is', 'data.target is')) from error
    if target.num_classes != source.num_classes:
        raise DataError(f'data.target has {target.num_classes} classes; allowed: {source.num_classes}, as data.name has')
    if target.class_names and source.class_names and target.class_names != source.class_names:
        first = next(
            i for i, pair in enumerate(zip(target.class_names, source.class_names, strict=True)) if pair[0] != pair[1]
        )
        raise DataError(
            f'class {first} of data.target is {target.class_names[first]!r}; allowed: {source.class_names[first]!r}, as in '
            'data.name'
        )
    if target.image_shape != source.image_shape:
        raise DataError(
            f'data.target has images of {target.image_shape}; allowed: {source.image_shape}, as data.name has: set '
            'data.image_size, data.channels'
        )
    return subset(target, section['target_examples'], seed, 'data.target_examples')
