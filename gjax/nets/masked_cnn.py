"""A small convolutional network with gates, for images of 16 to 64 pixels."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from gjax.nets.gates import Gate, check_gates
from gjax.nets.layers import BatchNorm, Conv, global_average_pool, max_pool, standardize


class MaskedCNN(nn.Module):
    """3x3 convolutions, each with BatchNorm, ReLU and 2x2 max pooling, then the mean over space and a dense layer;
    [B, H, W, C] in [0, 1] to float32 logits [B, K].

    As in the paper's ResNets, gates stand before the later half of the convolutions and before the dense layer: before
    'conv3', 'conv4' and 'fc' of four convolutions.
    """

    num_classes: int
    widths: Sequence[int] = (32, 64, 128, 128)
    dtype: Any = jnp.float32

    def gated_layers(self) -> tuple[str, ...]:
        """The layers whose inputs take gates, in the order of the forward pass."""
        count = len(self.widths)
        return (*(f'conv{i + 1}' for i in range(max(count // 2, 1), count)), 'fc')

    @nn.compact
    def __call__(self, images, *, train: bool, gates=None):
        layers = self.gated_layers()
        check_gates(gates, layers)
        if min(images.shape[1:3]) < 2 ** len(self.widths):
            raise ValueError(
                f'the images have {min(images.shape[1:3])} pixels a side: too few for net.widths {tuple(self.widths)}; '
                f'allowed: from {2 ** len(self.widths)} on'
            )
        channels = images.shape[-1]
        features = standardize(images, (0.5,) * channels, (0.5,) * channels)
        for i, width in enumerate(self.widths):
            if (layer := f'conv{i + 1}') in layers:
                features = Gate(name=layer)(features, gates)
            features = Conv(width, padding=1, use_bias=False, dtype=self.dtype)(features)
            features = nn.relu(BatchNorm(dtype=self.dtype)(features, train=train))
            features = max_pool(features, 2)
        features = Gate(name='fc')(global_average_pool(features), gates)
        return nn.Dense(self.num_classes)(features)
