"""Weights of other projects from local files; nothing is unpickled."""

from pathlib import Path

import numpy as np

from gjax.train.errors import RunError
from gjax.train.store.files import read_arrays

SUFFIXES = ('.safetensors', '.pth', '.pt', '.npz')


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The arrays in a .safetensors, .npz or PyTorch file (by its reader for weights alone; it takes torch), by their names.
    Of a PyTorch checkpoint with a 'state_dict' only that.

    Raises:
      RunError: no such file, another suffix, torch is missing, or it is damaged; one line.
    """
    if path.suffix not in SUFFIXES:
        raise RunError(f'net.weights is {str(path)!r}; allowed: a file {", ".join(SUFFIXES)}')
    if not path.is_file():
        raise RunError(f'net.weights is {str(path)!r}, but there is no such file')
    if path.suffix == '.npz':
        return read_arrays(path)
    try:
        if path.suffix == '.safetensors':
            from safetensors.numpy import load_file

            return load_file(path)
        try:
            import torch
        except ImportError as error:
            raise RunError(f'net.weights is {str(path)!r}, which takes torch to read: pip install torch') from error
        stored = torch.load(path, map_location='cpu', weights_only=True)
        stored = stored.get('state_dict', stored)  # of a checkpoint
        return {name: value.float().numpy() for name, value in stored.items()}
    except RunError:
        raise
    except Exception as error:
        reason = ' '.join(str(error).split())[:120]
        raise RunError(f'net.weights is {str(path)!r}, which is damaged or holds more than weights ({reason})') from error
