"""What a flow of `gjax.nets.FLOWS` is for: the likelihood of images, and samples."""

import math

import jax
import jax.numpy as jnp

from gjax.losses import dequantise, standard_normal_nll


def flow_nll(flow, variables, images, *, rng):
    """-log p(y) [B] in nats, y the images [B, H, W, C] in [0, 1] dequantised with uniform noise from rng."""
    noise = jax.random.uniform(rng, images.shape)
    return standard_normal_nll(*flow.apply(variables, dequantise(images, noise)))


def flow_samples(flow, variables, count: int, *, rng, temperature: float = 1.0):
    """`count` images [count, H, W, C] in [0, 1] from latents of N(0, temperature^2 I) (Kingma & Dhariwal 2018, 5)."""
    latents = temperature * jax.random.normal(rng, (count, math.prod(flow.image_shape)))
    return jnp.clip(flow.apply(variables, latents, inverse=True)[0], 0.0, 1.0)
