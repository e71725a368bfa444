"""Layers that every network shares: convolutions and pooling whose gradients are fast on CPU, normalisation."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

_NHWC = ('NHWC', 'HWIO', 'NHWC')
he_normal = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


def _conv(images, kernel, strides, padding):
    return lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=_NHWC)


def _canonical_gradients(strides, padding, images, kernel, cotangent):
    """Both gradients as plain NHWC convolutions, the one form that XLA's CPU backend runs fast inside a loop."""
    input_padding, kernel_padding = [], []
    for size, taps, out, stride, (low, _) in zip(
        images.shape[1:3], kernel.shape[:2], cotangent.shape[1:3], strides, padding, strict=True
    ):
        dilated = (out - 1) * stride + 1
        input_padding.append((taps - 1 - low, size - dilated + low))
        kernel_padding.append((low, taps - 1 + dilated - size - low))
    flipped = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    images_bar = lax.conv_general_dilated(
        cotangent, flipped, (1, 1), input_padding, lhs_dilation=strides, dimension_numbers=_NHWC
    )
    kernel_bar = lax.conv_general_dilated(
        images.transpose(3, 1, 2, 0),
        cotangent.transpose(1, 2, 0, 3),
        (1, 1),
        kernel_padding,
        rhs_dilation=strides,
        dimension_numbers=_NHWC,
    )
    return images_bar, kernel_bar.transpose(1, 2, 0, 3)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv2d(images, kernel, strides, padding):
    """2-D convolution, NHWC by HWIO, equal to `lax.conv_general_dilated` in value and gradient.

    XLA's CPU backend brings convolutions into its fast layout only outside loops, so the gradients of an ordinary
    convolution run 3 to 40 times slower inside `lax.scan` and `lax.fori_loop` (jax issue 12868): just where attacks and
    fused training steps live. Here they are written in that layout. Other backends keep XLA's own rule.

    Args:
      images: [B, H, W, C].
      kernel: [kh, kw, C, D].
      strides: two ints.
      padding: two (low, high) pairs.

    Returns:
      [B, H', W', D]. Reverse mode (to any order) is defined, forward mode (`jax.jvp`) is not.
    """
    return _conv(images, kernel, strides, padding)


def _conv2d_fwd(images, kernel, strides, padding):
    return _conv(images, kernel, strides, padding), (images, kernel)


def _conv2d_bwd(strides, padding, residuals, cotangent):
    def xla(images, kernel, cotangent):
        return jax.vjp(lambda x, w: _conv(x, w, strides, padding), images, kernel)[1](cotangent)

    return lax.platform_dependent(*residuals, cotangent, cpu=partial(_canonical_gradients, strides, padding), default=xla)


conv2d.defvjp(_conv2d_fwd, _conv2d_bwd)


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


def _transposed_padding(taps, strides):
    """What `lax.conv_transpose` pads the dilated input with for 'SAME': outputs are strides times as large as inputs."""
    pads = []
    for tap, stride in zip(taps, strides, strict=True):
        total = tap + stride - 2
        low = tap - 1 if stride > tap - 1 else -(-total // 2)
        pads.append((low, total - low))
    return pads


def _conv_transpose(features, kernel, strides):
    padding = _transposed_padding(kernel.shape[:2], strides)
    return lax.conv_general_dilated(features, kernel, (1, 1), padding, lhs_dilation=strides, dimension_numbers=_NHWC)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv_transpose2d(features, kernel, strides):
    """Transposed convolution with 'SAME' padding, equal to `lax.conv_transpose` in value and gradient.

    It is the input gradient of a strided convolution of the flipped kernel, so its own gradients are that convolution and
    that convolution's kernel gradient. XLA's CPU backend does not find this for the kernel: 12 to 17 times slower. Other
    backends keep XLA's own rule.

    Args:
      features: [B, H, W, C].
      kernel: [kh, kw, C, D].
      strides: two ints.

    Returns:
      [B, H s, W s, D]. Reverse mode (to any order) is defined, forward mode (`jax.jvp`) is not.
    """
    return _conv_transpose(features, kernel, strides)


def _conv_transpose2d_fwd(features, kernel, strides):
    return _conv_transpose(features, kernel, strides), (features, kernel)


def _conv_transpose2d_bwd(strides, residuals, cotangent):
    def strided(features, kernel, cotangent):
        taps = kernel.shape[:2]
        pads = _transposed_padding(taps, strides)
        padding = [(tap - 1 - low, tap - 1 - high) for tap, (low, high) in zip(taps, pads, strict=True)]
        flipped = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
        _, flipped_bar = _canonical_gradients(strides, padding, cotangent, flipped, features)
        return conv2d(cotangent, flipped, strides, tuple(padding)), jnp.swapaxes(flipped_bar[::-1, ::-1], 2, 3)

    def xla(features, kernel, cotangent):
        return jax.vjp(lambda x, w: _conv_transpose(x, w, strides), features, kernel)[1](cotangent)

    return lax.platform_dependent(*residuals, cotangent, cpu=strided, default=xla)


conv_transpose2d.defvjp(_conv_transpose2d_fwd, _conv_transpose2d_bwd)


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
