"""Lottery tickets as files: `gjax.masks.pack` in an .npz, never unpickled."""

from pathlib import Path

import numpy as np

from gjax import masks
from gjax.train import logging
from gjax.train.errors import RunError


def save_ticket(path: Path, ticket, values) -> None:
    """Writes masks and the values they leave; see `gjax.masks.pack`."""
    with logging.whole_file(path) as stream:
        np.savez(stream, **masks.pack(ticket, values))


def load_ticket(path: str | Path) -> tuple[dict, dict]:
    """The ({'params': masks}, {'params': weights at step k, 'batch_stats': theirs}) of a ticket.npz, players by name.

    Weights under no mask are there as well; pruned ones are 0.

    Raises:
      RunError: the file is damaged, or holds no ticket; one line.
    """
    arrays = logging.read_arrays(Path(path))
    try:
        return masks.unpack(arrays)
    except ValueError as error:
        raise RunError(f'{path} cannot be read: {error}') from error
