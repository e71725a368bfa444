"""The linear flow x = mu + A z of Pope, Balaji & Feizi 2020 (arXiv:1911.08654), as a network that is trained by gradients;
its closed forms are in `gjax.attacks.linear_flow`.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from gjax.nets.bijectors import check_inputs


class LinearFlow(nn.Module):
    """z = exp(d) * (I + L) (x - mu), L strictly lower triangular: A is its inverse, and L are regressions of every pixel on
    those before it, of order 1 however narrow the data. Images [B, H, W, C], or vectors [B, D], to latents [B, H W C] and,
    with `inverse`, back; and log-determinants [B]. It begins with the first batch's mean and spread of every pixel; always
    float32.
    """

    image_shape: tuple[int, ...]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs, *, inverse: bool = False):
        check_inputs(inputs, self.image_shape, inverse=inverse)
        x, size = inputs.reshape(len(inputs), -1), math.prod(self.image_shape)
        mean = self.param('mean', lambda _: jnp.mean(x, axis=0))
        log_diagonal = self.param('log_diagonal', lambda _: -jnp.log(jnp.std(x, axis=0) + 1e-2))
        lower = self.param('lower', nn.initializers.zeros_init(), (size, size))
        whiten = jnp.exp(log_diagonal)[:, None] * (jnp.tril(lower, -1) + jnp.eye(size))
        log_det = jnp.full(len(x), jnp.sum(log_diagonal))
        if inverse:
            images = jax.scipy.linalg.solve_triangular(whiten, inputs.T, lower=True).T + mean[None]
            return images.reshape(-1, *self.image_shape), -log_det
        return jnp.matmul(x - mean[None], whiten.T, precision=lax.Precision.HIGHEST), log_det


def linear_flow_params(mean, covariance):
    """The parameters with which `LinearFlow` is N(mean [D], covariance [D, D])."""
    whiten = jnp.linalg.inv(jnp.linalg.cholesky(covariance))
    diagonal = jnp.diagonal(whiten)
    return {'mean': mean, 'log_diagonal': jnp.log(diagonal), 'lower': jnp.tril(whiten / diagonal[:, None], -1)}
