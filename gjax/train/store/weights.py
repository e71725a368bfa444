"""Weights of other projects from local files; nothing is unpickled."""

from pathlib import Path

import numpy as np

from gjax.train.errors import RunError
from gjax.train.store.files import read_arrays

# What trainers put before the names of a network's weights: DataParallel, Lightning, MMLab, torch.compile.
PREFIXES = ('module.', 'model.', 'backbone.', '_orig_mod.')
_WRAPPERS = ('state_dict', 'model_state_dict', 'model')  # under which checkpoints of trainers keep them
SUFFIXES = ('.safetensors', '.pth', '.pt', '.npz')


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The arrays in a .safetensors, .npz or PyTorch file (by its reader for weights alone; it takes torch), by their names.

    Of a PyTorch checkpoint with a 'state_dict' or a 'model' only that. `PREFIXES` of trainers are taken off the names.

    Raises:
      RunError: no such file, another suffix, torch is missing, it is damaged, or two names are one without their prefixes;
        one line.
    """
    return _without_prefixes(_read(path), path)


def _without_prefixes(arrays: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    found: dict[str, str] = {}
    for name in arrays:
        own = name
        while prefix := next((prefix for prefix in PREFIXES if own.startswith(prefix)), ''):
            own = own.removeprefix(prefix)
        if own in found:
            raise RunError(
                f'net.weights is {str(path)!r}, which has both {found[own]!r} and {name!r}; allowed: a file with one of them'
            )
        found[own] = name
    return {own: arrays[name] for own, name in found.items()}


def _read(path: Path) -> dict[str, np.ndarray]:
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
        for wrapper in _WRAPPERS:
            if isinstance(stored.get(wrapper), dict):
                stored = stored[wrapper]
        return {name: value.float().numpy() for name, value in stored.items()}
    except RunError:
        raise
    except Exception as error:
        reason = ' '.join(str(error).split())[:120]
        raise RunError(f'net.weights is {str(path)!r}, which is damaged or holds more than weights ({reason})') from error
