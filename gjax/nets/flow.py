"""What a flow of `gjax.nets.FLOWS` is for: the likelihood of images, and samples."""

import math

import jax
import jax.numpy as jnp

from gjax.losses import dequantise, standard_normal_nll


def flow_nll(flow, variables, images, *, rng):
    """-log p(y) [B] in nats.

    Args:
      flow: of `gjax.nets.FLOWS`.
      variables: its parameters and fixed values.
      images: y, [B, H, W, C] in [0, 1], dequantised with uniform noise; or vectors [B, D] for a flow of vectors, which are
        taken as they are.
      rng: key of the noise.
    """
    if len(flow.image_shape) == 1:
        return standard_normal_nll(*flow.apply(variables, images))
    noise = jax.random.uniform(rng, images.shape)
    return standard_normal_nll(*flow.apply(variables, dequantise(images, noise)))


def flow_samples(flow, variables, count: int, *, rng, temperature: float = 1.0):
    """Samples from latents of N(0, temperature^2 I) (Kingma & Dhariwal 2018, 5): `count` images [count, H, W, C], clipped to
    [0, 1], or vectors [count, D].
    """
    latents = temperature * jax.random.normal(rng, (count, math.prod(flow.image_shape)))
    found = flow.apply(variables, latents, inverse=True)[0]
    return found if len(flow.image_shape) == 1 else jnp.clip(found, 0.0, 1.0)
