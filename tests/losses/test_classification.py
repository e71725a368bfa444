"""Losses against SciPy and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from gjax import losses

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(7, 4)).astype(np.float32) * 3
LABELS = np.asarray([0, 1, 2, 3, 0, 1, 2], np.int32)


def test_cross_entropy_of_labels_and_of_probabilities():
    expected = -special.log_softmax(LOGITS, axis=1)[np.arange(7), LABELS]
    np.testing.assert_allclose(losses.cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS)), expected, rtol=1e-5)
    soft = special.softmax(RNG.normal(size=(7, 4)), axis=1).astype(np.float32)
    expected = -(soft * special.log_softmax(LOGITS, axis=1)).sum(axis=1)
    np.testing.assert_allclose(losses.cross_entropy(jnp.asarray(LOGITS), jnp.asarray(soft)), expected, rtol=1e-5)


def test_kl_divergence_is_scipys_entropy():
    other = RNG.normal(size=(7, 4)).astype(np.float32)
    expected = stats.entropy(special.softmax(other, axis=1), special.softmax(LOGITS, axis=1), axis=1)
    np.testing.assert_allclose(losses.kl_divergence(jnp.asarray(LOGITS), jnp.asarray(other)), expected, rtol=1e-4)


def test_margin_is_positive_exactly_where_correct():
    margin = np.asarray(losses.margin(jnp.asarray(LOGITS), jnp.asarray(LABELS)))
    for row, label, value in zip(LOGITS, LABELS, margin, strict=True):
        np.testing.assert_allclose(value, row[label] - np.delete(row, label).max(), rtol=1e-6)
    np.testing.assert_array_equal(losses.correct(jnp.asarray(LOGITS), jnp.asarray(LABELS)), margin > 0)


def test_mixup_mixes_images_and_targets_alike():
    images, targets = jnp.asarray(RNG.uniform(size=(64, 2, 2, 1)), jnp.float32), jnp.eye(64)
    mixed, weights = losses.mixup(images, targets, rng=jax.random.key(0), alpha=1.0)
    np.testing.assert_allclose(mixed, jnp.einsum('ij,jhwc->ihwc', weights, images), atol=1e-6)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)


def test_mixup_weight_is_beta_distributed():
    def weight(key):
        return losses.mixup(jnp.asarray([1.0, 0.0, 0.0, 0.0]), rng=key, alpha=2.0)[0].max()

    draws = np.asarray(jax.vmap(weight)(jax.random.split(jax.random.key(1), 2000)))
    folded = np.abs(stats.beta(2, 2).rvs(20000, random_state=0) - 0.5)  # max(m, 1 - m) - 1/2, where the pair is distinct
    distinct = draws[draws < 1]
    assert stats.ks_2samp(np.abs(np.maximum(distinct, 1 - distinct) - 0.5), folded).statistic < 0.06
