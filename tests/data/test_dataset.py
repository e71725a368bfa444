"""Columns of examples, and sets that are decoded later."""

import numpy as np

from gjax import data
from gjax.data.dataset import check_dataset, check_split

RNG = np.random.default_rng(0)


class Later:
    """A split that is decoded when it is read."""

    def __init__(self, split):
        self._split, self.read = split, split.read

    def __len__(self):
        return len(self._split)

    def class_labels(self):
        return self._split.class_labels()


def test_rows_are_taken_of_every_column():
    split = data.Split(
        {'points': RNG.normal(size=(6, 2)).astype(np.float32), 'label': np.arange(6), 'depth': np.arange(6) ** 2}
    )
    assert len(split) == 6
    found = split.read(np.asarray([4, 0, 4]))
    assert found.columns.keys() == split.columns.keys()
    for name, values in split.columns.items():
        np.testing.assert_array_equal(found.columns[name], values[[4, 0, 4]])
    np.testing.assert_array_equal(found.class_labels(), [4, 0, 4])


def test_what_is_decoded_later_is_loaded_as_it_was_described():
    """Names, the validation split, the number of classes where none is the last, and the ignore value of maps."""
    images = RNG.integers(0, 256, (9, 4, 4, 1)).astype(np.uint8)
    for labels, ignore in ((np.arange(9) % 3, 255), (RNG.choice([0, 1, 7], (9, 4, 4)).astype(np.uint8), 7)):
        splits = [check_split('x', images[rows], labels[rows]) for rows in (slice(5), slice(5, 7), slice(7, 9))]
        whole = check_dataset('x', splits[0], splits[1], 4, validation=splits[2], ignore=ignore)
        later = data.Dataset('x', *map(Later, splits[:2]), whole.fields, ('a', 'b', 'c', 'd'), Later(splits[2]))
        loaded = later.load()
        assert (loaded.fields, loaded.class_names, list(loaded.splits)) == (
            whole.fields,
            ('a', 'b', 'c', 'd'),
            ['train', 'validation', 'test'],
        )
        assert loaded.nbytes == later.nbytes
        for name, split in whole.splits.items():
            for column, values in split.columns.items():
                np.testing.assert_array_equal(loaded.splits[name].columns[column], values)
        assert loaded.load() is loaded
