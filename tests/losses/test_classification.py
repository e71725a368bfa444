"""Losses against SciPy and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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


def _label_map():
    """Logits [2, 3, 3, 4] of pixels, their classes, and which pixels count; the others are of no class that exists."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, 3, 3, 4)).astype(np.float32)
    counts = rng.uniform(size=(2, 3, 3)) < 0.6
    return logits, np.where(counts, rng.integers(0, 4, (2, 3, 3)), 255).astype(np.int32), counts


def test_cross_entropy_of_label_maps_skips_ignored_pixels():
    logits, labels, counts = _label_map()
    found = np.asarray(losses.cross_entropy(jnp.asarray(logits), jnp.asarray(labels), where=jnp.asarray(counts)))
    for place in np.ndindex(labels.shape):
        expected = -special.log_softmax(logits[place])[labels[place]] if counts[place] else 0.0
        np.testing.assert_allclose(found[place], expected, rtol=1e-5)


@pytest.mark.parametrize('soft', [False, True])
def test_ignored_pixels_have_no_gradient_whatever_they_hold(soft):
    """The gradient is that of the pixels that count, also where the others' logits and probabilities are not finite."""
    logits, labels, counts = _label_map()
    broken = jnp.asarray(np.where(counts[..., None], logits, np.inf))
    targets = np.where(counts, labels, -7)
    if soft:
        targets = np.where(counts[..., None], special.softmax(logits[..., ::-1], axis=-1), np.nan).astype(np.float32)

    def total(x):
        return losses.cross_entropy(x, jnp.asarray(targets), where=jnp.asarray(counts)).sum()

    found = jax.jit(jax.grad(total))(broken)
    own = np.where(counts[..., None], targets, 0) if soft else np.eye(4)[np.where(counts, labels, 0)]
    expected = np.where(counts[..., None], special.softmax(logits, axis=-1) - own, 0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    'where', [np.asarray([True, False, True]), np.asarray([[True], [False], [True]]), np.asarray(False)]
)
def test_where_is_broadcast_to_the_pixels(where):
    logits = jnp.asarray(RNG.normal(size=(2, 3, 3, 4)), jnp.float32)
    labels = jnp.zeros((2, 3, 3), jnp.int32)
    found = losses.cross_entropy(logits, labels, where=jnp.asarray(where))
    expected = np.where(np.broadcast_to(where, (2, 3, 3)), losses.cross_entropy(logits, labels), 0)
    np.testing.assert_array_equal(found, expected)


def test_labels_of_one_axis_are_exactly_the_sums_over_one_hot_rows():
    """Bit for bit, as it was before label maps."""
    logits, one_hot = jnp.asarray(LOGITS), jax.nn.one_hot(jnp.asarray(LABELS), 4)
    plain = -jnp.sum(one_hot * jax.nn.log_softmax(logits), axis=-1)
    np.testing.assert_array_equal(losses.cross_entropy(logits, jnp.asarray(LABELS)), plain)
    np.testing.assert_array_equal(losses.cross_entropy(logits, one_hot), plain)


@pytest.mark.parametrize(
    ('function', 'shape', 'dtype', 'message'),
    [
        (losses.cross_entropy, (4,), jnp.int32, r'the shape of labels is \(4,\); allowed: \(7,\), for logits \(7, 4\)'),
        (losses.cross_entropy, (7, 1), jnp.int32, r'the shape of labels is \(7, 1\); allowed: \(7,\)'),
        (losses.cross_entropy, (7, 4), jnp.int32, r'the shape of labels is \(7, 4\); allowed: \(7,\)'),
        (losses.cross_entropy, (), jnp.int32, r'the shape of labels is \(\); allowed: \(7,\)'),
        (losses.cross_entropy, (7,), jnp.float32, r'the shape of probabilities is \(7,\); allowed: \(7, 4\)'),
        (losses.cross_entropy, (1, 4), jnp.float32, r'the shape of probabilities is \(1, 4\); allowed: \(7, 4\)'),
        (losses.cross_entropy, (7,), bool, r'the dtype of labels is bool; allowed: integers'),
        (losses.correct, (1,), jnp.int32, r'the shape of labels is \(1,\); allowed: \(7,\)'),
        (losses.correct, (7, 1), jnp.int32, r'the shape of labels is \(7, 1\); allowed: \(7,\)'),
        (losses.correct, (7,), jnp.float32, r'the dtype of labels is float32; allowed: integers'),
        (losses.margin, (7, 7), jnp.int32, r'the shape of labels is \(7, 7\); allowed: \(7,\)'),
        (losses.margin, (), jnp.int32, r'the shape of labels is \(\); allowed: \(7,\)'),
    ],
)
@pytest.mark.parametrize('jit', [False, True])
def test_other_shapes_and_dtypes_are_refused_in_one_line(function, shape, dtype, message, jit):
    with pytest.raises(ValueError, match=f'^{message}') as caught:
        (jax.jit(function) if jit else function)(jnp.asarray(LOGITS), jnp.zeros(shape, dtype))
    assert '\n' not in str(caught.value)


def test_where_of_another_dtype_is_refused():
    with pytest.raises(ValueError, match=r'^the dtype of where is float32; allowed: bool'):
        losses.cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS), where=jnp.ones(7))


def test_kl_divergence_is_scipys_entropy():
    other = RNG.normal(size=(7, 4)).astype(np.float32)
    expected = stats.entropy(special.softmax(other, axis=1), special.softmax(LOGITS, axis=1), axis=1)
    np.testing.assert_allclose(losses.kl_divergence(jnp.asarray(LOGITS), jnp.asarray(other)), expected, rtol=1e-4)


def test_margin_is_positive_exactly_where_correct():
    margin = np.asarray(losses.margin(jnp.asarray(LOGITS), jnp.asarray(LABELS)))
    for row, label, value in zip(LOGITS, LABELS, margin, strict=True):
        np.testing.assert_allclose(value, row[label] - np.delete(row, label).max(), rtol=1e-6)
    np.testing.assert_array_equal(losses.correct(jnp.asarray(LOGITS), jnp.asarray(LABELS)), margin > 0)


def test_margin_and_correctness_of_every_pixel():
    logits, labels, _ = _label_map()
    labels = labels % 4
    margin, correct = (f(jnp.asarray(logits), jnp.asarray(labels)) for f in (losses.margin, losses.correct))
    for place in np.ndindex(labels.shape):
        row, label = logits[place], labels[place]
        np.testing.assert_allclose(margin[place], row[label] - np.delete(row, label).max(), rtol=1e-5, atol=1e-6)
        assert bool(correct[place]) == (row.argmax() == label)


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
