"""The networks of Generate To Adapt (Sankaranarayanan et al. 2018, arXiv:1704.01705): the digits' as in the authors' code,
ResNet-50's after the paper's description.

Parameters for 32 x 32 x 3 images, 10 classes, embeddings of 128 and noise of 512 numbers: embedding 312,256, classifier
17,802, generator 4,090,752, discriminator 668,427: the released code's.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gjax.nets.layers import BatchNorm, Conv, ConvTranspose, max_pool, standardize
from gjax.nets.resnet import ResNet50

_conv_init = nn.initializers.normal(0.02)
_dense_init = nn.initializers.normal(0.1)


def _torch_bias(fan_in: int):
    """PyTorch's default for the biases of convolutions: uniform within 1 / sqrt(fan in)."""
    limit = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -limit, limit)


def _scale_init(key, shape, dtype=jnp.float32):
    return 1 + 0.02 * jax.random.normal(key, shape, dtype)


class GTAEmbedding(nn.Module):
    """F: images [B, H, W, C] in [0, 1] to embeddings [B, D] by 5x5 convolutions, each but the last one pooled (with
    pool_last that too). By default D is 128 of 32 pixels; widths (32, 48), all pooled, are MNIST <-> USPS's, D = 1200.
    """

    widths: Sequence[int] = (64, 64, 128)
    pool_last: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool = False):
        channels = images.shape[-1]
        x = standardize(images, (0.44,) * channels, (0.19,) * channels).astype(self.dtype)
        for i, width in enumerate(self.widths):
            inits = {'kernel_init': _conv_init, 'bias_init': _torch_bias(25 * x.shape[-1])}
            x = nn.relu(Conv(width, (5, 5), padding='VALID', dtype=self.dtype, **inits)(x))
            if i < len(self.widths) - 1 or self.pool_last:
                x = max_pool(x, 2)
        return x.reshape(len(x), -1).astype(jnp.float32)


class GTAClassifier(nn.Module):
    """C: embeddings [B, D] to class logits [B, K]."""

    classes: int
    hidden: Sequence[int] = (128,)

    @nn.compact
    def __call__(self, embeddings, *, train: bool = False):
        x = embeddings
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, kernel_init=_dense_init)(x))
        return nn.Dense(self.classes, kernel_init=_dense_init)(x)


class DomainDiscriminator(nn.Module):
    """Embeddings [B, D] to 'is source' logits [B]; what DANN and ADDA play against."""

    widths: Sequence[int] = (128, 128)

    @nn.compact
    def __call__(self, embeddings, *, train: bool = False):
        x = embeddings
        for width in self.widths:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(1)(x)[:, 0]


class GTAGenerator(nn.Module):
    """G: conditions [B, (K + 1) + D + Z], label, embedding and noise, to images [B, H, W, C] in (-1, 1). As in the
    released code no layer has a bias.

    width: of the last hidden layer; each before has twice as many. H = W = 2 ** (stages + 1).
    final_bias: whether the last layer has a bias, which starts at 0.
    """

    channels: int = 3
    width: int = 64
    stages: int = 4
    dtype: Any = jnp.float32
    final_bias: bool = False

    @nn.compact
    def __call__(self, conditions, *, train: bool):
        x = conditions.astype(self.dtype)[:, None, None]
        for i in range(self.stages):
            width = self.width * 2 ** (self.stages - 1 - i)
            kernel = (2, 2) if i == 0 else (4, 4)
            x = ConvTranspose(width, kernel, 2, use_bias=False, dtype=self.dtype, kernel_init=_conv_init)(x)
            x = nn.relu(BatchNorm(dtype=self.dtype, scale_init=_scale_init, two_pass=True)(x, train=train))
        last = {'use_bias': self.final_bias, 'dtype': self.dtype, 'kernel_init': _conv_init}
        x = ConvTranspose(self.channels, (4, 4), 2, **last)(x)
        return jnp.tanh(x.astype(jnp.float32))


