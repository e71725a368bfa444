"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv:1605.07146) and the IAAT authors' modified WRN-32-10."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from gjax.nets.layers import BatchNorm, Conv, global_average_pool, standardize
from gjax.nets.resnet import PreActBlock, block_shapes, check_inner, pre_activation_channels

CIFAR_MEAN = (125.3 / 255, 123.0 / 255, 113.9 / 255)
CIFAR_STD = (63.0 / 255, 62.1 / 255, 66.7 / 255)


def _blocks_per_group(depth: int, extra: int) -> int:
    if depth <= extra or (depth - extra) % 6:
        raise ValueError(f'depth is {depth}; allowed: {extra} + 6 n with n >= 1')
    return (depth - extra) // 6


class WideResNet(nn.Module):
    """WRN-depth-width: [B, H, W, 3] in [0, 1] to float32 logits [B, K]; depth is 4 + 6 n.

    inner: channels between the convolutions of every block; () for the block's width.
    """

    num_classes: int
    depth: int = 28
    width: int = 10
    inner: Sequence[int] = ()
    dtype: Any = jnp.float32

    def _shapes(self):
        return block_shapes((_blocks_per_group(self.depth, 4),) * 3, 16 * self.width)

    def channels(self):
        """The channels that can be cut out (`gjax.masks.slice_channels`): those inside the blocks."""
        return pre_activation_channels(self._shapes(), 16)

    def channel_sizes(self):
        return {'inner': tuple(self.inner or (width for width, _ in self._shapes()))}

    @nn.compact
    def __call__(self, images, *, train: bool):
        shapes = self._shapes()
        check_inner(self.inner, len(shapes))
        features = standardize(images, CIFAR_MEAN, CIFAR_STD)
        features = Conv(16, padding=1, use_bias=False, dtype=self.dtype)(features)
        for i, (width, stride) in enumerate(shapes):
            features = PreActBlock(width, stride, self.dtype, self.inner[i] if self.inner else 0)(features, train=train)
        features = nn.relu(BatchNorm(dtype=self.dtype)(features, train=train))
        return nn.Dense(self.num_classes)(global_average_pool(features))


class IAATBlock(nn.Module):
    """BN-ReLU-conv3-BN-ReLU-conv3 without affine BN; a shortcut that changes shape is average-pooled and zero-padded."""

    width: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features, *, train: bool):
        out = nn.relu(BatchNorm(affine=False, dtype=self.dtype)(features, train=train))
        out = Conv(self.width, strides=self.stride, padding=1, use_bias=False, dtype=self.dtype)(out)
        out = nn.relu(BatchNorm(affine=False, dtype=self.dtype)(out, train=train))
        out = Conv(self.width, padding=1, use_bias=False, dtype=self.dtype)(out)
        if self.stride != 1:
            pooled = nn.pool(features, 0.0, lax.add, (3, 3), (self.stride,) * 2, ((1, 1), (1, 1)))
            features = pooled / 9.0  # padding counts
            features = jnp.pad(features, ((0, 0),) * 3 + ((0, self.width - features.shape[-1]),))
        return out + features


class IAATWideResNet(nn.Module):
    """The network of the IAAT authors' code: WRN-(2 + 6 n)-width with a wide stem and a 1x1-convolution head.

    The first convolution is already 16 * width wide, BatchNorm inside blocks has no scale or offset, and the logits maps
    are batch-normalised (with scale and offset) before global average pooling. 46,090,740 parameters at 32-10, K = 10.
    [B, H, W, 3] in [0, 1] to float32 logits [B, K].
    """

    num_classes: int
    depth: int = 32
    width: int = 10
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        count = _blocks_per_group(self.depth, 2)
        features = standardize(images, CIFAR_MEAN, CIFAR_STD)
        features = Conv(16 * self.width, padding=1, use_bias=False, dtype=self.dtype)(features)
        for group in range(3):
            for i in range(count):
                stride = 2 if group > 0 and i == 0 else 1
                features = IAATBlock(16 * self.width * 2**group, stride, self.dtype)(features, train=train)
        features = nn.relu(BatchNorm(affine=False, dtype=self.dtype)(features, train=train))
        features = Conv(self.num_classes, (1, 1), padding=0, use_bias=False, dtype=self.dtype)(features)
        return global_average_pool(BatchNorm(dtype=self.dtype)(features, train=train))
