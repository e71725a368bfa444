"""Opening sets that TFDS has prepared, once their files are known to be of the kinds that are read, and to run nothing."""

import contextlib
import json
import os
from collections.abc import Iterator

from gjax.data.dataset import DataError
from gjax.data.entries import shown

# Where TFDS reads of which classes a set's features are. It imports the module of whatever class stands there.
_DECLARATIONS = ('features.json', 'dataset_info.json')
_CLASS_KEYS = ('pythonClassName', 'python_class_name')
_DEPTH = 3  # folders that TFDS looks into: NAME/CONFIG/VERSION


def builder(name: str, directory: str):
    """The TFDS builder of a prepared set, registered or not, which TFDS finds by its folder and metadata alone.

    Args:
      name: 'NAME' or 'NAME/CONFIG'.
      directory: the TFDS directory.

    Raises:
      DataError: the set's folder holds something that is no regular file, which would be waited for, or metadata that name
        a class which is none of TFDS's own features: its module, any Python file, would be imported.
      Exception: whatever TFDS raises where there is no such set.
    """
    import tensorflow_datasets as tfds

    base = tfds.core.naming.camelcase_to_snakecase(name.partition('/')[0])  # as TFDS calls the folder
    allowed = _feature_classes()
    for entry in _entries(os.path.join(directory, base), _DEPTH):
        if not entry.is_file() and os.path.exists(entry.path):
            raise DataError(f'{name} in {directory} holds {shown(entry.name)}, which is no regular file')
        declares = entry.name in _DECLARATIONS and entry.is_file()
        if declares and (strange := sorted(_declared(entry.path) - allowed)):
            raise DataError(
                f'{name}: {shown(entry.path)} names the class {shown(strange[0][:160])}; allowed: the classes of '
                'tensorflow_datasets.features'
            )
    return tfds.builder(name, data_dir=directory, try_gcs=False)


def _entries(folder: str, depth: int) -> Iterator[os.DirEntry]:
    """What is not a folder in `folder` and in those below it, `depth` levels in all; links to folders are followed."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir():
                yield entry
            elif depth > 1:
                yield from _entries(entry.path, depth - 1)


def _feature_classes() -> set[str]:
    """The full names, old ones too, of the features that TFDS itself has."""
    import tensorflow_datasets as tfds

    base, known = tfds.features.FeatureConnector, vars(tfds.features).values()
    classes = [value for value in known if isinstance(value, type) and issubclass(value, base)]
    return {name for own in classes for name in (f'{own.__module__}.{own.__name__}', *own.ALIASES)}


def _declared(file: str) -> set[str]:
    """The classes that a JSON file of TFDS's metadata names, at any depth and in JSON that its strings hold.

    Raises:
      DataError: the file is not JSON.
    """
    try:
        with open(file, encoding='utf-8') as stream:
            content = json.load(stream)
        return _named(content, may_be_old=os.path.basename(file) == 'features.json')
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f'{shown(file)} cannot be read ({" ".join(str(error).split())[:120]}); prepare it again') from error


def _named(content, may_be_old: bool) -> set[str]:
    """The classes that a JSON value names. may_be_old: before TFDS 4.5 the key of a class was 'type', which elsewhere has
    other meanings.
    """
    found, waiting = set(), [(content, may_be_old)]
    while waiting:
        value, may_be_old = waiting.pop()
        if isinstance(value, str):
            with contextlib.suppress(ValueError):  # most strings are no JSON
                waiting.append((json.loads(value), True))
        elif isinstance(value, dict):
            keys = (*_CLASS_KEYS, 'type') if may_be_old else _CLASS_KEYS
            found |= {value[key] for key in keys if isinstance(value.get(key), str)}
            waiting += [(inner, may_be_old) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(inner, may_be_old) for inner in value]
    return found
