"""Pools are concatenations, and draws are functions of (key, step) with exact shares, the same on the host."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import data

KEY = jax.random.key(5)
LABELS = np.asarray([0, 2, 1, 0, 2, 2, 1, 0, 2, 1, 0, 2, 2, 2, 0, 1, 0, 2])  # 6 zeros, 4 ones, 8 twos


def _part(start, count):
    images = np.arange(start, start + count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    return data.Split({'image': images, 'label': np.arange(start, start + count, dtype=np.int32)})


@dataclasses.dataclass
class Decoded:
    """Records that note which rows are asked for."""

    split: data.Split
    asked: list

    def __len__(self):
        return len(self.split)

    def read(self, rows):
        self.asked.append(np.asarray(rows).tolist())
        return self.split.read(rows)

    def class_labels(self):
        return self.split.class_labels()


def test_a_pool_reads_as_the_concatenation():
    parts = [_part(0, 5), _part(50, 3), _part(100, 7)]
    asked = []
    pool = data.PooledRecords((parts[0], Decoded(parts[1], asked), parts[2]))
    whole = {key: np.concatenate([part.columns[key] for part in parts]) for key in parts[0].columns}
    assert len(pool) == 15
    assert pool.bounds == (5, 8, 15)
    for rows in (np.random.default_rng(0).permutation(15), np.asarray([7, 7, 0, 14, 5, 4, 8]), np.asarray([12, 1])):
        found = pool.read(rows).columns
        for key, values in whole.items():
            np.testing.assert_array_equal(found[key], values[rows])
            assert found[key].dtype == values.dtype
    assert asked[1:] == [[2, 2, 0]]  # in its own rows, and not at all where none is asked for
    np.testing.assert_array_equal(pool.class_labels(), whole['label'])


def _groups(kind):
    if kind == 'shuffled':
        return (np.arange(18, dtype=np.int32),)
    if kind == 'equal':
        return tuple(np.split(np.arange(18, dtype=np.int32), [5, 11]))
    if kind == 'some':  # one group whose rows are not one after the other
        return (np.flatnonzero(LABELS != 1).astype(np.int32),)
    return tuple(np.flatnonzero(np.equal(LABELS, k)).astype(np.int32) for k in range(3))


def _batches(draw, first, count):
    """`count` batches of a draw from step `first` on, as the compiled loop reads them."""

    def read(first):
        return jax.lax.map(draw.reader(KEY, first, count), first + jnp.arange(count))

    return np.asarray(jax.jit(read)(np.int32(first)))


def test_one_group_is_drawn_as_batch_index_says():
    draw = data.Draw(_groups('shuffled'), 4)
    for step, rows in enumerate(_batches(draw, 3, 10), 3):
        np.testing.assert_array_equal(rows, data.batch_index(KEY, step, 18, 4))


@pytest.mark.parametrize(('kind', 'share'), [('equal', 2), ('classes', 2), ('some', 6), ('shuffled', 6)])
def test_a_batch_holds_equal_shares_one_group_after_the_other(kind, share):
    """Every group is seen in epochs of its own, without repetition."""
    groups = _groups(kind)
    draw = data.Draw(groups, 6)
    assert draw.share == share
    assert draw.steps_per_epoch == min(len(group) for group in groups) // share
    batches = _batches(draw, 0, 12).reshape(12, len(groups), share)
    for number, group in enumerate(groups):
        own, steps = batches[:, number], len(group) // share
        assert np.isin(own, group).all()
        orders = []
        for start in range(0, 12 - steps + 1, steps):
            epoch = own[start : start + steps].ravel()
            assert len(set(epoch.tolist())) == len(epoch)
            orders.append(epoch.tolist())
        assert len({tuple(order) for order in orders}) > 1  # in a new order


def test_draws_with_replacement_are_independent():
    """More than a group holds; every example of a group is as likely as the others."""
    groups = (np.asarray([3], np.int32), np.asarray([5, 9, 10], np.int32))
    batches = _batches(data.Draw(groups, 40, True), 0, 60).reshape(60, 2, 20)
    assert (batches[:, 0] == 3).all()
    counts = np.asarray([(batches[:, 1] == row).sum() for row in groups[1]])
    assert counts.sum() == 1200
    assert np.abs(counts - 400).max() < 5 * np.sqrt(1200 * 2 / 9)
    assert len({tuple(batch) for batch in batches[:, 1].tolist()}) == 60


@pytest.mark.parametrize('replacement', [False, True])
@pytest.mark.parametrize('kind', ['shuffled', 'equal', 'some', 'classes'])
def test_the_host_draws_what_the_device_does(kind, replacement):
    """From any step, across the epochs' ends of every group, in any order."""
    draw = data.Draw(_groups(kind), 6, replacement)
    host = data.HostDraw(draw, np.asarray(jax.random.key_data(KEY)))
    for first in (7, 0):
        for step, rows in enumerate(_batches(draw, first, 9), first):
            own = host(step)
            assert own.dtype == np.int32
            np.testing.assert_array_equal(own, rows)
