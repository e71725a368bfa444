"""Latent attacks on a linear generator and a linear classifier, whose worst points are known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import attacks
from tests.linear import binary_model

RNG = np.random.default_rng(6)
MIX = RNG.normal(size=(3, 16)).astype(np.float32) * 0.1
W, B, LINEAR = binary_model(RNG, 16)
LATENTS = RNG.normal(size=(6, 3)).astype(np.float32)


def generate(latents):
    return (0.5 + latents @ jnp.asarray(MIX)).reshape(-1, 4, 4, 1)


IMAGES = np.asarray(generate(LATENTS))
SCORE = IMAGES.reshape(6, -1) @ W + B
LABELS = (SCORE > 0).astype(np.int32)
SIGN = np.where(LABELS == 1, 1, -1)


def _scores(images):
    return SIGN * (np.asarray(images).reshape(6, -1) @ W + B)


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_latent_pgd_reaches_the_worst_point_of_the_ball(norm):
    options = {'rng': jax.random.key(0), 'steps': 60, 'step_size': 0.4, 'norm': norm, 'step_schedule': 'cosine'}
    images, latents = attacks.latent_pgd(LINEAR, generate, LATENTS, LABELS, 0.5, **options)
    slope = MIX @ W
    worst = 0.5 * (np.abs(slope).sum() if norm == 'linf' else np.linalg.norm(slope))
    np.testing.assert_allclose(_scores(images), SIGN * SCORE - worst, atol=1e-4)
    np.testing.assert_allclose(images, generate(latents), atol=1e-6)


def test_latent_search_reaches_the_worst_image_of_the_generator_within_eps():
    """The slope's part in the generator's range is all that moves the score: it changes by eps times its length."""
    basis, _ = np.linalg.qr(MIX.T)
    reach = np.linalg.norm(basis.T @ W)
    eps = np.asarray([0.1, 0.2, 0.3, 0.1, 0.2, 0.3], np.float32)
    images, latents, found = attacks.latent_search(LINEAR, generate, LATENTS, IMAGES, LABELS, eps, steps=400)
    assert found.all()
    np.testing.assert_allclose(images, generate(latents), atol=1e-6)
    distance = np.linalg.norm((np.asarray(images) - IMAGES).reshape(6, -1), axis=1)
    assert (distance <= eps * (1 + 1e-5)).all()
    gained = SIGN * SCORE - _scores(images)
    assert (gained <= eps * reach * (1 + 1e-4)).all()
    assert (gained >= 0.9 * eps * reach).all()


def test_latent_search_says_where_the_generator_stays_too_far_away():
    away = IMAGES + np.where(np.arange(6) < 3, 5.0, 0.0).astype(np.float32)[:, None, None, None]
    options = {'steps': 3, 'learning_rate': 0.01}
    images, latents, found = attacks.latent_search(LINEAR, generate, LATENTS, away, LABELS, 0.2, **options)
    np.testing.assert_array_equal(found, np.arange(6) >= 3)
    np.testing.assert_array_equal(latents[:3], LATENTS[:3])
    np.testing.assert_allclose(images[:3], IMAGES[:3], atol=1e-6)
    with pytest.raises(ValueError, match='learning_rate is 0; allowed: > 0'):
        attacks.latent_search(LINEAR, generate, LATENTS, IMAGES, LABELS, 0.2, learning_rate=0)