class GTADiscriminator(nn.Module):
    """D: images [B, H, W, C] in [-1, 1] to ('real source' logit [B], class logits [B, K]).

    Batches of real source, generated source and generated target images pass one by one: each has its own statistics.
    stages: as of the generator; H = W = 2 ** (stages + 1).
    """

    classes: int
    width: int = 64
    stages: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = images.astype(self.dtype)
        for i in range(self.stages):
            factor, pool = (2**i, 2) if i < self.stages - 1 else (2, 4)
            inits = {'kernel_init': _conv_init, 'bias_init': _torch_bias(9 * x.shape[-1])}
            x = Conv(self.width * factor, padding=1, dtype=self.dtype, **inits)(x)
            x = nn.leaky_relu(BatchNorm(dtype=self.dtype, scale_init=_scale_init, two_pass=True)(x, train=train), 0.2)
            x = max_pool(x, pool)
        features = x.reshape(len(x), -1).astype(jnp.float32)
        real = nn.Dense(1, kernel_init=_dense_init, name='real')(features)[:, 0]
        return real, nn.Dense(self.classes, kernel_init=_dense_init, name='class')(features)


@dataclasses.dataclass(frozen=True)
class GTADigits:
    """The players' modules, for digits of 32 pixels by default.

    image_shape, num_classes: of the data. widths, pool_last: of F. hidden: of C. noise: the length of G's noise.
    generator_width, discriminator_width: of their outermost layers. generated: the side of generated images, a power of two
    from 8 on; 0 for that of the data. domain_widths: of the discriminator of embeddings. normalise: embeddings of length 1
    for G (long ones make GANs collapse; not in the paper). final_bias: whether G's last layer has a bias, as older versions
    of gjax had it; the released code has none.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    widths: Sequence[int] = (64, 64, 128)
    pool_last: bool = False
    hidden: Sequence[int] = (128,)
    noise: int = 512
    generator_width: int = 64
    discriminator_width: int = 64
    generated: int = 0
    domain_widths: Sequence[int] = (128, 128)
    normalise: bool = False
    final_bias: bool = False
    dtype: Any = jnp.float32

    def __post_init__(self):
        height, width, _ = self.image_shape
        if height != width:
            raise ValueError(f'the images are {height} x {width}; allowed: square ones (data.image_size)')
        self.check_images()

    def check_images(self):
        """ValueError if the images are too small for F."""
        side = self.image_shape[0]
        for i in range(len(self.widths)):
            side -= 4
            if i < len(self.widths) - 1 or self.pool_last:
                side //= 2
        if side < 1:
            raise ValueError(f'the images have {self.image_shape[0]} pixels a side: too few for net.widths {self.widths}')

    @property
    def side(self) -> int:
        """Of generated images; ValueError if it is no power of two."""
        side = self.generated or self.image_shape[0]
        if side < 8 or side & (side - 1):
            raise ValueError(
                f'generated images would have {side} pixels a side; allowed: powers of two from 8 on: set data.image_size '
                'or net.generated'
            )
        return side

    @property
    def _stages(self) -> int:
        return self.side.bit_length() - 2

    def embedding(self) -> nn.Module:
        """F."""
        return GTAEmbedding(tuple(self.widths), self.pool_last, self.dtype)

    def classifier(self) -> nn.Module:
        """C."""
        return GTAClassifier(self.num_classes, tuple(self.hidden))

    def generator(self) -> nn.Module:
        """G."""
        return GTAGenerator(self.image_shape[2], self.generator_width, self._stages, self.dtype, self.final_bias)

    def discriminator(self) -> nn.Module:
        """D."""
        return GTADiscriminator(self.num_classes, self.discriminator_width, self._stages, self.dtype)

    def domain_discriminator(self) -> nn.Module:
        """Of the domains of embeddings; not GTA's."""
        return DomainDiscriminator(tuple(self.domain_widths))


@dataclasses.dataclass(frozen=True)
class GTAResNet50(GTADigits):
    """F is ResNet-50 without its last layer, for images of 224 pixels; G and D work at 64. For Office-31 and VISDA.

    weights: a file with F's first weights, of torchvision's ResNet-50 by its names (.safetensors, .pth, .npz).
    """

    widths: Sequence[int] = ()
    hidden: Sequence[int] = ()
    generated: int = 64
    blocks: Sequence[int] = (3, 4, 6, 3)
    width: int = 64
    weights: str = ''

    def check_images(self):
        if self.image_shape[2] != 3:
            raise ValueError(f'the images have {self.image_shape[2]} channel; allowed: 3 (data.channels)')

    def embedding(self):
        return ResNet50(0, tuple(self.blocks), self.width, dtype=self.dtype)

    def pretrained(self, arrays) -> dict:
        """F's variables from torchvision's; ValueError if they are not its."""
        return self.embedding().from_torch(arrays)
