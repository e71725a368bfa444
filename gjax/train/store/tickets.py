"""Lottery tickets as files: `gjax.masks.pack` in an .npz, never unpickled."""

from pathlib import Path

from gjax import masks
from gjax.train.errors import RunError
from gjax.train.store.files import read_arrays


def load_ticket(path: str | Path) -> tuple[dict, dict]:
    """The ({'params': masks}, {'params': weights at step k, 'batch_stats': theirs}) of a ticket.npz, players by name.

    Weights under no mask are there as well; pruned ones are 0.

    Raises:
      RunError: the file is damaged, or holds no ticket; one line.
    """
    arrays = read_arrays(Path(path))
    try:
        return masks.unpack(arrays)
    except ValueError as error:
        raise RunError(f'{path} cannot be read: {error}') from error
