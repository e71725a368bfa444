"""What comes into a loss is used as meant or refused in one line, also under jit: nothing is broadcast."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from gjax import losses

KEY = jax.random.key(0)


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def _penalty(critic, real, fake):
    return losses.gradient_penalty(critic, real, fake, rng=KEY)


REFUSED = {
    'hinge': (
        losses.GAN_LOSSES['hinge'].discriminator,
        (ones(8, 1), ones(8)),
        'the shape of real_logits is (8, 1); allowed: [B]',
    ),
    'logistic': (
        losses.GAN_LOSSES['non_saturating'].discriminator,
        (ones(8), ones(4)),
        'the shape of fake_logits is (4,); allowed: (8,), that of real_logits',
    ),
    'wasserstein': (
        losses.GAN_LOSSES['wasserstein'].discriminator,
        (ones(8), ones(8, 1)),
        'the shape of fake_logits is (8, 1); allowed: (8,), that of real_logits',
    ),
    'generator': (
        losses.GAN_LOSSES['saturating'].generator,
        (ones(8, 1),),
        'the shape of fake_logits is (8, 1); allowed: [B]',
    ),
    'generator dtype': (losses.GAN_LOSSES['hinge'].generator, (ones(8, dtype=int),), 'the dtype of fake_logits is int'),
    'penalty': (
        partial(_penalty, lambda x: x.sum((1, 2, 3))),
        (ones(2, 3, 3, 1), ones(1, 3, 3, 1)),
        'the shape of fake is (1, 3, 3, 1); allowed: (2, 3, 3, 1), that of real',
    ),
    'critic': (
        partial(_penalty, lambda x: x.reshape(2, -1)[:, :1]),
        (ones(2, 3, 3, 1), ones(2, 3, 3, 1)),
        'the shape of critic(images) is (2, 1); allowed: (2,), one logit an image',
    ),
    'binary': (
        losses.binary_cross_entropy,
        (ones(4), ones(4, 1) > 0),
        'the shape of positive is (4, 1); allowed: (4,), that of',
    ),
    'binary logits': (
        losses.binary_cross_entropy,
        (ones(4, 1), np.ones(4, bool)),
        'the shape of positive is (4,); allowed: (4, 1), that of logits',
    ),
    'binary dtype': (losses.binary_cross_entropy, (ones(4), ones(4)), 'the dtype of positive is float32; allowed: bool'),
    'mmd rank': (
        losses.multi_kernel_mmd,
        (ones(4, 2, 2, 1), ones(4, 2, 2, 1)),
        'the shape of source is (4, 2, 2, 1); allowed: [N, F] with N >= 2',
    ),
    'mmd of one': (
        losses.multi_kernel_mmd,
        (ones(4, 3), ones(1, 3)),
        'the shape of target is (1, 3); allowed: [N, F] with N >= 2',
    ),
    'mmd widths': (
        losses.multi_kernel_mmd,
        (ones(4, 3), ones(4, 1)),
        'the shape of target is (4, 1); allowed: [N, 3], for features (4, 3) of source',
    ),
    'mmd bandwidths': (
        partial(losses.multi_kernel_mmd, bandwidths=(1.0, 0.0)),
        (ones(4, 3), ones(4, 3)),
        'bandwidths is (1.0, 0.0); allowed: at least one, each > 0',
    ),
    'coral of one': (losses.coral, (ones(1, 3), ones(4, 3)), 'the shape of source is (1, 3); allowed: [N, F] with N >= 2'),
    'coral rank': (losses.coral, (ones(4), ones(4)), 'the shape of source is (4,); allowed: [N, F] with N >= 2'),
    'coral dtype': (losses.coral, (ones(4, 3, dtype=int), ones(4, 3, dtype=int)), 'the dtype of source is int'),
    'discrepancy': (
        losses.classifier_discrepancy,
        (ones(4, 3), ones(1, 3)),
        'the shape of second_logits is (1, 3); allowed: (4, 3), that of first_logits',
    ),
    'reversal': (losses.reverse_gradient, (ones(4, 3), ones(4)), 'the shape of strength is (4,); allowed: ()'),
    'kl': (
        losses.kl_divergence,
        (ones(4, 3), ones(3)),
        'the shape of target_logits is (3,); allowed: (4, 3), that of logits',
    ),
    'dequantise': (
        losses.dequantise,
        (ones(4, 2, 2, 1), ones(4, 1, 1, 1)),
        'the shape of noise is (4, 1, 1, 1); allowed: (4, 2, 2, 1), that of images',
    ),
    'dequantise dtype': (
        losses.dequantise,
        (ones(4, 2, 2, 1, dtype=np.uint8), ones(4, 2, 2, 1)),
        'the dtype of images is uint8; allowed: float32, float16, bfloat16, float64 (divide by 255?)',
    ),
    'normal': (
        losses.standard_normal_nll,
        (ones(4, 2), ones(4, 1)),
        'the shape of log_det is (4, 1); allowed: (4,), for latents',
    ),
    'normal rank': (
        losses.standard_normal_nll,
        (ones(4, 2, 2), ones(4)),
        'the shape of latents is (4, 2, 2); allowed: [B, D]',
    ),
    'bits': (partial(losses.bits_per_dim, dimensions=0), (ones(4),), 'dimensions is 0; allowed: > 0'),
    'squared': (
        losses.squared_error,
        (ones(4, 2, 2, 1), ones(1, 2, 2, 1)),
        'the shape of reconstruction is (4, 2, 2, 1); allowed: (1, 2, 2, 1), that of images',
    ),
    'bernoulli': (
        losses.bernoulli_nll,
        (ones(4, 4), ones(4, 2, 2)),
        'the shape of logits is (4, 4); allowed: (4, 2, 2), that of',
    ),
    'gaussian': (
        losses.gaussian_kl,
        (ones(4, 3), ones(4, 1)),
        'the shape of log_variance is (4, 1); allowed: (4, 3), that of mean',
    ),
    'elbo': (
        losses.negative_elbo,
        (ones(4, 1), ones(4, 3), ones(4, 3)),
        'the shape of reconstruction_loss is (4, 1); allowed: [B]',
    ),
    'mixup': (
        partial(losses.mixup, rng=KEY),
        (ones(4, 3), ones(2, 3)),
        'the shape of arrays[1] is (2, 3); allowed: [4, ...], as arrays[0]',
    ),
    'mixup dtype': (partial(losses.mixup, rng=KEY), (ones(4, dtype=int),), 'the dtype of arrays[0] is int'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_would_be_broadcast_is_refused(name):
    function, arguments, message = REFUSED[name]
    for call in (function, jax.jit(function)):
        with pytest.raises(ValueError, match=f'^{re.escape(message)}') as caught:
            call(*map(jnp.asarray, arguments))
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: losses.mixup(ones(4), rng=0), 'rng is 0; allowed: one key'),
        (lambda: losses.mixup(ones(4), rng=KEY, alpha=0.0), 'alpha is 0.0; allowed: > 0'),
        (lambda: losses.mixup(rng=KEY), 'mixup got no arrays; allowed: at least one'),
        (lambda: losses.sample_gaussian(ones(4, 2), ones(4, 2), rng=0), 'rng is 0; allowed: one key'),
        (lambda: losses.gradient_penalty(None, ones(4, 2), ones(4, 2), rng=0), 'rng is 0; allowed: one key'),
        (lambda: losses.clip_weights({}, -1.0), 'limit is -1.0; allowed: >= 0'),
        (lambda: losses.dequantise(2 * ones(4, 2), ones(4, 2)), 'images lie in 2..2; allowed: 0..1 (bounds)'),
        (lambda: losses.nats(8.0, -1), 'dimensions is -1; allowed: > 0'),
        (
            lambda: losses.cross_entropy(ones(2, 3, 3, 4), ones(2, 3, 3, dtype=int), where=ones(2, 1, 2) > 0),
            'the shape of where is (2, 1, 2); allowed: what broadcasts to (2, 3, 3)',
        ),
    ],
)
def test_values_out_of_range_are_refused(call, message):
    with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
        call()


LOGITS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


@pytest.mark.parametrize('kind', [np.asarray, jnp.asarray, list])
@pytest.mark.parametrize('wrong', [3, -1])
def test_a_concrete_label_that_is_no_class_is_refused(kind, wrong):
    labels = [0, 1, wrong, 2]
    message = f'^labels have the value {wrong}; allowed: 0..2, for logits of 3 classes'
    with pytest.raises(ValueError, match=message):
        losses.cross_entropy(LOGITS, kind(labels))
    if kind is not list:
        with pytest.raises(ValueError, match=message):
            losses.margin(LOGITS, kind(labels))
        np.testing.assert_array_equal(losses.correct(LOGITS, kind(labels))[2], False)
    with pytest.raises(ValueError, match=message):  # known to whoever compiles it
        jax.eval_shape(lambda logits: losses.cross_entropy(logits, np.asarray(labels)), LOGITS)


def test_a_traced_label_that_is_no_class_is_nan_where_it_counts():
    labels, where = np.asarray([0, 1, 3, -1]), np.asarray([True, True, True, False])
    found = jax.jit(losses.cross_entropy)(LOGITS, labels)
    assert np.isnan(found).tolist() == [False, False, True, True]
    np.testing.assert_array_equal(found[:2], losses.cross_entropy(LOGITS[:2], labels[:2]))
    found = jax.jit(lambda logits, labels: losses.cross_entropy(logits, labels, where=jnp.asarray(where)))(LOGITS, labels)
    assert np.isnan(found).tolist() == [False, False, True, False]
    assert np.isnan(jax.jit(losses.margin)(LOGITS, labels)).tolist() == [False, False, True, True]
    np.testing.assert_array_equal(jax.jit(losses.correct)(LOGITS, labels)[2:], [False, False])


def test_labels_of_64_bits_are_read_before_jax_cuts_them():
    labels = np.asarray([2**32, 1, 2, 0])
    with pytest.raises(ValueError, match=r'^labels have the value 4294967296'):
        losses.cross_entropy(LOGITS, labels)
    with pytest.raises(ValueError, match=r'^labels have the value 4294967296'):
        losses.cross_entropy(LOGITS, labels, where=jnp.ones(4, bool))
    assert not losses.correct(np.eye(3, dtype=np.float32)[[0, 0, 0, 0]], labels)[0]


@st.composite
def label_arrays(draw):
    """(logits, labels, what NumPy makes of them): losses [B] with NaN for labels that are no class, or None if refused."""
    shape, classes = draw(st.sampled_from([(3,), (2, 2)])), draw(st.sampled_from([1, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = (3 * rng.normal(size=(*shape, classes))).astype(draw(st.sampled_from(['float32', 'float16'])))
    other = draw(st.sampled_from([shape] * 4 + [(*shape, 1), (), (1,), shape[:1] * 2, (*shape, classes)]))
    dtype = draw(st.sampled_from(['int8', 'uint8', 'int32', 'int64', 'uint64', 'bool', 'float32', 'float16']))
    low, high = draw(st.sampled_from([(0, classes), (0, classes), (-1, classes + 1), (0, 300)]))
    labels = rng.integers(low, high, other).astype(dtype)
    soft = 'float' in dtype
    if soft:
        labels = labels / np.maximum(labels.sum(axis=-1, keepdims=True), 1).astype(dtype) if labels.ndim else labels
        labels = np.asarray(labels, logits.dtype)  # under strict promotion both are of one dtype
    if dtype == 'bool' or labels.shape != (logits.shape if soft else shape):
        return logits, labels, None
    log_probs = special.log_softmax(logits.astype(np.float64), axis=-1)
    if soft:
        return logits, labels, -(labels.astype(np.float64) * log_probs).sum(axis=-1)
    known = (labels.astype(np.float64) >= 0) & (labels.astype(np.float64) < classes)
    chosen = np.where(known, labels, 0).astype(np.int64)
    return logits, labels, np.where(known, -np.take_along_axis(log_probs, chosen[..., None], axis=-1)[..., 0], np.nan)


TRACED = jax.jit(losses.cross_entropy)


def check_labels(case):
    """As NumPy reads them: a value, NaN where a traced label is no class, one line where it is concrete or of no use."""
    logits, labels, expected = case
    if expected is None:
        for call in (losses.cross_entropy, TRACED):
            with pytest.raises(ValueError, match=r'^the (shape|dtype) of (labels|probabilities) is [^\n]*; allowed: '):
                call(logits, labels)
        return
    close = {'rtol': 1e-4, 'atol': 1e-5} if logits.dtype == np.float32 else {'rtol': 2e-2, 'atol': 2e-2}
    np.testing.assert_allclose(np.asarray(TRACED(logits, labels), np.float64), expected, **close)
    if np.isnan(expected).any():
        with pytest.raises(ValueError, match=r'^labels have the value -?\d+; allowed: 0\.\.'):
            losses.cross_entropy(logits, labels)
    else:
        np.testing.assert_allclose(np.asarray(losses.cross_entropy(logits, labels), np.float64), expected, **close)


@given(label_arrays())
@settings(max_examples=20)
def test_labels_are_read_as_numpy_reads_them_or_refused(case):
    check_labels(case)


@pytest.mark.slow
@given(label_arrays())
@settings(max_examples=2000)
def test_two_thousand_label_arrays(case):
    check_labels(case)


def test_labels_are_clean_under_debug_nans():
    """Outside of jit, where each operation is looked at: what marks labels that are no class is no NaN by itself."""
    labels, where = np.asarray([0, 1, 9, 0]), jnp.asarray([True, True, False, True])
    with jax.debug_nans(True):
        assert np.isfinite(losses.cross_entropy(LOGITS, labels, where=where)).all()
        assert np.isfinite(losses.margin(LOGITS, labels % 3)).all()


@pytest.mark.slow
def test_every_loss_is_clean_under_debug_nans():
    """Every public function on inputs that it is for, outside of jit: each operation is looked at."""
    features = jnp.asarray(LOGITS)
    row = features[:, 0]
    calls = [
        lambda: losses.cross_entropy(features, np.asarray([0, 1, 2, 0])),
        lambda: losses.cross_entropy(features, np.asarray([0, 1, 9, 0]), where=jnp.asarray([True, True, False, True])),
        lambda: losses.margin(features, np.asarray([0, 1, 2, 0])),
        lambda: losses.kl_divergence(features, features),
        lambda: losses.multi_kernel_mmd(features, features[:3]),
        lambda: losses.coral(features, features[:3]),
        lambda: losses.classifier_discrepancy(features, features),
        lambda: losses.binary_cross_entropy(row, True),
        lambda: losses.standard_normal_nll(features, row),
        lambda: losses.gradient_penalty(lambda x: x.sum(1) * 0, features, features, rng=KEY),
        lambda: losses.mixup(features, rng=KEY),
        lambda: losses.bernoulli_nll(features, jnp.abs(features) * 0),
        lambda: losses.negative_elbo(row, features, features),
        *(lambda loss=loss: loss.discriminator(row, row) + loss.generator(row) for loss in losses.GAN_LOSSES.values()),
    ]
    with jax.debug_nans(True):
        for call in calls:
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(call()))
