"""Likelihoods of normalizing flows, per example [B]; images are [B, H, W, C] in [0, 1], of 256 levels.

Arrays are of a float dtype. Every function raises ValueError for shapes and dtypes that do not fit, also under `jax.jit`.
"""

import math

import jax.numpy as jnp

from gjax.checks import check_floats, check_images, check_shape, check_shapes, positive

LEVELS = 256


def dequantise(images, noise):
    """(255 x + u) / 256 in [0, 1]: a density over it bounds the probability of images of 256 levels (Theis, van den Oord &
    Bethge 2016, section 3.1; `bits_per_dim` is in these units).

    Args:
      images: [B, H, W, C] (or [B, ...]) in [0, 1]; concrete ones outside are refused.
      noise: u, uniform in [0, 1), the images' shape.
    """
    check_images('images', images)
    check_shapes((...,), '', images=images, noise=noise)
    check_floats(noise=noise)
    return ((LEVELS - 1) * images + noise) / LEVELS


def standard_normal_nll(latents, log_det):
    """-log p(x) = 1/2 |z|^2 + D/2 log(2 pi) - log |det dz/dx|, in nats (change of variables, z ~ N(0, I)).

    Args:
      latents: z [B, D].
      log_det: [B].

    Returns:
      [B].
    """
    check_shape('latents', latents, (None, None), '[B, D]')
    check_shape('log_det', log_det, (latents.shape[0],), f'({latents.shape[0]},), for latents {tuple(latents.shape)}')
    check_floats(latents=latents, log_det=log_det)
    return 0.5 * jnp.sum(latents**2, axis=1) + 0.5 * latents.shape[1] * math.log(2 * math.pi) - log_det


def bits_per_dim(nll, dimensions: int):
    """nll / (D ln 2) + 8: bits that a pixel's level takes, from the NLL [B] in nats of images scaled to [0, 1] (Papamakarios
    et al. 2017, appendix E). 8 for the uniform density. `dimensions` is D, > 0.
    """
    positive('dimensions', dimensions, zero=False)
    return nll / (dimensions * math.log(2)) + math.log2(LEVELS)


def nats(bits, dimensions: int):
    """The NLL whose `bits_per_dim` is `bits`."""
    positive('dimensions', dimensions, zero=False)
    return (bits - math.log2(LEVELS)) * (dimensions * math.log(2))
