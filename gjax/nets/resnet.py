"""ResNets: pre-activation ResNet-18 for 32-pixel images (He et al. 2016, arXiv:1603.05027), as in adversarial-training
practice; ResNet-18 and ResNet-50 for 224-pixel images (He et al. 2015, arXiv:1512.03385), in torchvision's form.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gjax.nets.channel_groups import ChannelGroup, group
from gjax.nets.gates import Gate, check_gates
from gjax.nets.layers import BatchNorm, Conv, global_average_pool, standardize
from gjax.nets.torch_weights import as_kernel, filled, with_head


class PreActBlock(nn.Module):
    """BN-ReLU-conv3-BN-ReLU-conv3 plus shortcut; a 1x1 convolution of the activated input where the shape changes.

    inner: channels between the two 3x3 convolutions; 0 for `width`.
    """

    width: int
    stride: int = 1
    dtype: Any = jnp.float32
    inner: int = 0

    @nn.compact
    def __call__(self, features, *, train: bool):
        activated = nn.relu(BatchNorm(dtype=self.dtype)(features, train=train))
        shortcut = features
        if self.stride != 1 or features.shape[-1] != self.width:
            shortcut = Conv(self.width, (1, 1), self.stride, use_bias=False, dtype=self.dtype)(activated)
        inner = self.inner or self.width
        out = Conv(inner, strides=self.stride, padding=1, use_bias=False, dtype=self.dtype)(activated)
        out = nn.relu(BatchNorm(dtype=self.dtype)(out, train=train))
        return Conv(self.width, padding=1, use_bias=False, dtype=self.dtype)(out) + shortcut


def block_shapes(blocks: Sequence[int], width: int) -> list[tuple[int, int]]:
    """(width, stride) of every block of groups of so many blocks: each group but the first doubles the one and halves the
    image."""
    return [(width * 2**group, 2 if group > 0 and i == 0 else 1) for group, count in enumerate(blocks) for i in range(count)]


def pre_activation_channels(shapes, stem: int) -> tuple[ChannelGroup, ...]:
    """The channels inside every `PreActBlock` of these (width, stride), after a stem of so many channels."""
    groups, before = [], stem
    for i, (width, stride) in enumerate(shapes):
        block, first = (f'PreActBlock_{i}',), int(stride != 1 or before != width)  # the shortcut is Conv_0
        norm, layers = (*block, 'BatchNorm_1'), [(*block, f'Conv_{first + k}') for k in range(2)]
        groups.append(group(f'inner[{i}]', norm, *layers))
        before = width
    return tuple(groups)


def check_inner(inner: Sequence[int], count: int) -> None:
    """ValueError unless there are none or `count` of them."""
    if len(inner) not in (0, count):
        raise ValueError(f'net.inner is {inner!r}; allowed: () or {count} numbers')


class PreActResNet(nn.Module):
    """[B, H, W, C] in [0, 1] to float32 logits [B, K]; the defaults are ResNet-18 for 32x32, with a 3x3 stem.

    inner: channels between the convolutions of every block; () for the block's width.
    """

    num_classes: int
    blocks: Sequence[int] = (2, 2, 2, 2)
    width: int = 64
    inner: Sequence[int] = ()
    dtype: Any = jnp.float32

    def channels(self):
        """The channels that can be cut out (`gjax.masks.slice_channels`): those inside the blocks."""
        return pre_activation_channels(block_shapes(self.blocks, self.width), self.width)

    def channel_sizes(self):
        return {'inner': tuple(self.inner or (width for width, _ in block_shapes(self.blocks, self.width)))}

    @nn.compact
    def __call__(self, images, *, train: bool):
        channels = images.shape[-1]
        features = standardize(images, (0.5,) * channels, (0.5,) * channels)
        features = Conv(self.width, padding=1, use_bias=False, dtype=self.dtype)(features)
        check_inner(self.inner, sum(self.blocks))
        for i, (width, stride) in enumerate(block_shapes(self.blocks, self.width)):
            inner = self.inner[i] if self.inner else 0
            features = PreActBlock(width, stride, self.dtype, inner)(features, train=train)
        features = nn.relu(BatchNorm(dtype=self.dtype)(features, train=train))
        return nn.Dense(self.num_classes)(global_average_pool(features))


class BottleneckBlock(nn.Module):
    """conv1-conv3(stride)-conv1 with BN and a projected shortcut (He et al. 2015, arXiv:1512.03385, Fig. 5 right).

    inner: channels after the first two; () for `width`.
    """

    width: int
    stride: int = 1
    dtype: Any = jnp.float32
    inner: Sequence[int] = ()

    @nn.compact
    def __call__(self, features, *, train: bool):
        first, second = self.inner or (self.width, self.width)
        out = Conv(first, (1, 1), padding=0, use_bias=False, dtype=self.dtype)(features)
        out = nn.relu(BatchNorm(dtype=self.dtype)(out, train=train))
        out = Conv(second, strides=self.stride, padding=1, use_bias=False, dtype=self.dtype)(out)
        out = nn.relu(BatchNorm(dtype=self.dtype)(out, train=train))
        out = Conv(4 * self.width, (1, 1), padding=0, use_bias=False, dtype=self.dtype)(out)
        out = BatchNorm(dtype=self.dtype)(out, train=train)
        if features.shape != out.shape:
            features = Conv(4 * self.width, (1, 1), self.stride, 0, use_bias=False, dtype=self.dtype)(features)
            features = BatchNorm(dtype=self.dtype)(features, train=train)
        return nn.relu(out + features)


class BasicBlock(nn.Module):
    """conv3(stride)-conv3 with BN and a projected shortcut (He et al. 2015, arXiv:1512.03385, Fig. 5 left).

    inner: channels after the first convolution; 0 for `width`.
    """

    width: int
    stride: int = 1
    dtype: Any = jnp.float32
    inner: int = 0

    @nn.compact
    def __call__(self, features, *, train: bool):
        out = Conv(self.inner or self.width, strides=self.stride, padding=1, use_bias=False, dtype=self.dtype)(features)
        out = nn.relu(BatchNorm(dtype=self.dtype)(out, train=train))
        out = Conv(self.width, padding=1, use_bias=False, dtype=self.dtype)(out)
        out = BatchNorm(dtype=self.dtype)(out, train=train)
        if features.shape != out.shape:
            features = Conv(self.width, (1, 1), self.stride, 0, use_bias=False, dtype=self.dtype)(features)
            features = BatchNorm(dtype=self.dtype)(features, train=train)
        return nn.relu(out + features)


class ResNet50(nn.Module):
    """ResNet with bottlenecks for 224-pixel images; [B, H, W, 3] in [0, 1] to float32 logits [B, K], or with num_classes 0
    to the features [B, F] before them.

    Gates stand before the last two groups of blocks and before the last layer: before 'layer3', 'layer4' and 'fc' of four
    groups (Chattopadhyay et al. 2020, arXiv:2008.12839).

    inner: channels after the first and the second convolution of every block, in this order; () for the block's width.
    """

    BLOCK = BottleneckBlock
    HEAD = 'Dense_0'  # the last layer

    num_classes: int
    blocks: Sequence[int] = (3, 4, 6, 3)
    width: int = 64
    inner: Sequence[int] = ()
    dtype: Any = jnp.float32
    weights: str = ''  # a file of torchvision's weights; the last layer keeps its own

    @property
    def _convolutions(self) -> int:
        """Of a block, without its shortcut."""
        return 2 if self.BLOCK is BasicBlock else 3

    def gated_layers(self) -> tuple[str, ...]:
        """The layers whose inputs take gates, in the order of the forward pass."""
        count = len(self.blocks)
        groups = tuple(f'layer{i + 1}' for i in range(max(count - 2, 1), count))
        return (*groups, 'fc') if self.num_classes else groups

    def channels(self):
        """The channels that can be cut out (`gjax.masks.slice_channels`): those inside the blocks."""
        groups, inside = [], self._convolutions - 1
        for i in range(inside * sum(self.blocks)):
            block, k = (f'{self.BLOCK.__name__}_{i // inside}',), i % inside
            groups.append(group(f'inner[{i}]', (*block, f'BatchNorm_{k}'), (*block, f'Conv_{k}'), (*block, f'Conv_{k + 1}')))
        return tuple(groups)

    def channel_sizes(self):
        inside = self._convolutions - 1
        full = tuple(width for width, _ in block_shapes(self.blocks, self.width) for _ in range(inside))
        return {'inner': tuple(self.inner or full)}

    @nn.compact
    def __call__(self, images, *, train: bool, gates=None):
        layers = self.gated_layers()
        check_gates(gates, layers)
        features = standardize(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        features = Conv(self.width, (7, 7), 2, 3, use_bias=False, dtype=self.dtype)(features)
        features = nn.relu(BatchNorm(dtype=self.dtype)(features, train=train))
        features = nn.max_pool(features, (3, 3), (2, 2), ((1, 1), (1, 1)))
        inside = self._convolutions - 1
        check_inner(self.inner, inside * sum(self.blocks))
        begins = {sum(self.blocks[:i]): f'layer{i + 1}' for i in range(len(self.blocks))}
        for i, (width, stride) in enumerate(block_shapes(self.blocks, self.width)):
            if (layer := begins.get(i)) in layers:
                features = Gate(name=layer)(features, gates)
            inner = tuple(self.inner[inside * i : inside * (i + 1)])
            if inside == 1:
                inner = inner[0] if inner else 0
            features = self.BLOCK(width, stride, self.dtype, inner)(features, train=train)
        features = global_average_pool(features)
        if not self.num_classes:
            return features
        return nn.Dense(self.num_classes)(Gate(name='fc')(features, gates))

    def from_torch(self, arrays, head=None) -> dict:
        """Flax variables of this network from the arrays of a torchvision ResNet's state dict, by its names; with
        num_classes 0 without the last layer's.

        Args:
          arrays: {'conv1.weight': ..., 'layer1.0.bn1.running_mean': ...}; other names are those of other layers.
          head: {'kernel', 'bias'} of the last layer, in place of the file's; None for the file's own.

        Raises:
          ValueError: an array is missing or has another shape; one line.
        """
        layers, places = list(self.blocks), {'conv1': 'Conv_0', 'bn1': 'BatchNorm_0', 'fc': self.HEAD}
        count = self._convolutions
        for stage, blocks in enumerate(layers):
            for i in range(blocks):
                torch, flax = f'layer{stage + 1}.{i}.', f'{self.BLOCK.__name__}_{sum(layers[:stage]) + i}/'
                for k in range(count):
                    places |= {f'{torch}conv{k + 1}': f'{flax}Conv_{k}', f'{torch}bn{k + 1}': f'{flax}BatchNorm_{k}'}
                places |= {f'{torch}downsample.0': f'{flax}Conv_{count}', f'{torch}downsample.1': f'{flax}BatchNorm_{count}'}
        norm = {'weight': 'params/{}/scale', 'bias': 'params/{}/bias'}
        norm |= {'running_mean': 'batch_stats/{}/mean', 'running_var': 'batch_stats/{}/var'}
        found = {}
        for name, value in arrays.items():
            layer, _, kind = name.rpartition('.')
            place = places.get(layer)
            if place is None or kind == 'num_batches_tracked':
                continue
            if 'BatchNorm' in place:
                found[norm[kind].format(f'{place}/BatchNorm_0')] = np.asarray(value)
            elif kind == 'weight':
                found[f'params/{place}/kernel'] = as_kernel(value)
            else:
                found[f'params/{place}/{kind}'] = np.asarray(value)
        image = jnp.zeros((1, 32, 32, 3))
        shapes = jax.eval_shape(lambda: self.init(jax.random.key(0), image, train=False))
        return filled(shapes, with_head(found, f'params/{self.HEAD}', head), 'this ResNet')


class ResNet18(ResNet50):
    """ResNet with basic blocks for 224-pixel images, otherwise as `ResNet50`.

    inner: channels after the first convolution of every block; () for the block's width.
    """

    BLOCK = BasicBlock

    blocks: Sequence[int] = (2, 2, 2, 2)
