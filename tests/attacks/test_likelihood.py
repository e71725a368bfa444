"""Attacks on likelihoods: against the optimum of linear flows, and where likelihoods are not finite or noisy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import attacks
from gjax.attacks.linear_flow import gaussian_nll, sample_perturbation, universal_increase, universal_perturbation

COVARIANCE = jnp.diag(jnp.asarray([0.5, 1.0, 2.0, 4.0, 4.5, 9.0]) * 1e-3)
MEAN = jnp.full(6, 0.5)


def gaussian(images, rng=None):
    return gaussian_nll(images.reshape(len(images), -1), MEAN, COVARIANCE)


def gaussian_images(seed: int, count: int = 64):
    """Draws of the Gaussian, far enough from 0 and 1 for no perturbation to be clipped."""
    draws = jax.random.normal(jax.random.key(seed), (count, 6)) * jnp.sqrt(jnp.diagonal(COVARIANCE))[None]
    return jnp.clip(MEAN[None] + draws, 0.2, 0.8).reshape(count, 1, 3, 2)


@pytest.mark.parametrize('eps', [0.01, 0.05, 0.15])
def test_pgd_reaches_the_optimum_of_a_linear_flow(eps):
    images = gaussian_images(0)
    options = {'steps': 100, 'step_size': 0.5 * eps, 'norm': 'l2', 'restarts': 16, 'step_schedule': 'cosine'}
    found = jax.jit(partial(attacks.raise_nll, gaussian, eps=eps, rng=jax.random.key(1), **options))(images)
    best = images + sample_perturbation(images.reshape(-1, 6), MEAN, COVARIANCE, eps).reshape(images.shape)
    increase, optimum = gaussian(found) - gaussian(images), gaussian(best) - gaussian(images)
    assert float((increase / optimum).min()) > 0.99
    assert float((increase / optimum).max()) < 1 + 1e-3
    noise = attacks.random_noise(images, eps, rng=jax.random.key(2), norm='l2')
    assert (gaussian(noise) - gaussian(images) < optimum).all()


def test_the_universal_direction_is_the_worst_on_average():
    points = gaussian_images(3, 4096).reshape(-1, 6)
    points -= points.mean(0)[None] - MEAN[None]

    def increase(delta):
        return float(jnp.mean(gaussian(points + delta[None]) - gaussian(points)))

    worst = increase(universal_perturbation(COVARIANCE, 0.05))
    np.testing.assert_allclose(worst, universal_increase(COVARIANCE, 0.05), rtol=1e-3)
    directions = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    others = [increase(jnp.asarray(0.05 * d / np.linalg.norm(d))) for d in directions]
    assert max(others) < worst


def test_lowered_down_to_a_level():
    images = jnp.clip(gaussian_images(4) + 0.08, 0, 1)
    median = jnp.median(gaussian(gaussian_images(5)))
    attack = partial(attacks.lower_nll, gaussian, images, rng=jax.random.key(0), steps=50)
    free, stopped = attack(0.1), attack(0.1, level=median, step_schedule='linear')
    assert (gaussian(free) < gaussian(images)).all()
    assert float(jnp.mean(gaussian(free) < median)) > 0.9
    assert float(jnp.mean(gaussian(stopped) <= median)) > 0.9
    assert float(jnp.mean(gaussian(stopped))) > float(jnp.mean(gaussian(free))) + 0.5
    for found in (free, stopped):
        assert float(jnp.abs(found - images).max()) <= 0.1 + 1e-6
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1


def test_likelihoods_that_are_not_finite():
    """Raising finds them, also if only one start does; lowering never takes them, and gradients of NaN move nothing."""
    images = jnp.full((4, 1, 1, 2), 0.5)

    def breaks(images, rng=None):
        values = images.reshape(len(images), -1).sum(1)
        return jnp.where(values > 1.15, jnp.nan, -values)

    raised = attacks.raise_nll(breaks, images, 0.1, rng=jax.random.key(0), steps=0, restarts=64)
    assert np.isnan(breaks(raised)).all()
    for restarts in (1, 2):
        lowered = attacks.lower_nll(breaks, images, 0.1, rng=jax.random.key(3), steps=20, restarts=restarts)
        assert np.isfinite(breaks(lowered)).all()
    stuck = attacks.raise_nll(lambda x, rng: x.sum((1, 2, 3)) * jnp.nan, images, 0.1, rng=jax.random.key(0), steps=3)
    assert np.isfinite(stuck).all()


@pytest.mark.parametrize('schedule', ['constant', 'linear', 'cosine'])
def test_default_steps_cross_the_ball(schedule):
    """From any start to the corner where a linear NLL is largest."""
    images = jnp.full((64, 2, 2, 1), 0.5)
    weights = jnp.asarray([1.0, -2.0, 0.1, 3.0]).reshape(1, 2, 2, 1)
    options = {'rng': jax.random.key(0), 'steps': 40, 'step_schedule': schedule}
    found = attacks.raise_nll(lambda x, rng: jnp.sum(x * weights, axis=(1, 2, 3)), images, 0.1, **options)
    np.testing.assert_allclose(found - images, jnp.broadcast_to(0.1 * jnp.sign(weights), images.shape), atol=1e-5)


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_gradients_of_any_size_have_a_direction(norm):
    images = jnp.full((2, 1, 1, 2), 0.5)
    slopes = jnp.asarray([1e-20, 1e25])

    def steep(images, rng):
        return slopes * (images[:, 0, 0, 0] - 2 * images[:, 0, 0, 1])

    found = attacks.raise_nll(steep, images, 0.1, rng=jax.random.key(0), steps=20, norm=norm, random_start=False)
    moved = np.asarray(found - images).reshape(2, 2)
    expected = {'linf': [0.1, -0.1], 'l2': np.array([0.1, -0.2]) / np.sqrt(5)}[norm]
    np.testing.assert_allclose(moved, np.tile(expected, (2, 1)), atol=1e-3)


def test_expectation_over_the_noise():
    """The mean over draws has one sign everywhere; a single draw's gradient is mostly noise."""
    images = jnp.full((2, 4, 4, 1), 0.5)

    def noisy(images, rng):
        return jnp.sum(images * (0.3 + jax.random.normal(rng, images.shape)), axis=(1, 2, 3))

    up = {
        draws: attacks.raise_nll(noisy, images, 0.1, rng=jax.random.key(0), steps=5, draws=draws, random_start=False)
        for draws in (1, 400)
    }
    np.testing.assert_allclose(up[400], 0.6, atol=1e-6)
    assert float(up[1].min()) < 0.45


def test_refusals():
    images = gaussian_images(0, 2)
    with pytest.raises(ValueError, match='draws is 0'):
        attacks.raise_nll(gaussian, images, 0.1, rng=jax.random.key(0), draws=0)
    with pytest.raises(ValueError, match="step_schedule is 'exp'; allowed: constant, linear, cosine"):
        attacks.lower_nll(gaussian, images, 0.1, rng=jax.random.key(0), step_schedule='exp')
