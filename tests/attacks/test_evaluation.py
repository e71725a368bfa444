"""Worst case over attacks, and the curve against eps, on a linear model whose robust accuracy is known exactly."""

import jax
import jax.numpy as jnp
import numpy as np

from gjax import attacks
from tests.linear import binary_model

RNG = np.random.default_rng(2)
W, B, LINEAR = binary_model(RNG, 16)
IMAGES = jnp.asarray(RNG.uniform(0.4, 0.6, (50, 4, 4, 1)), jnp.float32)
LABELS = jnp.asarray(RNG.integers(0, 2, 50))
MARGIN = np.where(np.asarray(LABELS) == 1, 1, -1) * (np.asarray(IMAGES).reshape(50, -1) @ W + B) / np.abs(W).sum()


def _pgd(logits_fn, images, labels, eps, rng):
    return attacks.pgd(logits_fn, images, labels, eps, rng=rng, steps=10, step_size=eps / 4)


def test_the_curve_is_the_share_of_margins_above_eps():
    eps = np.asarray([0.0, 0.005, 0.01, 0.02, 0.05])
    curve = np.asarray(attacks.accuracy_curve(LINEAR, IMAGES, LABELS, eps, _pgd, rng=jax.random.key(0)))
    np.testing.assert_array_equal(curve, MARGIN[:, None] > eps[None])
    assert (np.diff(curve.astype(int), axis=1) <= 0).all()


def test_worst_case_counts_every_attack():
    def none(logits_fn, images, labels, rng):
        return images

    def strong(logits_fn, images, labels, rng):
        return _pgd(logits_fn, images, labels, 0.01, rng)

    clean = attacks.worst_case(LINEAR, IMAGES, LABELS, [none], rng=jax.random.key(0))
    both = attacks.worst_case(LINEAR, IMAGES, LABELS, [none, strong], rng=jax.random.key(0))
    np.testing.assert_array_equal(clean, MARGIN > 0)
    np.testing.assert_array_equal(both, MARGIN > 0.01)


def test_outcomes_tell_the_attacks_apart_and_audit_their_images():
    def pgd(logits_fn, images, labels, rng):
        return _pgd(logits_fn, images, labels, 0.01, rng)

    def beyond(logits_fn, images, labels, rng):
        return images + 0.02 * jnp.asarray(np.arange(50) < 3, jnp.float32)[:, None, None, None]

    found = attacks.outcomes(LINEAR, IMAGES, LABELS, [pgd, beyond], rng=jax.random.key(0), eps=0.01)
    np.testing.assert_array_equal(found.clean, MARGIN > 0)
    np.testing.assert_array_equal(found.right[:, 0], MARGIN > 0.01)
    np.testing.assert_array_equal(found.right[3:, 1], MARGIN[3:] > 0)
    np.testing.assert_array_equal(found.allowed, np.stack([np.ones(50, bool), np.arange(50) >= 3], axis=1))
    assert attacks.outcomes(LINEAR, IMAGES, LABELS, [], rng=jax.random.key(0)).right.shape == (50, 0)
