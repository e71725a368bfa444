"""The multi-targeted attack on linear models of several classes, whose robust accuracy is known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import attacks
from gjax.attacks.multi_targeted import target_margin

RNG = np.random.default_rng(7)
WEIGHTS = RNG.normal(size=(12, 5)).astype(np.float32)
IMAGES = RNG.uniform(0.4, 0.6, (40, 2, 3, 2)).astype(np.float32)  # the bounds stay inactive for eps < 0.4


def logits_fn(images):
    return images.reshape(len(images), -1) @ jnp.asarray(WEIGHTS).astype(images.dtype)


LOGITS = IMAGES.reshape(40, -1) @ WEIGHTS
LABELS = np.where(np.arange(40) < 35, LOGITS.argmax(axis=1), (LOGITS.argmax(axis=1) + 1) % 5)  # the last five are wrong


def radii(norm):
    """The distance of each image to the nearest boundary, [40]; zero where it is on the wrong side."""
    gaps = LOGITS[np.arange(40), LABELS][:, None] - LOGITS
    slopes = WEIGHTS.T[LABELS] - WEIGHTS.T[:, None]
    sizes = np.abs(slopes).sum(axis=2).T if norm == 'linf' else np.linalg.norm(slopes, axis=2).T
    distances = np.where(sizes > 0, gaps / np.where(sizes > 0, sizes, 1), np.inf)
    return np.maximum(distances.min(axis=1), 0)


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_it_finds_every_adversarial_image_of_a_linear_model_and_none_beyond(norm):
    distance = radii(norm)
    eps = np.where(np.arange(40) % 2 == 0, 1.02, 0.98).astype(np.float32) * np.maximum(distance, 0.01).astype(np.float32)
    attack = jax.jit(lambda *inputs: attacks.multi_targeted(logits_fn, *inputs, rng=jax.random.key(0), norm=norm))
    found = attack(IMAGES, LABELS, eps)
    attacks.check_adversarial(found, IMAGES, eps, norm=norm)
    fooled = np.asarray(logits_fn(found)).argmax(axis=1) != LABELS
    np.testing.assert_array_equal(fooled, distance < eps)
    np.testing.assert_array_equal(found[35:], IMAGES[35:])  # wrong without an attack


def test_without_success_the_highest_margin_is_returned():
    """Three of a class's neighbours can be reached; with one target only the nearest by logits is tried."""
    options = {'rng': jax.random.key(1), 'steps': 10}
    found = attacks.multi_targeted(logits_fn, IMAGES[:35], LABELS[:35], 0.01, **options)
    scores = np.asarray(logits_fn(found)) - np.take_along_axis(np.asarray(logits_fn(found)), LABELS[:35, None], axis=1)
    slopes = WEIGHTS.T[LABELS[:35]] - WEIGHTS.T[:, None]
    reached = LOGITS[:35] - np.take_along_axis(LOGITS[:35], LABELS[:35, None], axis=1) + 0.01 * np.abs(slopes).sum(axis=2).T
    others = np.arange(5)[None] != LABELS[:35, None]
    best = np.where(others, reached, -np.inf).max(axis=1)
    standing = best < 0
    assert standing.sum() > 10
    np.testing.assert_allclose(np.where(others, scores, -np.inf).max(axis=1)[standing], best[standing], atol=1e-5)


def test_the_margin_of_a_target():
    logits = jnp.asarray([[3.0, 1.0, 2.0, 0.0], [0.0, 5.0, -1.0, 2.0]])
    labels = jnp.asarray([0, 3])
    np.testing.assert_array_equal(target_margin(logits, labels, jnp.asarray([2, 2])), [-1.0, -3.0])


def test_half_precision_and_arguments():
    images = jnp.asarray(IMAGES[:4], jnp.bfloat16)
    options = {'rng': jax.random.key(2), 'steps': 3, 'random_start': True}
    found = attacks.multi_targeted(logits_fn, images, LABELS[:4], 0.05, **options)
    assert found.dtype == images.dtype
    attacks.check_adversarial(found, images, 0.05)
    with pytest.raises(ValueError, match='targets is 0; allowed: > 0'):
        attacks.multi_targeted(logits_fn, images, LABELS[:4], 0.05, rng=jax.random.key(0), targets=0)
    with pytest.raises(ValueError, match='the number of classes is 1'):
        attacks.multi_targeted(lambda x: logits_fn(x)[:, :1], images, LABELS[:4] * 0, 0.05, rng=jax.random.key(0))
    with pytest.raises(ValueError, match='the dtype of labels is float32; allowed: integers'):
        attacks.multi_targeted(logits_fn, images, np.zeros(4, np.float32), 0.05, rng=jax.random.key(0))
