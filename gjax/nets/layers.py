"""Layers that every network shares: convolutions, pooling with a gradient that is fast on CPUs, normalisation."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from gjax.nets.cpu.convolutions import conv2d, conv_transpose2d

he_normal = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


class Conv(nn.Module):
    """Convolution on NHWC images; parameters are float32, the arithmetic is in `dtype`.

    `padding` is 'SAME', 'VALID' or one int for all sides.
    """

    features: int
    kernel_size: Sequence[int] = (3, 3)
    strides: int = 1
    padding: str | int = 'SAME'
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Any = he_normal
    bias_init: Any = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, images):
        kernel_shape = (*self.kernel_size, images.shape[-1], self.features)
        kernel = self.param('kernel', self.kernel_init, kernel_shape, jnp.float32)
        strides = (self.strides, self.strides)
        if isinstance(self.padding, int):
            padding = ((self.padding, self.padding),) * 2
        else:
            padding = lax.padtype_to_pads(images.shape[1:3], self.kernel_size, strides, self.padding)
        padding = tuple(tuple(pair) for pair in padding)
        outputs = conv2d(images.astype(self.dtype), kernel.astype(self.dtype), strides, padding)
        if self.use_bias:
            bias = self.param('bias', self.bias_init, (self.features,), jnp.float32)
            outputs += bias.astype(self.dtype).reshape(1, 1, 1, -1)
        return outputs


class ConvTranspose(nn.Module):
    """Transposed convolution on NHWC images, 'SAME': sides grow by `strides`; float32 parameters, arithmetic in `dtype`."""

    features: int
    kernel_size: Sequence[int] = (4, 4)
    strides: int = 2
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Any = he_normal
    bias_init: Any = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, features):
        kernel_shape = (*self.kernel_size, features.shape[-1], self.features)
        kernel = self.param('kernel', self.kernel_init, kernel_shape, jnp.float32)
        strides = (self.strides, self.strides)
        outputs = conv_transpose2d(features.astype(self.dtype), kernel.astype(self.dtype), strides)
        if self.use_bias:
            bias = self.param('bias', self.bias_init, (self.features,), jnp.float32)
            outputs += bias.astype(self.dtype).reshape(1, 1, 1, -1)
        return outputs


def _max_pool(images, side):
    return nn.max_pool(images, (side, side), (side, side))


def _windows(images, side):
    """[B, H, W, C] to its windows [B, H / side, side, W / side, side, C], without what is left over."""
    batch, height, width, channels = images.shape
    rows, columns = height // side, width // side
    whole = images[:, : rows * side, : columns * side]
    return whole.reshape(batch, rows, side, columns, side, channels)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(images, side):
    """The maxima of side x side windows that do not overlap, equal to `flax.linen.max_pool` in value and gradient.

    The gradient goes to the first of equal values. XLA's CPU backend scatters it 20 times slower than comparisons with the
    maximum's place find it. Other backends keep XLA's own rule.

    Args:
      images: [B, H, W, C].
      side: of the windows; rows and columns left over at the end are dropped.

    Returns:
      [B, H // side, W // side, C]. Reverse mode (to any order) is defined, forward mode (`jax.jvp`) is not.
    """
    return _max_pool(images, side)


def _max_pool_fwd(images, side):
    return _max_pool(images, side), images


def _max_pool_bwd(side, images, cotangent):
    def compare(images, cotangent):
        windows = _windows(images, side)
        best, place = windows[:, :, 0, :, 0], jnp.zeros(cotangent.shape, jnp.int16)
        for i in range(1, side * side):
            value = windows[:, :, i // side, :, i % side]
            place = jnp.where(value > best, jnp.int16(i), place)
            best = jnp.maximum(value, best)
        places = jnp.arange(side * side, dtype=jnp.int16).reshape(1, 1, side, 1, side, 1)
        images_bar = jnp.where(place[:, :, None, :, None] == places, cotangent[:, :, None, :, None], 0)
        whole = images_bar.reshape(len(images), windows.shape[1] * side, windows.shape[3] * side, images.shape[3])
        rest = [(0, whole - part) for whole, part in zip(images.shape, whole.shape, strict=True)]
        return jnp.pad(whole, rest)

    def xla(images, cotangent):
        return jax.vjp(lambda x: _max_pool(x, side), images)[1](cotangent)[0]

    return (lax.platform_dependent(images, cotangent, cpu=compare, default=xla),)


max_pool.defvjp(_max_pool_fwd, _max_pool_bwd)


BATCH_NORM_RETENTION = 0.9  # of the running statistics, at each training-mode pass; PyTorch calls it momentum 0.1


class BatchNorm(nn.Module):
    """Batch normalisation in float32, its result in `dtype` (retention 0.9, epsilon 1e-5: PyTorch's defaults).

    Over a batch that is sharded across devices the statistics are those of the whole batch. two_pass: variances as
    E[(x - E x)^2] instead of E[x^2] - (E x)^2, which loses those that are small beside the mean.
    """

    affine: bool = True
    dtype: Any = jnp.float32
    scale_init: Any = nn.initializers.ones_init()
    two_pass: bool = False

    @nn.compact
    def __call__(self, features, *, train: bool):
        return nn.BatchNorm(
            use_fast_variance=not self.two_pass,
            use_running_average=not train,
            momentum=BATCH_NORM_RETENTION,
            epsilon=1e-5,
            use_bias=self.affine,
            use_scale=self.affine,
            scale_init=self.scale_init,
        )(features.astype(jnp.float32)).astype(self.dtype)


def standardize(images, mean: Sequence[float], std: Sequence[float]):
    """(images - mean) / std, per channel; images [B, H, W, C] in [0, 1], mean and std C floats in the same units."""
    mean, std = (jnp.asarray(v, images.dtype).reshape(1, 1, 1, -1) for v in (mean, std))
    return (images - mean) / std


def global_average_pool(features):
    """[B, H, W, C] to [B, C], averaged in float32."""
    return features.astype(jnp.float32).mean(axis=(1, 2))
