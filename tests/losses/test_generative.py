"""Losses of autoencoders and GANs against closed forms, scipy and Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gjax import losses

REAL, FAKE = jnp.asarray([2.0, -0.5, 0.0]), jnp.asarray([-3.0, 0.5, 0.0])


def test_an_undecided_discriminator_pays_two_log_two():
    loss = losses.GAN_LOSSES['non_saturating']
    np.testing.assert_allclose(loss.discriminator(jnp.zeros(2), jnp.zeros(2)), 2 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(loss.generator(jnp.zeros(2)), np.log(2), rtol=1e-6)


def test_gan_losses_are_their_formulas():
    probability = 1 / (1 + np.exp(-np.asarray(FAKE, np.float64)))
    real_probability = 1 / (1 + np.exp(-np.asarray(REAL, np.float64)))
    expected = {
        'non_saturating': (-np.log(real_probability) - np.log(1 - probability), -np.log(probability)),
        'saturating': (-np.log(real_probability) - np.log(1 - probability), np.log(1 - probability)),
        'hinge': (np.maximum(0, 1 - REAL) + np.maximum(0, 1 + FAKE), -FAKE),
        'wasserstein': (FAKE - REAL, -FAKE),
    }
    assert set(losses.GAN_LOSSES) == set(expected)
    for name, (discriminator, generator) in expected.items():
        np.testing.assert_allclose(losses.GAN_LOSSES[name].discriminator(REAL, FAKE), discriminator, rtol=1e-5)
        np.testing.assert_allclose(losses.GAN_LOSSES[name].generator(FAKE), generator, rtol=1e-5)


@pytest.mark.parametrize('name', losses.GAN_LOSSES)
def test_the_players_pull_in_opposite_directions_and_far_logits_stay_finite(name):
    loss = losses.GAN_LOSSES[name]
    fake = jnp.asarray([0.3, -0.4])
    down = jax.grad(lambda f: loss.discriminator(jnp.zeros(2), f).sum())(fake)
    up = jax.grad(lambda f: loss.generator(f).sum())(fake)
    assert (down * up < 0).all()
    far = jnp.asarray([1e4, -1e4])
    for gradient in (
        jax.grad(lambda f: loss.generator(f).sum())(far),
        jax.grad(lambda f: loss.discriminator(f, f).sum())(far),
    ):
        assert np.isfinite(gradient).all()


def test_gradient_penalty_of_linear_and_constant_critics():
    weights = jnp.asarray([[3.0, 0.0], [0.0, 4.0]]).reshape(2, 2, 1)
    real, fake = jnp.ones((5, 2, 2, 1)), jnp.zeros((5, 2, 2, 1))

    def penalty(scale, target=1.0):
        critic = lambda x: scale * jnp.sum(x * weights[None], axis=(1, 2, 3))  # noqa: E731
        return losses.gradient_penalty(critic, real, fake, rng=jax.random.key(0), target=target)

    np.testing.assert_allclose(penalty(1.0), 16.0, rtol=1e-6)
    np.testing.assert_allclose(penalty(0.4, target=2.0), 0.0, atol=1e-6)
    value, slope = jax.value_and_grad(lambda s: penalty(s).mean())(0.0)
    assert (value, slope) == (1.0, 0.0)  # and not NaN


def test_gradient_penalty_looks_between_the_images():
    real, fake = jnp.full((1000, 1, 1, 1), 2.0), jnp.full((1000, 1, 1, 1), 1.0)
    norms = jnp.sqrt(
        losses.gradient_penalty(lambda x: 0.5 * jnp.sum(x**2, (1, 2, 3)), real, fake, rng=jax.random.key(1), target=0.0)
    )
    assert norms.min() > 1
    assert norms.max() < 2
    assert stats.kstest(np.asarray(norms), 'uniform', (1, 1)).pvalue > 1e-3


def test_clipped_weights():
    clipped = losses.clip_weights({'a': jnp.asarray([-2.0, 0.005]), 'b': jnp.asarray(1.0)}, 0.01)
    np.testing.assert_allclose(clipped['a'], [-0.01, 0.005])
    np.testing.assert_allclose(clipped['b'], 0.01)


def test_gaussian_kl_is_monte_carlos_and_zero_at_the_prior():
    mean, log_variance = jnp.asarray([[0.5, -1.0], [0.0, 0.0]]), jnp.asarray([[0.3, -0.7], [0.0, 0.0]])
    kl = losses.gaussian_kl(mean, log_variance)
    keys = jax.random.split(jax.random.key(0), 200_000)
    draws = np.asarray(jax.vmap(lambda key: losses.sample_gaussian(mean[0], log_variance[0], rng=key))(keys))
    scale = np.exp(0.5 * np.asarray(log_variance[0]))
    ratio = stats.norm.logpdf(draws, mean[0], scale) - stats.norm.logpdf(draws)
    np.testing.assert_allclose(kl[0], ratio.sum(axis=1).mean(), rtol=0.01)
    assert kl[1] == 0


def test_reconstruction_losses():
    logits = jax.random.normal(jax.random.key(0), (3, 4, 4, 1))
    images = jax.random.bernoulli(jax.random.key(1), 0.5, logits.shape).astype(jnp.float32)
    probability = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    expected = -stats.bernoulli.logpmf(np.asarray(images), probability).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(losses.bernoulli_nll(logits, images), expected, rtol=1e-5)
    np.testing.assert_allclose(losses.squared_error(images + 0.5, images), 4.0)
    elbo = losses.negative_elbo(jnp.ones(2), jnp.ones((2, 3)), jnp.zeros((2, 3)), beta=4.0)
    np.testing.assert_allclose(elbo, 1 + 4 * 1.5)
