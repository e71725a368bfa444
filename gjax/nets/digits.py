"""The digit networks of two protocols of domain adaptation: DANN's, normalised, and that of M3SDA and Digits-Five.

In training mode every pass takes the statistics of its own batch, so a batch of one domain must pass alone.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from gjax.nets.layers import BatchNorm, Conv, max_pool, standardize


def _centred(images):
    """Images [B, H, W, C] in [0, 1] in [-1, 1]."""
    half = (0.5,) * images.shape[-1]
    return standardize(images, half, half)


class DANNEmbedding(nn.Module):
    """F: images [B, H, W, C] in [0, 1] to features [B, D] by 5x5 convolutions without padding, batch normalisation, 2x2
    pooling and ReLU; D is 1,250 of 32 pixels by default."""

    widths: Sequence[int] = (64, 50)
    batch_norm: bool = True
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = _centred(images).astype(self.dtype)
        for width in self.widths:
            x = Conv(width, (5, 5), padding='VALID', dtype=self.dtype)(x)
            if self.batch_norm:
                x = BatchNorm(dtype=self.dtype)(x, train=train)
            x = nn.relu(max_pool(x, 2))
        if self.dropout:  # of whole channels
            x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
        return x.reshape(len(x), -1).astype(jnp.float32)


class Head(nn.Module):
    """Features [B, D] to [B, outputs] by dense layers with batch normalisation and ReLU before the last; [B] of one output.

    dropout: after the first layer.
    """

    outputs: int
    hidden: Sequence[int] = (100,)
    batch_norm: bool = True
    dropout: float = 0.0

    @nn.compact
    def __call__(self, features, *, train: bool):
        x = features
        for i, width in enumerate(self.hidden):
            x = nn.Dense(width)(x)
            if self.batch_norm:
                x = BatchNorm()(x, train=train)
            x = nn.relu(x)
            if self.dropout and i == 0:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = nn.Dense(self.outputs)(x)
        return x[:, 0] if self.outputs == 1 else x


@dataclasses.dataclass(frozen=True)
class DANNDigits:
    """The players' modules of DANN's MNIST to MNIST-M (Ganin et al. 2016, arXiv:1505.07818, Fig. 4a) with the batch
    normalisation and dropout of public reimplementations, without which adaptation gains little.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    widths: Sequence[int] = (64, 50)  # of F's convolutions
    hidden: Sequence[int] = (100, 100)  # of C
    domain_widths: Sequence[int] = (100,)  # of the discriminator of domains
    batch_norm: bool = True  # in F and in both heads
    dropout: float = 0.5  # of F's channels, and in C
    dtype: Any = jnp.float32

    def __post_init__(self):
        side = min(self.image_shape[:2])
        for _ in self.widths:
            side = (side - 4) // 2
        if side < 1:
            raise ValueError(f'the images have {self.image_shape[0]} pixels a side: too few for net.widths {self.widths}')
        if self.dropout >= 1:
            raise ValueError(f'net.dropout is {self.dropout}; allowed: 0 <= dropout < 1')

    def embedding(self) -> nn.Module:
        """F."""
        return DANNEmbedding(tuple(self.widths), self.batch_norm, self.dropout, self.dtype)

    def classifier(self) -> nn.Module:
        """C."""
        return Head(self.num_classes, tuple(self.hidden), self.batch_norm, self.dropout)

    def domain_discriminator(self) -> nn.Module:
        """Of the domains of features."""
        return Head(1, tuple(self.domain_widths), self.batch_norm)


class M3SDAEmbedding(nn.Module):
    """F: images [B, H, W, C] in [0, 1] to features [B, hidden[-1]]: padded 5x5 convolutions with batch normalisation and
    ReLU, the first two pooled (3x3, stride 2), then dense layers with both, dropout after the first."""

    widths: Sequence[int] = (64, 64, 128)
    hidden: Sequence[int] = (3072, 2048)
    dropout: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = _centred(images).astype(self.dtype)
        for i, width in enumerate(self.widths):
            x = nn.relu(BatchNorm(dtype=self.dtype)(Conv(width, (5, 5), padding=2, dtype=self.dtype)(x), train=train))
            if i < 2:
                x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        x = x.reshape(len(x), -1)
        for i, width in enumerate(self.hidden):
            x = nn.relu(BatchNorm(dtype=self.dtype)(nn.Dense(width, dtype=self.dtype)(x), train=train))
            if self.dropout and i == 0:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return x.astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class M3SDADigits:
    """The players' modules of Digits-Five (Peng et al. 2019, arXiv:1812.01754): C is linear, the discriminator of domains
    has one hidden layer. For 32 pixels, 3 channels and 10 classes F has 31,785,408 parameters, C 20,490.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    widths: Sequence[int] = (64, 64, 128)  # of F's convolutions
    hidden: Sequence[int] = (3072, 2048)  # of F's dense layers
    domain_widths: Sequence[int] = (1024,)  # of the discriminator of domains
    dropout: float = 0.5  # after F's first dense layer
    dtype: Any = jnp.float32

    def __post_init__(self):
        if self.dropout >= 1:
            raise ValueError(f'net.dropout is {self.dropout}; allowed: 0 <= dropout < 1')

    def embedding(self) -> nn.Module:
        """F."""
        return M3SDAEmbedding(tuple(self.widths), tuple(self.hidden), self.dropout, self.dtype)

    def classifier(self) -> nn.Module:
        """C."""
        return Head(self.num_classes, (), batch_norm=False)

    def domain_discriminator(self) -> nn.Module:
        """Of the domains of features."""
        return Head(1, tuple(self.domain_widths), batch_norm=False)
