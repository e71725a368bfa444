"""What classes mean where two sets meet: names with names, numbers with numbers, or what data.class_names says."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gjax import data
from gjax.data.classes import aligned, in_order, named
from gjax.data.dataset import check_dataset, check_split
from tests.data.trees import write

WORDS = ('zero', 'one', 'two', 'three')


def made(names=(), classes=0, *, lazy=False):
    """A set of one image a class, whose level is its class; with the names of its classes, or with so many numbers."""
    count = len(names) or classes
    labels = np.arange(count, dtype=np.int32)
    images = np.broadcast_to(labels[:, None, None, None].astype(np.uint8), (count, 2, 2, 1))
    split = check_split('x', images, labels)
    dataset = dataclasses.replace(check_dataset('x', split, split, count), class_names=tuple(names))
    if lazy:
        rows = {name: data.convert.SubsetRecords(split, np.arange(count)) for name in ('train', 'test')}
        dataset = dataclasses.replace(dataset, **rows)
    return dataset


def labels_of(dataset) -> list[int]:
    """The labels of images that a set had as classes 0, 1, ...; all ways to ask for them agree."""
    split = dataset.train.read(np.arange(len(dataset.train)))
    assert split.labels.dtype == np.int32
    np.testing.assert_array_equal(split.labels, dataset.train.class_labels())
    np.testing.assert_array_equal(split.labels, dataset.train.known_labels())
    np.testing.assert_array_equal(split.labels, dataset.test.read(np.arange(len(dataset.test))).labels)
    return split.labels[np.argsort(split.images[:, 0, 0, 0])].tolist()


@pytest.mark.parametrize('lazy', [False, True])
@pytest.mark.parametrize(
    ('other', 'first', 'expected'),
    [
        ({'names': ('b', 'a')}, {'names': ('a', 'b', 'c')}, [1, 0]),
        ({'classes': 2}, {'classes': 3}, [0, 1]),
        ({'names': ('0', '1', '2')}, {'classes': 3}, [0, 1, 2]),
        ({'names': ('0', '2')}, {'classes': 3}, [0, 2]),
        ({'names': ('2', '10')}, {'classes': 11}, [2, 10]),
        ({'names': ('00', '01')}, {'names': ('0', '1', '2')}, [0, 1]),
        ({'names': ('1', '3')}, {'names': ('0', '1', '3')}, [1, 2]),
        ({'classes': 2}, {'names': ('0', '1', '2')}, [0, 1]),
        ({'names': ('cafe\u0301',)}, {'names': ('bar', 'caf\u00e9')}, [1]),
    ],
)
def test_labels_of_another_set_mean_what_those_of_the_first_mean(other, first, expected, lazy):
    first = made(**first)
    found = aligned(made(**other, lazy=lazy), first, 'data.target')
    assert labels_of(found) == expected
    assert (found.num_classes, found.class_names) == (first.num_classes, first.class_names)
    assert found.fields['label'] == first.fields['label']


def test_a_set_in_the_first_ones_order_is_not_touched():
    other = made(('a', 'b'), lazy=True)
    assert aligned(other, made(('a', 'b', 'c')), 'data.target').train is other.train


@pytest.mark.parametrize(
    ('other', 'first', 'message'),
    [
        ({'names': ('a', 'd')}, {'names': ('a', 'b')}, r"class 'd' of data.target is none of those of data.name \(a, b\)"),
        ({'classes': 4}, {'classes': 3}, 'data.target has 4 classes; allowed: at most 3, as data.name has'),
        ({'names': ('0', '3')}, {'classes': 3}, r'data.target has a class 3; allowed: 0\.\.2'),
        ({'names': ('-1', '0')}, {'classes': 3}, r'data.target has a class -1; allowed: 0\.\.2'),
        (
            {'names': ('a', 'b')},
            {'classes': 2},
            r'data.target has classes with names \(a, b\), data.name with numbers;.* data.class_names=',
        ),
        (
            {'classes': 2},
            {'names': ('a', 'b')},
            r'data.name has classes with names \(a, b\), data.target with numbers;.* data.class_names=',
        ),
        ({'classes': 2}, {'names': ('1', '2')}, r'data.name has classes with names \(1, 2\), data.target with numbers'),
        ({'names': ('1', '01')}, {'names': ('0', '1')}, r"data.target has classes '1' and '01', which are one name"),
        ({'names': ('1', '01')}, {'classes': 2}, 'data.target has classes with names'),
    ],
)
def test_what_cannot_be_proven_to_mean_the_same_is_refused(other, first, message):
    with pytest.raises(data.DataError, match=message):
        aligned(made(**other), made(**first), 'data.target')


@pytest.mark.parametrize(
    ('own', 'expected'),
    [
        ({'names': WORDS[::-1]}, [3, 2, 1, 0]),
        ({'classes': 4}, [0, 1, 2, 3]),
        ({'names': ('0', '1', '2', '3')}, [0, 1, 2, 3]),
        ({'names': ('three', 'one')}, [3, 1]),
        ({'names': ('1', '3')}, [1, 3]),
        ({'classes': 2}, [0, 1]),
    ],
)
def test_class_names_order_names_and_name_numbers(own, expected):
    found = named(made(**own), WORDS, 'data.target', whole=len(expected) == 4)
    assert labels_of(found) == expected
    assert (found.num_classes, found.class_names) == (4, WORDS)


@pytest.mark.parametrize(
    ('own', 'message'),
    [
        ({'names': ('one', 'five')}, r"class 'five' of data.name is none of data.class_names \(zero, one, two, ...\)"),
        ({'names': ('1', '4')}, "class '1' of data.name is none of data.class_names"),
        ({'classes': 5}, 'data.class_names has 4 names; allowed: 5, as many as data.name has classes'),
        ({'classes': 3}, 'data.class_names has 4 names; allowed: 3, as many'),
        ({'names': ('one', 'two')}, 'data.class_names has 4 names; allowed: 2, as many'),
    ],
)
def test_class_names_that_do_not_fit_are_refused(own, message):
    with pytest.raises(data.DataError, match=message):
        named(made(**own), WORDS, 'data.name', whole=True)


def test_label_maps_keep_the_pixels_that_count_nowhere():
    rng = np.random.default_rng(0)
    maps = rng.choice([0, 1, 2, 255], (5, 4, 4)).astype(np.uint8)
    split = check_split('x', np.zeros((5, 4, 4, 1), np.uint8), maps)
    other = dataclasses.replace(check_dataset('x', split, split, 3), class_names=('c', 'b', 'a'))
    first = dataclasses.replace(other, class_names=('a', 'b', 'c'))
    found = aligned(other, first, 'data.target').train.labels
    np.testing.assert_array_equal(found, np.where(maps == 255, 255, 2 - maps))


_names = st.one_of(
    st.permutations(('a', 'b', 'c', 'd')),
    st.permutations(tuple(map(str, (0, 1, 2, 3, 10)))),
    st.just(()),
).flatmap(lambda names: st.integers(1, max(1, len(names))).map(lambda count: tuple(names[:count])))


@settings(max_examples=200, database=None)
@given(_names.map(in_order), _names, st.integers(1, 5), st.integers(1, 5))
def test_every_label_keeps_its_meaning_or_the_set_is_refused(names, others, count, other_count):
    """Against a plain reading: the meaning of a label is its name, a number if it is or has none."""

    def meanings(names, count):
        return [int(name) if name.isdigit() else name for name in names] or list(range(count))

    first, other = made(names, count), made(others, other_count)
    own, wanted = meanings(names, count), meanings(others, other_count)
    # A set of numbers without names has labels 0, 1, ...: beside it, others have these numbers too, or cannot be compared.
    comparable = bool(names and others) or (own == list(range(len(own))) and not any(isinstance(w, str) for w in wanted))
    try:
        found = labels_of(aligned(other, first, 'data.target'))
    except data.DataError:
        assert not comparable or not set(wanted) <= set(own)
    else:
        assert [own[label] for label in found] == wanted


def test_folders_of_numbers_and_files_of_numbers_are_the_same_classes(tmp_path):
    """Twelve classes: sorted as text, '10' and '11' would come before '2'."""
    arrays = {}
    for k in range(12):
        write(tmp_path / 'images', f'{k}/*3', start=10 * k)
    source = data.load(f'folder:{tmp_path}/images')
    for split, own in (('train', source.train), ('test', source.test)):
        arrays |= {f'{split}_images': own.images, f'{split}_labels': own.images[:, 0, 0, 1] // 10}
    np.savez(tmp_path / 'a.npz', **{k: v.astype(np.int64) if 'labels' in k else v for k, v in arrays.items()})
    section = {'name': f'folder:{tmp_path}/images', 'target': f'npz:{tmp_path}/a.npz', 'dir': '', 'image_size': 0}
    opened = data.open_sets(section | {'target_examples': 0})
    for split in ('train', 'test'):
        np.testing.assert_array_equal(
            opened['source'].splits[split].class_labels(), opened['target'].splits[split].class_labels()
        )


def test_digits_beside_folders_of_words(tmp_path):
    """Refused; with data.class_names the folders' labels are the digits."""
    words = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
    for k, word in enumerate(words):
        write(tmp_path, f'{word}/*2', start=10 * k)
    section = {'name': 'digits', 'target': f'folder:{tmp_path}', 'dir': '', 'image_size': 32, 'channels': 3}
    section |= {'target_examples': 0}
    with pytest.raises(data.DataError, match=re.escape('data.target has classes with names (eight, five, four, ...)')):
        data.open_sets(section)
    opened = data.open_sets(section | {'class_names': words})
    for records in opened['target'].splits.values():
        split = records.read(np.arange(len(records)))
        np.testing.assert_array_equal(split.labels, split.images[:, 0, 0, 1] // 10)
    assert opened['source'].class_names == opened['target'].class_names == words
    np.testing.assert_array_equal(opened['source'].train.labels, data.load('digits').train.labels)


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (('a', 'b', 'a'), "data.class_names has 'a' twice"),
        (('a', ''), r"data.class_names is \('a', ''\); allowed: a tuple of names"),
        ((0, 1), r'data.class_names is \(0, 1\); allowed: a tuple of names'),
        ('abc', "data.class_names is 'abc'; allowed: a tuple of names"),
        (('a', 'b'), 'data.class_names has 2 names; allowed: 10, as many as data.name has classes'),
    ],
)
def test_class_names_are_checked(names, message):
    with pytest.raises(data.DataError, match=message):
        data.open_sets({'name': 'digits', 'dir': '', 'image_size': 0, 'class_names': names})
