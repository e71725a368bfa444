"""A look at a state: padding never counts, rows are slices, and nothing is computed twice."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax.train import look as looks
from gjax.train.look import Look
from tests.train.looks import BATCH, TinyRun, dataset, levels


@pytest.fixture
def run(monkeypatch):
    """A run over two sets that counts: how many programs are made, and how often each batch is asked of one."""
    run = TinyRun({'a': dataset('a', 0), 'b': dataset('b', 100, validation=5)}, ('a',))
    run.made, run.called = 0, 0
    make = looks.make_evaluate

    def counted(*arguments):
        run.made += 1
        program = make(*arguments)

        def call(*inputs):
            run.called += 1
            return program(*inputs)

        return call

    monkeypatch.setattr(looks, 'make_evaluate', counted)
    return run


def scaled(state, batch, *, rng):
    """The level of every image, times the state; its square beside its index."""
    level = state * batch['image'][:, 0, 0, 0]
    return {'level': level, 'pair': jnp.stack([level**2, batch['index'].astype(jnp.float32)], axis=1)}


def noisy(state, batch, *, rng):
    return {'noise': jax.random.uniform(rng, batch['label'].shape)}


def test_means_count_no_padding(run):
    found = run.look(jnp.float32(2)).means(scaled, 'b', 'test')
    expected = 2 * levels(run, 'b', 'test')
    assert len(expected) % BATCH
    assert found['level'] == pytest.approx(expected.mean(), rel=1e-6)
    assert found['pair'] == pytest.approx([(expected**2).mean(), np.arange(6).mean()], rel=1e-6)


def test_results_are_computed_once_for_a_state_and_compiled_once_for_a_run(run):
    look = run.look(jnp.float32(2))
    first = look.means(scaled, 'a', 'test')
    assert look.means(scaled, 'a', 'test') == first
    assert (run.made, run.called) == (1, 2)  # six images in batches of four
    rows = look.rows(scaled, 'a', 'test')
    rows.pop('level')  # what one evaluator does to its copy, the next does not see
    assert set(look.rows(scaled, 'a', 'test')) == {'level', 'pair'}
    assert (run.made, run.called) == (1, 4)
    look.means(scaled, 'b', 'test')
    assert (run.made, run.called) == (1, 6)
    other = run.look(jnp.float32(3))
    assert other.means(scaled, 'a', 'test')['level'] == pytest.approx(1.5 * first['level'])
    assert (run.made, run.called) == (1, 8)
    assert run.checked == run.called


def test_bound_methods_of_equal_objects_are_told_apart(run):
    class Times:
        def __init__(self, factor):
            self.factor = factor

        def __eq__(self, other):
            return isinstance(other, Times)

        def measure(self, state, batch, *, rng):
            return {'level': self.factor * batch['image'][:, 0, 0, 0]}

    one, ten = Times(1.0), Times(10.0)
    look = run.look(jnp.float32(0))
    small, large = (look.means(times.measure, 'a', 'test')['level'] for times in (one, ten))
    assert large == pytest.approx(10 * small)
    assert look.means(one.measure, 'a', 'test')['level'] == small
    assert (run.made, run.called) == (2, 4)


@pytest.mark.parametrize('rows', [[5], [10, 0, 3, 3, 7], np.arange(0, 11, 2), np.arange(11)])
def test_chosen_rows_are_slices_of_all(run, rows):
    look = run.look(jnp.float32(2))
    whole, some = look.rows(scaled, 'a', 'train'), look.rows(scaled, 'a', 'train', rows=rows)
    np.testing.assert_allclose(whole['level'], 2 * levels(run, 'a', 'train'), rtol=1e-6)
    np.testing.assert_array_equal(whole['pair'][:, 1], np.arange(11))
    for name, values in whole.items():
        np.testing.assert_array_equal(some[name], values[rows])
    look.rows(scaled, 'a', 'train', rows=rows)
    assert run.called == 3 + -(-len(rows) // BATCH)


def test_more_arguments_are_not_remembered(run):
    def shifted(state, batch, by, *, rng):
        return {'level': batch['image'][:, 0, 0, 0] + by}

    look = run.look(jnp.float32(0))
    for by in (1.0, 2.0):
        found = look.rows(shifted, 'a', 'test', np.float32(by))['level']
        np.testing.assert_allclose(found, levels(run, 'a', 'test') + by, rtol=1e-6)
    assert run.made == 1


def test_every_batch_of_any_split_has_its_own_key(run):
    look = run.look(jnp.float32(0))
    keys = [jax.random.fold_in(run.eval_rng, number) for number in range(2)]
    expected = np.concatenate([jax.random.uniform(key, (BATCH,)) for key in keys])[:6]
    for name in ('a', 'b'):
        np.testing.assert_array_equal(look.rows(noisy, name, 'test')['noise'], expected)
    np.testing.assert_array_equal(look.first(noisy, 'b', 'test')['noise'], jax.random.uniform(run.eval_rng, (BATCH,)))


def test_batches_of_several_sources_carry_their_number(run):
    """As in training; those of other sets have none."""
    run.info = dataclasses.replace(run.info, domains=('b', 'a'))

    def numbered(state, batch, *, rng):
        return {'domain': batch.get('domain', jnp.full(len(batch['label']), -1))}

    run.datasets['unseen'] = run.datasets['a']
    run.feed._splits['unseen', 'test'] = run.feed._splits['a', 'test']
    look = run.look(jnp.float32(0))
    found = {name: set(look.rows(numbered, name, 'test')['domain'].tolist()) for name in ('a', 'b', 'unseen')}
    assert found == {'a': {1}, 'b': {0}, 'unseen': {-1}}
    assert set(look.first(numbered, 'a', 'test')['domain'].tolist()) == {1}
    run.info = dataclasses.replace(run.info, domains=('a',))
    assert set(run.look(jnp.float32(0)).rows(numbered, 'a', 'test')['domain'].tolist()) == {0}


def test_the_first_batch_is_masked(run):
    run.datasets = {'c': dataset('c', 7, test=3)}
    run = TinyRun(run.datasets, ('c',))
    found = run.look(jnp.float32(1)).first(scaled, 'c', 'test')
    np.testing.assert_allclose(found['level'], levels(run, 'c', 'test'), rtol=1e-6)


def test_functions_of_other_images(run):
    images = np.arange(9, dtype=np.uint8).reshape(9, 1, 1, 1)

    def function(state, images, by, *, rng):
        return {'level': state * images[:, 0, 0, 0] + by, 'noise': jax.random.uniform(rng, (len(images),))}

    look = run.look(jnp.float32(2))
    found = look.over(function, images, np.float32(0.5))
    np.testing.assert_allclose(found['level'], 2 * images[:, 0, 0, 0] / np.float32(255) + 0.5, rtol=1e-6)
    assert len(set(found['noise'].tolist())) == 9  # a key for every batch
    assert run.made == 1
    assert run.checked == 3


def test_functions_of_the_state_alone_and_samples(run):
    look = run.look(jnp.float32(3))
    assert look.call(lambda state: {'twice': 2 * state}) == {'twice': 6}

    def generate(state, count, *, rng):
        return state + jax.random.uniform(rng, (count, 1, 1, 1))

    samples = look.sample(generate, 5)
    np.testing.assert_array_equal(samples, 3 + jax.random.uniform(run.eval_rng, (5, 1, 1, 1)))

    def measure(variables, images):
        return {'level': variables * images[:, 0, 0, 0]}

    found = look.generated(generate, measure, 10, jnp.float32(2))['level']
    assert found.shape == (10,)
    assert len(set(found.tolist())) == 10
    np.testing.assert_allclose(found[:BATCH], 2 * generate(3, BATCH, rng=jax.random.fold_in(run.eval_rng, 0)).ravel())


def test_a_run_that_is_told_to_stop_evaluates_no_further(run):
    def stop():
        run.checked += 1
        if run.checked == 2:
            raise KeyboardInterrupt

    run.check = stop
    with pytest.raises(KeyboardInterrupt):
        run.look(jnp.float32(1)).means(scaled, 'a', 'train')
    assert run.called == 1


def test_names_of_sets(run):
    look = Look(run)
    assert (look.sets, look.trained) == (('a', 'b'), ('a',))
    assert [look.count(*pair) for pair in (('a', 'train'), ('a', 'validation'), ('b', 'validation'))] == [11, 0, 5]
    assert look.prefixed('a', 'loss') == 'a_loss'
    assert Look(TinyRun({'a': dataset('a', 0)}, ('a',))).prefixed('a', 'loss') == 'loss'
