"""The digit networks of Generate To Adapt (Sankaranarayanan et al. 2018, arXiv:1704.01705), as in the authors' code.

Parameters for 32 x 32 x 3 images, 10 classes, embeddings of 128 and noise of 512 numbers: embedding 312,256, classifier
17,802, generator 4,090,755, discriminator 668,427.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gjax.nets.layers import BatchNorm, Conv, ConvTranspose, standardize

_conv_init = nn.initializers.normal(0.02)
_dense_init = nn.initializers.normal(0.1)


def _torch_bias(fan_in: int):
    """PyTorch's default for the biases of convolutions: uniform within 1 / sqrt(fan in)."""
    limit = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -limit, limit)


def _scale_init(key, shape, dtype=jnp.float32):
    return 1 + 0.02 * jax.random.normal(key, shape, dtype)


class GTAEmbedding(nn.Module):
    """F: images [B, H, W, C] in [0, 1] to embeddings [B, D] by three 5x5 convolutions; of 32 pixels D is the last width."""

    widths: Sequence[int] = (64, 64, 128)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool = False):
        channels = images.shape[-1]
        x = standardize(images, (0.44,) * channels, (0.19,) * channels).astype(self.dtype)
        for i, width in enumerate(self.widths):
            inits = {'kernel_init': _conv_init, 'bias_init': _torch_bias(25 * x.shape[-1])}
            x = nn.relu(Conv(width, (5, 5), padding='VALID', dtype=self.dtype, **inits)(x))
            if i < len(self.widths) - 1:
                x = nn.max_pool(x, (2, 2), (2, 2))
        return x.reshape(len(x), -1).astype(jnp.float32)


class GTAClassifier(nn.Module):
    """C: embeddings [B, D] to class logits [B, K], with one hidden layer."""

    classes: int
    hidden: int = 128

    @nn.compact
    def __call__(self, embeddings):
        hidden = nn.relu(nn.Dense(self.hidden, kernel_init=_dense_init)(embeddings))
        return nn.Dense(self.classes, kernel_init=_dense_init)(hidden)


class GTAGenerator(nn.Module):
    """G: conditions [B, (K + 1) + D + Z], label, embedding and noise, to images [B, H, W, C] in (-1, 1).

    width: of the last hidden layer; each before has twice as many. H = W = 2 ** (stages + 1).
    """

    channels: int = 3
    width: int = 64
    stages: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, conditions, *, train: bool):
        x = conditions.astype(self.dtype)[:, None, None]
        for i in range(self.stages):
            width = self.width * 2 ** (self.stages - 1 - i)
            kernel = (2, 2) if i == 0 else (4, 4)
            x = ConvTranspose(width, kernel, 2, use_bias=False, dtype=self.dtype, kernel_init=_conv_init)(x)
            x = nn.relu(BatchNorm(dtype=self.dtype, scale_init=_scale_init)(x, train=train))
        x = ConvTranspose(self.channels, (4, 4), 2, dtype=self.dtype, kernel_init=_conv_init)(x)
        return jnp.tanh(x.astype(jnp.float32))


class GTADiscriminator(nn.Module):
    """D: images [B, H, W, C] in [-1, 1] to ('real source' logit [B], class logits [B, K]).

    Batches of real source, generated source and generated target images pass one by one: each has its own statistics.
    """

    classes: int
    width: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = images.astype(self.dtype)
        for factor, pool in ((1, 2), (2, 2), (4, 2), (2, 4)):
            inits = {'kernel_init': _conv_init, 'bias_init': _torch_bias(9 * x.shape[-1])}
            x = Conv(self.width * factor, padding=1, dtype=self.dtype, **inits)(x)
            x = nn.leaky_relu(BatchNorm(dtype=self.dtype, scale_init=_scale_init)(x, train=train), 0.2)
            x = nn.max_pool(x, (pool, pool), (pool, pool))
        features = x.reshape(len(x), -1).astype(jnp.float32)
        real = nn.Dense(1, kernel_init=_dense_init, name='real')(features)[:, 0]
        return real, nn.Dense(self.classes, kernel_init=_dense_init, name='class')(features)
