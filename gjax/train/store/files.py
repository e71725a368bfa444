"""Files of a run directory: written whole or not at all, read without trusting them."""

import contextlib
import json
import os
import stat
from pathlib import Path

import numpy as np

from gjax.train.errors import RunError

TEMPORARY = '.gjax-tmp'  # how the names of unfinished files end


def _is_special(path: Path) -> bool:
    """Whether a device, pipe or socket lies at `path`, itself and not by a link."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


@contextlib.contextmanager
def writing(path: Path):
    """Turns an error of the system while `path` is written (disk full, read-only, too large) into a RunError, one line."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f'{path} cannot be written: {error.strerror or error}; what is saved stays, and once that is mended the same '
            'command goes on'
        ) from error


@contextlib.contextmanager
def whole_file(path: Path):
    """A binary stream whose content becomes the file `path` when all of it is on disk; a reader never sees half of it.

    A link at `path` is replaced, not followed. A device, or a pipe that is being read, is written to.

    Raises:
      RunError: it cannot be written; what was at `path` is still there.
    """
    temporary = path.with_name(f'.{path.name}.{os.getpid()}{TEMPORARY}')
    with writing(path):
        if _is_special(path):
            # A pipe that nobody reads is refused, where opening it otherwise would wait for a reader.
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            os.set_blocking(descriptor, True)
            with open(descriptor, 'wb') as stream:
                yield stream
            return
        try:
            temporary.unlink(missing_ok=True)  # of a process of this number that was killed: the first of a container is 1
            with temporary.open('xb') as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Writes a whole file or nothing."""
    with whole_file(path) as stream:
        stream.write(text.encode())


def write_json(path: Path, value) -> None:
    """`write_text` of indented JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + '\n')


def read_json(path: Path) -> dict:
    """The JSON object in a file of a run directory; RunError, one line, if it is something else."""
    try:
        if not path.is_file():  # a pipe would wait for ever
            raise OSError('not a file')
        value = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f'{path} is damaged and cannot be read ({" ".join(str(error).split())[:120]})') from error
    if not isinstance(value, dict):
        raise RunError(f'{path} is damaged: it holds {type(value).__name__}, expected a JSON object')
    return value


def to_python(value):
    """Arrays as nested lists of Python numbers, non-finite ones as their names ('nan', 'inf')."""
    value = np.asarray(value).tolist()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in an .npz file of a run directory, never unpickled; RunError if it is damaged."""
    try:
        if not path.is_file():  # a pipe would wait for ever
            raise OSError('not a file' if path.exists() else 'there is no such file')
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if strange := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f'its member {strange[0]!r} is no array')
        return arrays
    except Exception as error:
        raise RunError(f'{path} is damaged and cannot be read ({" ".join(str(error).split())[:120]})') from error
