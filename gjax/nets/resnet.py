"""Pre-activation ResNet-18 for 32-pixel images (He et al. 2016, arXiv:1603.05027), as in adversarial-training practice."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from gjax.nets.layers import BatchNorm, Conv, global_average_pool, standardize


class PreActBlock(nn.Module):
    """BN-ReLU-conv3-BN-ReLU-conv3 plus shortcut; a 1x1 convolution of the activated input where the shape changes."""

    width: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features, *, train: bool):
        activated = nn.relu(BatchNorm(dtype=self.dtype)(features, train=train))
        shortcut = features
        if self.stride != 1 or features.shape[-1] != self.width:
            shortcut = Conv(self.width, (1, 1), self.stride, use_bias=False, dtype=self.dtype)(activated)
        out = Conv(self.width, strides=self.stride, padding=1, use_bias=False, dtype=self.dtype)(activated)
        out = nn.relu(BatchNorm(dtype=self.dtype)(out, train=train))
        return Conv(self.width, padding=1, use_bias=False, dtype=self.dtype)(out) + shortcut


class PreActResNet(nn.Module):
    """[B, H, W, C] in [0, 1] to float32 logits [B, K]; the defaults are ResNet-18 for 32x32, with a 3x3 stem."""

    num_classes: int
    blocks: Sequence[int] = (2, 2, 2, 2)
    width: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        channels = images.shape[-1]
        features = standardize(images, (0.5,) * channels, (0.5,) * channels)
        features = Conv(self.width, padding=1, use_bias=False, dtype=self.dtype)(features)
        for group, count in enumerate(self.blocks):
            for i in range(count):
                stride = 2 if group > 0 and i == 0 else 1
                features = PreActBlock(self.width * 2**group, stride, self.dtype)(features, train=train)
        features = nn.relu(BatchNorm(dtype=self.dtype)(features, train=train))
        return nn.Dense(self.num_classes)(global_average_pool(features))


class BottleneckBlock(nn.Module):
    """conv1-conv3(stride)-conv1 with BN and a projected shortcut (He et al. 2015, arXiv:1512.03385, Fig. 5 right)."""

    width: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features, *, train: bool):
        out = Conv(self.width, (1, 1), padding=0, use_bias=False, dtype=self.dtype)(features)
        out = nn.relu(BatchNorm(dtype=self.dtype)(out, train=train))
        out = Conv(self.width, strides=self.stride, padding=1, use_bias=False, dtype=self.dtype)(out)
        out = nn.relu(BatchNorm(dtype=self.dtype)(out, train=train))
        out = Conv(4 * self.width, (1, 1), padding=0, use_bias=False, dtype=self.dtype)(out)
        out = BatchNorm(dtype=self.dtype)(out, train=train)
        if features.shape != out.shape:
            features = Conv(4 * self.width, (1, 1), self.stride, 0, use_bias=False, dtype=self.dtype)(features)
            features = BatchNorm(dtype=self.dtype)(features, train=train)
        return nn.relu(out + features)


class ResNet50(nn.Module):
    """ResNet with bottlenecks for 224-pixel images; [B, H, W, 3] in [0, 1] to float32 logits [B, K]."""

    num_classes: int
    blocks: Sequence[int] = (3, 4, 6, 3)
    width: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        features = standardize(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        features = Conv(self.width, (7, 7), 2, 3, use_bias=False, dtype=self.dtype)(features)
        features = nn.relu(BatchNorm(dtype=self.dtype)(features, train=train))
        features = nn.max_pool(features, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for group, count in enumerate(self.blocks):
            for i in range(count):
                stride = 2 if group > 0 and i == 0 else 1
                features = BottleneckBlock(self.width * 2**group, stride, self.dtype)(features, train=train)
        return nn.Dense(self.num_classes)(global_average_pool(features))
