"""A small convolutional network for digits of 28 or 32 pixels: seconds per epoch on two CPU cores."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from gjax.nets.channel_groups import group
from gjax.nets.layers import BatchNorm, Conv, global_average_pool, standardize


class SmallCNN(nn.Module):
    """Strided convolutions, BatchNorm and ReLU, then a hidden layer; [B, H, W, C] in [0, 1] to float32 logits [B, K]."""

    num_classes: int
    widths: Sequence[int] = (16, 32, 64)
    hidden: int = 64
    batch_norm: bool = True
    dtype: Any = jnp.float32

    def channels(self):
        """The channels that can be cut out (`gjax.masks.slice_channels`): all of the convolutions, with batch norm."""
        if not self.batch_norm:
            return ()
        groups, last = [], len(self.widths) - 1
        for i in range(len(self.widths)):
            after = (f'Conv_{i + 1}',) if i < last else ('Dense_0',)
            groups.append(group(f'widths[{i}]', (f'BatchNorm_{i}',), (f'Conv_{i}',), after, dense=(('Dense_0',),)))
        return tuple(groups)

    def channel_sizes(self):
        return {'widths': tuple(self.widths)}

    @nn.compact
    def __call__(self, images, *, train: bool):
        channels = images.shape[-1]
        features = standardize(images, (0.5,) * channels, (0.5,) * channels)
        for width in self.widths:
            features = Conv(width, strides=2, use_bias=not self.batch_norm, dtype=self.dtype)(features)
            if self.batch_norm:
                features = BatchNorm(dtype=self.dtype)(features, train=train)
            features = nn.relu(features)
        if self.hidden:
            features = features.reshape(features.shape[0], -1)
            features = nn.relu(nn.Dense(self.hidden, dtype=self.dtype)(features))
        else:
            features = global_average_pool(features)
        return nn.Dense(self.num_classes, dtype=self.dtype)(features).astype(jnp.float32)
