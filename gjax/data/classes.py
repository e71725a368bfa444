"""What the classes of a set mean: their order, and how the labels of one set become those of another."""

import dataclasses
import re
import unicodedata

import numpy as np

from gjax.data.dataset import DataError, Dataset, Records, Split
from gjax.data.entries import listed, shown

_INTEGER = re.compile(r'-?[0-9]+', re.ASCII)


def in_order(names) -> tuple[str, ...]:
    """Names of classes in the order of their labels: as numbers if all are integers ('2' before '10'), else as text."""
    names = list(names)
    if all(map(_INTEGER.fullmatch, names)):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _numbers(dataset: Dataset) -> tuple[int, ...] | None:
    """The number that each label of a set stands for: itself without names, else the integer that its name is.

    None if a name is no integer, or two are the same one.
    """
    if not dataset.class_names:
        return tuple(range(dataset.num_classes))
    if not all(map(_INTEGER.fullmatch, dataset.class_names)):
        return None
    found = tuple(map(int, dataset.class_names))
    return found if len(set(found)) == len(found) else None


def _positions(names, among) -> list[int]:
    """Where each name is among others, -1 where it is not; integers are compared as such if all are, text in form NFC."""
    whole = all(map(_INTEGER.fullmatch, (*names, *among)))
    own, others = ([int(n) if whole else unicodedata.normalize('NFC', n) for n in each] for each in (names, among))
    places = {name: k for k, name in reversed(list(enumerate(others)))}
    return [places.get(name, -1) for name in own]


@dataclasses.dataclass(frozen=True, eq=False)
class RelabelledRecords:
    """A split whose labels are replaced when read."""

    records: Records
    table: np.ndarray  # the new label of every old one, int32 [K]
    ignore: int | None  # of maps: the value of pixels that stay as they are

    def __len__(self):
        return len(self.records)

    def read(self, rows) -> Split:
        return _relabel(self.records.read(rows), self.table, self.ignore)

    def class_labels(self) -> np.ndarray:
        return self.table[self.records.class_labels()]

    def known_labels(self) -> np.ndarray | None:
        known = self.records.known_labels()
        return None if known is None else self.table[known]


def _relabel(split: Split, table: np.ndarray, ignore: int | None) -> Split:
    labels = split.labels
    if labels.ndim == 3:
        every = np.arange(256, dtype=np.uint8)
        own = np.arange(len(table)) != ignore
        every[: len(table)][own] = table[own]
        return Split(dict(split.columns) | {'label': every[labels]})
    return Split(dict(split.columns) | {'label': table[labels]})


def relabelled(dataset: Dataset, table, num_classes: int, class_names: tuple[str, ...]) -> Dataset:
    """The set whose label k is table[k], one of 0..num_classes-1, lazily where it is decoded lazily."""
    label = dataset.fields['label']
    fields = {**dataset.fields, 'label': label._replace(classes=num_classes)}
    table, splits = np.asarray(table, np.int32), {}
    if not np.array_equal(table, np.arange(len(table))):
        for name, records in dataset.splits.items():
            change = _relabel if isinstance(records, Split) else RelabelledRecords
            splits[name] = change(records, table, label.ignore)
    return dataclasses.replace(dataset, fields=fields, class_names=class_names, **splits)


def check_class_names(names) -> tuple[str, ...]:
    """The names of data.class_names; DataError unless it is a sequence of different names (or empty)."""
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) and name for name in names):
        raise DataError(f'data.class_names is {names!r}; allowed: a tuple of names, in the order of the labels')
    if twice := [place for k, place in enumerate(_positions(names, names)) if place != k]:
        raise DataError(f'data.class_names has {shown(names[twice[0]])!r} twice; allowed: each name once')
    return tuple(names)


def named(dataset: Dataset, class_names: tuple[str, ...], key: str, *, whole: bool) -> Dataset:
    """The set whose label k is the class class_names[k]: its own names give the order, else they name its numbers.

    Args:
      dataset: any set; without labels, or if `class_names` is empty, it stays as it is.
      class_names: all names, of data.class_names.
      key: the config key that has the set, for messages.
      whole: whether it must have all of these classes.

    Raises:
      DataError: a class that is none of the names, or too few classes.
    """
    if not class_names or 'label' not in dataset.fields:
        return dataset
    count = len(class_names)
    table = _positions(dataset.class_names, class_names) if dataset.class_names else list(range(dataset.num_classes))
    if -1 in table:
        numbers = _numbers(dataset)
        if numbers is None or not all(0 <= number < count for number in numbers):
            unknown = dataset.class_names[table.index(-1)]
            raise DataError(
                f'class {shown(unknown)!r} of {key} is none of data.class_names ({listed(class_names)}); allowed: those, '
                f'or numbers 0..{count - 1} as names of classes'
            )
        table = list(numbers)
    _check_distinct(table, dataset, key)
    if len(table) > count or (whole and len(table) < count):
        allowed = f'{len(table)}, as many as {key} has classes' if whole else f'at least {len(table)}, the classes of {key}'
        raise DataError(f'data.class_names has {count} names; allowed: {allowed}')
    return relabelled(dataset, table, count, tuple(class_names))


def _check_distinct(table, dataset: Dataset, key: str) -> None:
    """DataError if two classes of a set would become one, e.g. folders '1' and '01'."""
    seen = {}
    for k, label in enumerate(table):
        if label in seen:
            first, second = (shown(dataset.class_names[at]) for at in (seen[label], k))
            raise DataError(f'{key} has classes {first!r} and {second!r}, which are one name; allowed: each once')
        seen[label] = k


def aligned(other: Dataset, first: Dataset, key: str, first_key: str = 'data.name') -> Dataset:
    """The set with labels that mean what those of the first set mean; it may have fewer classes.

    Names are matched with names, whatever their order. Numbers, which are labels without names or names that are all
    integers, mean the same in both sets.

    Args:
      other, first: both with labels.
      key, first_key: the config keys that have them, for messages.

    Raises:
      DataError: it has a class that the first one lacks, or one has names and the other numbers.
    """
    count = first.num_classes
    numbered = _numbers(first) == tuple(range(count))
    numbers = _numbers(other)
    if other.class_names and first.class_names:
        table = _positions(other.class_names, first.class_names)
        if -1 in table:
            raise DataError(
                f'class {shown(other.class_names[table.index(-1)])!r} of {key} is none of those of {first_key} '
                f'({listed(first.class_names, 5)}); allowed: the same names, or some of them'
            )
        _check_distinct(table, other, key)
    elif numbered and numbers is not None:
        table = numbers
        if not other.class_names and other.num_classes > count:
            raise DataError(f'{key} has {other.num_classes} classes; allowed: at most {count}, as {first_key} has')
        if bad := [number for number in numbers if not 0 <= number < count]:
            raise DataError(f'{key} has a class {bad[-1]}; allowed: 0..{count - 1}, as {first_key} has')
    else:
        named_key, numbered_key = (key, first_key) if other.class_names else (first_key, key)
        names = other.class_names or first.class_names
        raise DataError(
            f'{named_key} has classes with names ({listed(names)}), {numbered_key} with numbers; allowed: names in both or '
            "numbers in both; data.class_names=('NAME', ...) says which name each number 0, 1, ... has"
        )
    return relabelled(other, table, count, first.class_names)
