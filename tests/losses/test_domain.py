"""Losses between domains against brute force, finite differences and closed forms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import special

from gjax import losses

SOURCE = jax.random.normal(jax.random.key(0), (6, 4))
TARGET = 1.5 * jax.random.normal(jax.random.key(1), (5, 4)) + 0.7


def test_reversal_leaves_values_and_turns_gradients():
    def game(features, strength):
        return jnp.sum(jnp.sin(losses.reverse_gradient(features, strength)))

    features = jnp.asarray([0.3, -2.0, 1e4])
    np.testing.assert_array_equal(losses.reverse_gradient(features, 0.3), features)
    for strength in (0.0, 0.3, 2.0):
        found = jax.grad(game)(features, strength)
        eps = 1e-3
        shifts = [np.sin(np.float64(features) + sign * eps) for sign in (1, -1)]
        np.testing.assert_allclose(found, -strength * (shifts[0] - shifts[1]) / (2 * eps), atol=3e-5)
    assert jax.grad(game, argnums=1)(features, 0.3) == 0


def test_the_ramp_goes_from_nothing_to_one():
    np.testing.assert_allclose(
        losses.adversarial_ramp(jnp.asarray([0.0, 0.1, 1.0])), [0, np.tanh(0.5), np.tanh(5)], atol=1e-6
    )


def test_binary_cross_entropy():
    logits, positive = jnp.asarray([0.0, 2.0, -3.0, 200.0]), jnp.asarray([True, False, True, False])
    probability = special.expit(np.float64(logits))
    expected = np.where(positive, -np.log(probability), 200.0)
    expected[[1]] = -np.log1p(-probability[[1]])
    np.testing.assert_allclose(losses.binary_cross_entropy(logits, positive), expected, rtol=1e-6)


def _mmd(source, target, bandwidths):
    both = np.concatenate([source, target]).astype(np.float64)
    pairs = list(itertools.permutations(range(len(both)), 2))
    mean = np.mean([np.sum((both[i] - both[j]) ** 2) for i, j in pairs])

    def kernel(x, y):
        return np.mean([np.exp(-np.sum((x - y) ** 2) / (b * mean)) for b in bandwidths])

    def within(rows):
        return np.mean([kernel(rows[i], rows[j]) for i, j in itertools.permutations(range(len(rows)), 2)])

    source, target = np.float64(source), np.float64(target)
    return within(source) + within(target) - 2 * np.mean([kernel(x, y) for x in source for y in target])


@pytest.mark.parametrize('bandwidths', [(1.0,), (0.25, 0.5, 1.0, 2.0, 4.0)])
def test_mmd_is_the_sum_over_all_pairs(bandwidths):
    found = losses.multi_kernel_mmd(SOURCE, TARGET, bandwidths=bandwidths)
    np.testing.assert_allclose(found, _mmd(SOURCE, TARGET, bandwidths), rtol=1e-5)


def test_mmd_of_one_distribution_is_nothing_on_average_and_descends_towards_it():
    keys = jax.random.split(jax.random.key(3), 200)
    values = jax.vmap(lambda k: losses.multi_kernel_mmd(*jax.random.normal(k, (2, 16, 3))))(keys)
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    shift = jax.grad(lambda s: losses.multi_kernel_mmd(SOURCE, TARGET + s))(jnp.zeros((1, 4)))
    assert jnp.vdot(shift[0], (TARGET.mean(axis=0) - SOURCE.mean(axis=0))) > 0
    assert losses.multi_kernel_mmd(jnp.ones((3, 2)), jnp.ones((4, 2))) == 0
    assert np.isfinite(jax.grad(lambda s: losses.multi_kernel_mmd(s, s))(jnp.ones((3, 2)))).all()


def test_coral_is_the_distance_of_covariances():
    difference = np.cov(np.float64(SOURCE), rowvar=False) - np.cov(np.float64(TARGET), rowvar=False)
    np.testing.assert_allclose(losses.coral(SOURCE, TARGET), np.linalg.norm(difference) ** 2 / (4 * 16), rtol=1e-5)
    assert losses.coral(SOURCE, SOURCE + 3) == pytest.approx(0, abs=1e-10)
    check_grads(lambda s: losses.coral(s, TARGET), (SOURCE,), order=1, modes=['rev'], atol=1e-2, rtol=1e-2)


def test_discrepancy_of_classifiers():
    first, second = jnp.asarray([[20.0, 0.0], [1.0, 2.0]]), jnp.asarray([[0.0, 20.0], [1.0, 2.0]])
    np.testing.assert_allclose(losses.classifier_discrepancy(first, second), [1.0, 0.0], atol=1e-6)
    expected = np.abs(special.softmax(np.float64(first)[1:] * 2, axis=1) - special.softmax(np.float64(second)[1:], axis=1))
    np.testing.assert_allclose(losses.classifier_discrepancy(2 * first[1:], second[1:]), expected.mean(axis=1), rtol=1e-5)
