"""Pairs of a decoder (codes to images) and a trunk (images to features), of which autoencoders and GANs are made.

One family gives the parts of every model: decoder = generator, encoder = trunk + head, discriminator = trunk + head. What is
learned or pruned in a VAE's parts fits a GAN's layer for layer.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from gjax.nets.channel_groups import ChannelGroup

TRUNK_NORMS = ('batch', 'spectral', 'none')


def apply_layer(layer: nn.Module, inputs, *, spectral: bool, train: bool):
    """layer(inputs), its kernel divided by its largest singular value if `spectral` (Miyato et al. 2018, Eq. 8).

    The vector of the power iteration, one step each training pass, is kept in the collection 'batch_stats'. Call it in a
    compact method: parameters are named as without it.
    """
    return nn.SpectralNorm(layer)(inputs, update_stats=train) if spectral else layer(inputs)


class Headed(nn.Module):
    """A trunk and one dense layer on its features: images [B, H, W, C] in [0, 1] to float32 [B, outputs].

    With `spectral` the head's kernel is divided by its largest singular value, as the trunk's are.
    """

    trunk: nn.Module
    outputs: int
    spectral: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool):
        features = self.trunk(images, train=train)
        return apply_layer(nn.Dense(self.outputs, name='head'), features, spectral=self.spectral, train=train)


@dataclasses.dataclass(frozen=True)
class Family:
    """The options that all families share, and the modules they give.

    image_shape: (H, W, C). latent: length of the codes. trunk_norm: of discriminators, 'batch', 'spectral' or 'none';
    encoders always normalise over the batch.
    """

    image_shape: tuple[int, int, int]
    latent: int = 64
    trunk_norm: str = 'batch'
    dtype: Any = jnp.float32

    def __post_init__(self):
        if self.trunk_norm not in TRUNK_NORMS:
            raise ValueError(f'net.trunk_norm is {self.trunk_norm!r}; allowed: {", ".join(TRUNK_NORMS)}')

    def decoder_channels(self) -> tuple[ChannelGroup, ...]:
        """The decoder's channels that a batch normalisation scales, in order; none by default."""
        return ()

    def trunk_channels(self) -> tuple[ChannelGroup, ...]:
        """The same of encoders and of discriminators with batch normalisation (their head included)."""
        return ()

    def channel_sizes(self) -> dict[str, tuple[int, ...]]:
        """The options that say how many channels there are, in full."""
        return {}

    def decoder(self) -> nn.Module:
        """Codes [B, latent] to image logits [B, H, W, C], float32: pixels are their sigmoid (tanh's range, shifted)."""
        raise NotImplementedError

    def trunk(self, norm: str) -> nn.Module:
        """Images [B, H, W, C] in [0, 1] to features [B, F], float32."""
        raise NotImplementedError

    def encoder(self, outputs: int) -> nn.Module:
        """Images to [B, outputs]."""
        return Headed(self.trunk('batch'), outputs)

    def discriminator(self) -> nn.Module:
        """Images to logits [B, 1]."""
        return Headed(self.trunk(self.trunk_norm), 1, spectral=self.trunk_norm == 'spectral')


def check_widths(name: str, widths, image_shape) -> None:
    """ValueError unless there are widths and each can halve the image, down to whole pixels, at least 2 a side."""
    if not widths:
        raise ValueError(f'{name} is {widths!r}; allowed: at least one width')
    for size in image_shape[:2]:
        side = size >> len(widths)
        if side << len(widths) != size or side < 2:
            raise ValueError(
                f'{name} of {len(widths)} layers halves a side of {size} pixels {len(widths)} times; allowed: while whole '
                'ones, at least 2, are left'
            )


class MLPTrunk(nn.Module):
    """Flattened pixels and dense layers with ReLU (none: the pixels are the features)."""

    widths: Sequence[int] = ()
    spectral: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        features = (2 * images - 1).reshape(images.shape[0], -1).astype(self.dtype)
        for width in self.widths:
            layer = nn.Dense(width, dtype=self.dtype)
            features = nn.relu(apply_layer(layer, features, spectral=self.spectral, train=train))
        return features.astype(jnp.float32)


class MLPDecoder(nn.Module):
    """The mirror of MLPTrunk: dense layers from the code to image logits."""

    image_shape: tuple[int, int, int]
    widths: Sequence[int] = ()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, codes, *, train: bool):
        features = codes.astype(self.dtype)
        for width in reversed(self.widths):
            features = nn.relu(nn.Dense(width, dtype=self.dtype)(features))
        logits = nn.Dense(math.prod(self.image_shape), dtype=self.dtype)(features)
        return logits.reshape(-1, *self.image_shape).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class MLP(Family):
    """Dense layers; without hidden ones (`widths` empty) its autoencoder is linear but for the sigmoid of the pixels."""

    widths: Sequence[int] = ()

    def decoder(self):
        return MLPDecoder(self.image_shape, self.widths, self.dtype)

    def trunk(self, norm):
        return MLPTrunk(self.widths, norm == 'spectral', self.dtype)
