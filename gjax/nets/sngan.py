"""Residual generator and discriminator: SNGAN (Miyato et al. 2018, arXiv:1802.05957, Tables 3 and 4) and its kin.

With spectral normalisation in the trunk the pair is SNGAN, with batch normalisation a ResNet-DCGAN or a ResNet-VAE.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gjax.nets.autoencoder import Family, apply_layer, check_widths
from gjax.nets.channel_groups import group
from gjax.nets.layers import BatchNorm, Conv

_wide = nn.initializers.variance_scaling(2.0, 'fan_avg', 'uniform')  # the residual branch: Xavier with gain sqrt 2
_plain = nn.initializers.xavier_uniform()


def _upsample(features):
    batch, height, width, channels = features.shape
    return jax.image.resize(features, (batch, 2 * height, 2 * width, channels), 'nearest')


def _average_pool(features):
    batch, height, width, channels = features.shape
    return features.reshape(batch, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


class UpBlock(nn.Module):
    """BN-ReLU-up-conv3-BN-ReLU-conv3, and up-conv1 beside it. inner: channels between the two; 0 for `width`."""

    width: int
    inner: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features, *, train: bool):
        out = _upsample(nn.relu(BatchNorm(dtype=self.dtype)(features, train=train)))
        out = Conv(self.inner or self.width, dtype=self.dtype, kernel_init=_wide)(out)
        out = nn.relu(BatchNorm(dtype=self.dtype)(out, train=train))
        out = Conv(self.width, dtype=self.dtype, kernel_init=_wide)(out)
        return out + Conv(self.width, (1, 1), dtype=self.dtype, kernel_init=_plain)(_upsample(features))


class DownBlock(nn.Module):
    """(BN-)ReLU-conv3-(BN-)ReLU-conv3, average-pooled by `down`; a 1x1 convolution beside it where shapes change. The first
    block of a network begins with its convolution and pools before the 1x1 one. inner: as in `UpBlock`."""

    width: int
    down: bool
    first: bool = False
    norm: str = 'batch'
    inner: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features, *, train: bool):
        def conv(inputs, kernel_size, init, width=self.width):
            layer = Conv(width, kernel_size, dtype=self.dtype, kernel_init=init)
            return apply_layer(layer, inputs, spectral=self.norm == 'spectral', train=train)

        def activate(inputs):
            return nn.relu(BatchNorm(dtype=self.dtype)(inputs, train=train) if self.norm == 'batch' else inputs)

        out = conv(features if self.first else activate(features), (3, 3), _wide, self.inner or self.width)
        out = conv(activate(out), (3, 3), _wide)
        if self.down:
            out = _average_pool(out)
        if self.first:
            return out + conv(_average_pool(features) if self.down else features, (1, 1), _plain)
        shortcut = features
        if self.down or features.shape[-1] != self.width:
            shortcut = conv(shortcut, (1, 1), _plain)
        return out + (_average_pool(shortcut) if self.down else shortcut)


class ResNetTrunk(nn.Module):
    """Blocks that halve the image, then `plain` ones that do not; ReLU and the sum over pixels: [B, H, W, C] to [B, F]."""

    widths: Sequence[int]
    plain: int
    norm: str = 'batch'
    inner: Sequence[int] = ()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        features = (2 * images - 1).astype(self.dtype)
        for i, width in enumerate((*self.widths, *(self.widths[-1],) * self.plain)):
            inner = self.inner[i] if self.inner else 0
            block = DownBlock(width, i < len(self.widths), i == 0, self.norm, inner, self.dtype)
            features = block(features, train=train)
        if self.norm == 'batch':
            features = BatchNorm(dtype=self.dtype)(features, train=train)
        return nn.relu(features).astype(jnp.float32).sum(axis=(1, 2))


class ResNetDecoder(nn.Module):
    """A dense layer to the smallest image, blocks that double it, BN-ReLU-conv3: codes [B, Z] to image logits."""

    image_shape: tuple[int, int, int]
    widths: Sequence[int]
    inner: Sequence[int] = ()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, codes, *, train: bool):
        height, width = (size >> len(self.widths) for size in self.image_shape[:2])
        features = nn.Dense(height * width * self.widths[-1], dtype=self.dtype, kernel_init=_plain)(codes)
        features = features.reshape(-1, height, width, self.widths[-1])
        for channels, inner in zip(self.widths[::-1], self.inner[::-1] or (0,) * len(self.widths), strict=True):
            features = UpBlock(channels, inner, self.dtype)(features, train=train)
        features = nn.relu(BatchNorm(dtype=self.dtype)(features, train=train))
        return Conv(self.image_shape[2], dtype=self.dtype, kernel_init=_plain)(features).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class ResNetGAN(Family):
    """widths: of the decoder's doubling blocks, from the image on (the default is SNGAN's for 32 pixels; 28 take two, 64
    four). trunk_widths: of the trunk's halving blocks from the image on, `plain` more of the last width follow.
    inner, trunk_inner: channels between the two convolutions of every block, in the same orders; () for the block's width.
    """

    latent: int = 128
    trunk_norm: str = 'spectral'
    widths: Sequence[int] = (256, 256, 256)
    trunk_widths: Sequence[int] = (128, 128)
    plain: int = 2
    inner: Sequence[int] = ()
    trunk_inner: Sequence[int] = ()

    def __post_init__(self):
        super().__post_init__()
        check_widths('net.widths', self.widths, self.image_shape)
        check_widths('net.trunk_widths', self.trunk_widths, self.image_shape)
        for name, blocks in (('inner', len(self.widths)), ('trunk_inner', len(self.trunk_widths) + self.plain)):
            if len(getattr(self, name)) not in (0, blocks):
                raise ValueError(f'net.{name} is {getattr(self, name)!r}; allowed: () or {blocks} numbers, one a block')

    def decoder(self):
        return ResNetDecoder(tuple(self.image_shape), tuple(self.widths), tuple(self.inner), self.dtype)

    def trunk(self, norm):
        return ResNetTrunk(tuple(self.trunk_widths), self.plain, norm, tuple(self.trunk_inner), self.dtype)

    def decoder_channels(self):
        """Those inside the blocks; the sum that runs through all blocks keeps its width."""
        blocks = [(i, (f'UpBlock_{len(self.widths) - 1 - i}',)) for i in range(len(self.widths))]
        return tuple(
            group(f'inner[{i}]', (*b, 'BatchNorm_1'), (*b, 'Conv_0'), (*b, 'Conv_1'), bias=True) for i, b in reversed(blocks)
        )

    def trunk_channels(self):
        """Those inside the blocks, as in the decoder."""
        groups = []
        for i in range(len(self.trunk_widths) + self.plain):
            block = ('trunk', f'DownBlock_{i}')
            norm = (*block, 'BatchNorm_1' if i else 'BatchNorm_0')
            groups.append(group(f'trunk_inner[{i}]', norm, (*block, 'Conv_0'), (*block, 'Conv_1'), bias=True))
        return tuple(groups)

    def channel_sizes(self):
        trunk = (*self.trunk_widths, *(self.trunk_widths[-1],) * self.plain)
        return {'inner': tuple(self.inner or self.widths), 'trunk_inner': tuple(self.trunk_inner or trunk)}
