"""DCGAN (Radford et al. 2015, arXiv:1511.06434): strided convolutions with batch normalisation, and their mirror."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from gjax.nets.autoencoder import Family, apply_layer, check_widths
from gjax.nets.channel_groups import group
from gjax.nets.layers import BatchNorm, Conv, ConvTranspose

_init = nn.initializers.normal(0.02)


class DCGANTrunk(nn.Module):
    """4x4 convolutions of stride 2 with leaky ReLU 0.2; all but the first are normalised. [B, H, W, C] to [B, F]."""

    widths: Sequence[int]
    norm: str = 'batch'
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        features = (2 * images - 1).astype(self.dtype)
        for i, width in enumerate(self.widths):
            normalised = self.norm == 'batch' and i > 0
            layer = Conv(width, (4, 4), 2, use_bias=not normalised, dtype=self.dtype, kernel_init=_init)
            features = apply_layer(layer, features, spectral=self.norm == 'spectral', train=train)
            if normalised:
                features = BatchNorm(dtype=self.dtype)(features, train=train)
            features = nn.leaky_relu(features, 0.2)
        return features.reshape(features.shape[0], -1).astype(jnp.float32)


class DCGANDecoder(nn.Module):
    """The mirror: a dense layer to the smallest image, transposed 4x4 convolutions of stride 2, batch norm and ReLU."""

    image_shape: tuple[int, int, int]
    widths: Sequence[int]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, codes, *, train: bool):
        height, width = (size >> len(self.widths) for size in self.image_shape[:2])
        features = nn.Dense(height * width * self.widths[-1], use_bias=False, dtype=self.dtype, kernel_init=_init)(codes)
        features = features.reshape(-1, height, width, self.widths[-1])
        outputs = (*self.widths[-2::-1], self.image_shape[2])
        for i, channels in enumerate(outputs):
            features = nn.relu(BatchNorm(dtype=self.dtype)(features, train=train))
            last = i == len(outputs) - 1  # the others are normalised
            features = ConvTranspose(channels, use_bias=last, dtype=self.dtype, kernel_init=_init)(features)
        return features.astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class DCGAN(Family):
    """widths: of the trunk's layers from the image on (each halves it), and of the decoder's towards it. The defaults are
    the usual network for 32 pixels; 28 pixels take two layers, 64 take four. trunk_widths: where the trunk's differ.
    """

    latent: int = 128
    widths: Sequence[int] = (128, 256, 512)
    trunk_widths: Sequence[int] = ()

    def __post_init__(self):
        super().__post_init__()
        check_widths('net.widths', self.widths, self.image_shape)
        check_widths('net.trunk_widths', self.trunk_widths or self.widths, self.image_shape)

    def decoder(self):
        return DCGANDecoder(tuple(self.image_shape), tuple(self.widths), self.dtype)

    def trunk(self, norm):
        return DCGANTrunk(tuple(self.trunk_widths or self.widths), norm, self.dtype)

    def decoder_channels(self):
        count, groups = len(self.widths), []
        for i in range(count):
            before = (f'ConvTranspose_{i - 1}',) if i else ('Dense_0',)
            name, after = f'widths[{count - 1 - i}]', (f'ConvTranspose_{i}',)
            groups.append(group(name, (f'BatchNorm_{i}',), before, after, dense=(('Dense_0',),)))
        return tuple(groups)

    def trunk_channels(self):
        count, groups = len(self.trunk_widths or self.widths), []
        for i in range(1, count):
            after = ('trunk', f'Conv_{i + 1}') if i < count - 1 else ('head',)
            norm, before = ('trunk', f'BatchNorm_{i - 1}'), ('trunk', f'Conv_{i}')
            groups.append(group(f'trunk_widths[{i}]', norm, before, after, dense=(('head',),)))
        return tuple(groups)

    def channel_sizes(self):
        return {'widths': tuple(self.widths), 'trunk_widths': tuple(self.trunk_widths or self.widths)}
