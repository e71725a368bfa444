"""Means over the splits of several sets, numbers of the memory, values of every example."""

import jax.numpy as jnp
import numpy as np
import pytest

from gjax.evaluators import END, LOG, Examples, Means, Memory
from gjax.losses import correct
from tests.train.looks import TinyRun, dataset, levels


@pytest.fixture(scope='module')
def run():
    """Two sets that are trained on, one of them with a validation split, and one that is not."""
    sets = {'a': dataset('a', 0), 'b': dataset('b', 50, validation=5), 'unseen': dataset('unseen', 100, test=7)}
    return TinyRun(sets, ('a', 'b'))


def level(state, batch, *, rng):
    """The level, and the two-sided one."""
    own = batch['image'][:, 0, 0, 0]
    return {'level': own, 'both': jnp.stack([own, -own], axis=1)}


def _mean(run, name, split):
    return pytest.approx(levels(run, name, split).mean(), rel=1e-5)


def test_means_of_all_sets_and_of_the_validation_splits_that_there_are(run):
    look = run.look(jnp.float32(0))
    found = Means(level)(look.state, look).metrics
    expected = {f'{name}_level': _mean(run, name, 'test') for name in ('a', 'b', 'unseen')}
    expected['validation_b_level'] = _mean(run, 'b', 'validation')
    assert {key: value for key, value in found.items() if key.endswith('level')} == expected
    assert found['a_both'] == pytest.approx([found['a_level'], -found['a_level']])


def test_chosen_sets_and_splits(run):
    look = run.look(jnp.float32(0))
    found = Means(level, sets=('unseen',), splits=('test', 'train'))(look.state, look).metrics
    assert found.keys() == {'unseen_level', 'unseen_both', 'train_unseen_level', 'train_unseen_both'}
    assert found['train_unseen_level'] == _mean(run, 'unseen', 'train')


def test_conclusions_are_drawn_of_each_set_and_across_the_sets_of_a_split(run):
    def conclude(means):
        return {'twice': 2 * means['level']}

    def across(means):
        return {'least': min(own['level'] for own in means.values())}

    look = run.look(jnp.float32(0))
    found = Means(level, conclude=conclude, across=across)(look.state, look).metrics
    expected = {'least': _mean(run, 'a', 'test'), 'validation_least': _mean(run, 'b', 'validation')}
    for split in ('validation', 'test'):
        for name in (name for name in look.sets if look.count(name, split)):
            start = '' if split == 'test' else 'validation_'
            expected[f'{start}{name}_twice'] = pytest.approx(2 * levels(run, name, split).mean(), rel=1e-5)
    assert found == expected


def test_a_run_of_one_set_needs_no_prefix():
    run = TinyRun({'source': dataset('source', 0, validation=5)}, ('source',))
    look = run.look(jnp.float32(0))
    found = Means(level)(look.state, look).metrics
    assert found.keys() == {'level', 'both', 'validation_level', 'validation_both'}
    assert found['validation_level'] == _mean(run, 'source', 'validation')


def test_when_it_is_asked_and_by_which_protocol():
    assert 'log' in Means(level).when
    assert 'end' in Means(level).when
    final = Means(level, when=END, protocol='one start')
    assert (final.when, final.protocol) == (END, 'one start')
    assert Memory(dict, when=LOG).when == LOG
    assert Examples(level).when == END


def test_memory_is_a_function_of_the_state_alone(run):
    look = run.look({'radius': jnp.asarray([1.0, 3.0])})
    found = Memory(lambda state: {'mean_radius': state['radius'].mean(), 'radii': state['radius']})(look.state, look)
    assert found.metrics['mean_radius'] == 2
    np.testing.assert_array_equal(found.metrics['radii'], [1, 3])
    assert found.arrays == {}


def test_examples_of_every_set_that_is_trained_on(run):
    """In the order of the set, un-augmented; the unseen set has none."""

    def describe(state, batch, *, rng):
        return {'level': batch['image'][:, 0, 0, 0], 'index': batch['index']}

    look = run.look(jnp.float32(0), 'end')

    def longest(examples):
        return {'longest': max(len(values) for values in examples.values())}

    found = Examples(describe, longest, lambda sets: {'sets': len(sets)})(look.state, look)
    assert found.metrics == {'a_longest': 11, 'b_longest': 11, 'sets': 2}
    assert found.arrays.keys() == {'examples'}
    examples = found.arrays['examples']
    assert examples.keys() == {'a_level', 'a_index', 'b_level', 'b_index'}
    for name in ('a', 'b'):
        np.testing.assert_allclose(examples[f'{name}_level'], levels(run, name, 'train'), rtol=1e-6)
    np.testing.assert_array_equal(examples['b_index'], 11 + np.arange(11))  # its place in the pool
    assert Examples(describe)(look.state, look).metrics == {}


def test_accuracy_is_that_of_counting(run):
    def right(state, batch, *, rng):
        scores = jnp.stack([state * batch['image'][:, 0, 0, 0], jnp.full(len(batch['label']), 0.05)], axis=1)
        return {'accuracy': correct(scores, batch['label']).astype(jnp.float32)}

    look = run.look(jnp.float32(1))
    found = Means(right, sets=('a',))(look.state, look).metrics['a_accuracy']
    test = run.datasets['a'].test
    predictions = np.where(levels(run, 'a', 'test') >= np.float32(0.05), 0, 1)
    assert found == pytest.approx((predictions == test.labels).mean())
