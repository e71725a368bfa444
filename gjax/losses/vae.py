"""Losses of (variational) autoencoders, per example [B] in nats; images are [B, H, W, C] in [0, 1].

Arrays are of a float dtype. Every function raises ValueError for shapes and dtypes that do not fit, also under `jax.jit`:
nothing is broadcast.
"""

import jax
import jax.numpy as jnp

from gjax.checks import check_floats, check_key, check_shape, check_shapes


def sum_per_example(values):
    """[B, ...] to [B]."""
    check_shape('values', values, (None, ...), '[B, ...]')
    return jnp.sum(values.reshape(values.shape[0], -1), axis=-1)


def squared_error(reconstruction, images):
    """sum over pixels of (reconstruction - image)^2, [B]; both [B, ...] in [0, 1]."""
    check_shapes((None, ...), '[B, ...]', images=images, reconstruction=reconstruction)
    check_floats(images=images, reconstruction=reconstruction)
    return sum_per_example((reconstruction - images) ** 2)


def bernoulli_nll(logits, images):
    """-sum over pixels of x log s(l) + (1 - x) log(1 - s(l)), s the sigmoid: [B], in nats (Kingma & Welling 2013, C.1).

    Args:
      logits: [B, ...], unbounded.
      images: [B, ...] in [0, 1], read as probabilities.
    """
    check_shapes((None, ...), '[B, ...]', images=images, logits=logits)
    check_floats(images=images, logits=logits)
    return sum_per_example(jax.nn.softplus(logits) - images * logits)


def _check_gaussian(mean, log_variance) -> None:
    check_shapes((..., None), '[..., Z]', mean=mean, log_variance=log_variance)
    check_floats(mean=mean, log_variance=log_variance)


def gaussian_kl(mean, log_variance):
    """KL(N(mean, exp(log_variance)) || N(0, I)) = 1/2 sum(mean^2 + exp(lv) - 1 - lv) (Kingma & Welling 2013, Eq. 10).

    Args:
      mean, log_variance: [..., Z], such as [B, Z].

    Returns:
      [...], >= 0, in nats.
    """
    _check_gaussian(mean, log_variance)
    return 0.5 * jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance, axis=-1)


def sample_gaussian(mean, log_variance, *, rng):
    """mean + exp(lv / 2) eps, eps standard normal: differentiable in both (Kingma & Welling 2013, section 2.4). [..., Z]."""
    check_key('rng', rng)
    _check_gaussian(mean, log_variance)
    return mean + jnp.exp(0.5 * log_variance) * jax.random.normal(rng, mean.shape, mean.dtype)


def negative_elbo(reconstruction_loss, mean, log_variance, beta: float = 1.0):
    """reconstruction_loss + beta KL, [B]; beta 1 is the VAE, above 1 the beta-VAE (Higgins et al. 2017, Eq. 4)."""
    kl = gaussian_kl(mean, log_variance)
    check_shapes((None,), '[B]', reconstruction_loss=reconstruction_loss, kl=kl)
    return reconstruction_loss + beta * kl
