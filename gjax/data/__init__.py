"""Data sets by name, and batches as pure functions of (seed, step)."""

from gjax.data import sources
from gjax.data.batching import DeviceData, augment, batch_index, epoch_order, flip, gather, pad_crop, to_batch
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
    'gather',
    'load',
    'pad_crop',
    'to_batch',
]


def find(name: str, data_dir: str | None = None, image_size: int = 0) -> Dataset:
    """The data set `name`; folders and TFDS sets are decoded when read.

    Args:
      name: an embedded set (digits, mnist5k, mnistm5k, syndigits), 'npz:PATH', 'folder:PATH', or a TFDS name.
      data_dir: where prepared TFDS sets lie; default TFDS_DATA_DIR.
      image_size: side to which the images of a folder or a TFDS set are resized; 0 keeps them.

    Raises:
      DataError: unknown name, missing or malformed data; one line that says what to do.
    """
    if name in EMBEDDED:
        return EMBEDDED[name]()
    kind, _, path = name.partition(':')
    if kind == 'npz' and path:
        return sources.npz(path)
    if kind == 'folder' and path:
        return sources.folder(path, image_size)
    if sources.is_tfds(name, data_dir):
        return sources.tfds(name, data_dir, image_size)
    hint = sources.nearest(name, [*EMBEDDED, *sources.tfds_names()])
    raise DataError(f'data.name is {name!r}{hint}; allowed: {", ".join(EMBEDDED)}, npz:PATH, folder:PATH or a TFDS name')


def load(name: str, data_dir: str | None = None, image_size: int = 0) -> Dataset:
    """`find`, with both splits decoded into memory."""
    return find(name, data_dir, image_size).load()
