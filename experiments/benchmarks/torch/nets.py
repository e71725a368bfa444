"""Networks as a good PyTorch user would write them, whose modules carry the names of gjax's Flax modules, so that `load`
finds their parameters; images are NCHW.
"""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize


def tensor(array) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def _kernel(array, transposed: bool) -> torch.Tensor:
    """HWIO to torch's layout: OIHW, or of a transposed convolution, whose taps gjax does not flip, IOHW."""
    array = np.asarray(array)
    if array.ndim == 2:
        return tensor(array.T)
    return tensor(array[::-1, ::-1].transpose(2, 3, 0, 1) if transposed else array.transpose(3, 2, 0, 1))


def load(module: nn.Module, params: dict, stats: dict) -> None:
    """Copies a Flax module's parameters, as nested dicts, to the torch module of the same names, and what its layers with
    spectral normalisation remember.
    """
    for name, value in params.items():
        own = getattr(module, name)
        if hasattr(own, 'load_flax'):
            own.load_flax(value, stats.get(name, {}))
        elif 'BatchNorm' in name:
            norm = value.get('BatchNorm_0', {})
            for key, source in (('weight', 'scale'), ('bias', 'bias')):
                if source in norm:
                    getattr(own, key).data.copy_(tensor(norm[source]))
        elif 'kernel' in value:
            normalised = parametrize.is_parametrized(own)
            weight = own.parametrizations.weight.original if normalised else own.weight
            weight.data.copy_(_kernel(value['kernel'], isinstance(own, nn.ConvTranspose2d)))
            if normalised:
                norm, u = own.parametrizations.weight[0], tensor(_remembered(stats, f'{name}/kernel/u')[0]).to(weight.device)
                norm._u.copy_(u)
                norm._v.copy_(F.normalize(weight.data.flatten(1).T @ u, dim=0))
            if 'bias' in value:
                own.bias.data.copy_(tensor(value['bias']))
        else:
            load(own, value, stats.get(name, {}))


def _remembered(stats: dict, key: str):
    """The vector of the spectral normalisation of a layer, in whichever wrapper."""
    return next(wrapper[key] for wrapper in stats.values() if key in wrapper)


def flat(features):
    """[B, C, H, W] to [B, H W C], in the order of NHWC."""
    return features.permute(0, 2, 3, 1).flatten(1)


class SmallCNN(nn.Module):
    """Of images with an even side, which 'SAME' pads at the far side alone."""

    def __init__(self, channels, classes, side, widths, hidden):
        super().__init__()
        self.count = len(widths)
        for i, width in enumerate(widths):
            setattr(self, f'Conv_{i}', nn.Conv2d(channels, width, 3, 2, bias=False))
            setattr(self, f'BatchNorm_{i}', nn.BatchNorm2d(width))
            channels, side = width, side // 2
        self.Dense_0, self.Dense_1 = nn.Linear(side * side * channels, hidden), nn.Linear(hidden, classes)

    def forward(self, images):
        x = (images - 0.5) / 0.5
        for i in range(self.count):
            x = F.relu(getattr(self, f'BatchNorm_{i}')(getattr(self, f'Conv_{i}')(F.pad(x, (0, 1, 0, 1)))))
        return self.Dense_1(F.relu(self.Dense_0(flat(x))))


class GTAEmbedding(nn.Module):
    def __init__(self, channels, widths, pool_last):
        super().__init__()
        self.pools = [i < len(widths) - 1 or pool_last for i in range(len(widths))]
        for i, width in enumerate(widths):
            setattr(self, f'Conv_{i}', nn.Conv2d(channels, width, 5))
            channels = width

    def forward(self, images):
        x = (images - 0.44) / 0.19
        for i, pool in enumerate(self.pools):
            x = F.relu(getattr(self, f'Conv_{i}')(x))
            x = F.max_pool2d(x, 2) if pool else x
        return flat(x)


class MLP(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        self.count = len(sizes) - 1
        for i, (size, out) in enumerate(itertools.pairwise(sizes)):
            setattr(self, f'Dense_{i}', nn.Linear(size, out))

    def forward(self, x):
        for i in range(self.count):
            x = getattr(self, f'Dense_{i}')(x)
            x = F.relu(x) if i < self.count - 1 else x
        return x


class GTAGenerator(nn.Module):
    def __init__(self, inputs, channels, width, stages):
        super().__init__()
        self.stages = stages
        for i in range(stages):
            out, first = width * 2 ** (stages - 1 - i), i == 0
            layer = nn.ConvTranspose2d(inputs, out, 2 if first else 4, 2, 0 if first else 1, bias=False)
            setattr(self, f'ConvTranspose_{i}', layer)
            setattr(self, f'BatchNorm_{i}', nn.BatchNorm2d(out))
            inputs = out
        setattr(self, f'ConvTranspose_{stages}', nn.ConvTranspose2d(inputs, channels, 4, 2, 1, bias=False))

    def forward(self, conditions):
        x = conditions[:, :, None, None]
        for i in range(self.stages):
            x = F.relu(getattr(self, f'BatchNorm_{i}')(getattr(self, f'ConvTranspose_{i}')(x)))
        return torch.tanh(getattr(self, f'ConvTranspose_{self.stages}')(x))


class GTADiscriminator(nn.Module):
    def __init__(self, channels, classes, width, stages):
        super().__init__()
        self.pools = [2 if i < stages - 1 else 4 for i in range(stages)]
        for i in range(stages):
            out = width * (2**i if i < stages - 1 else 2)
            setattr(self, f'Conv_{i}', nn.Conv2d(channels, out, 3, padding=1))
            setattr(self, f'BatchNorm_{i}', nn.BatchNorm2d(out))
            channels = out
        self.real = nn.Linear(channels, 1)
        setattr(self, 'class', nn.Linear(channels, classes))

    def forward(self, x):
        for i, pool in enumerate(self.pools):
            x = F.leaky_relu(getattr(self, f'BatchNorm_{i}')(getattr(self, f'Conv_{i}')(x)), 0.2)
            x = F.max_pool2d(x, pool)
        features = flat(x)
        return self.real(features)[:, 0], getattr(self, 'class')(features)


class DCGANDecoder(nn.Module):
    def __init__(self, latent, side, channels, widths):
        super().__init__()
        self.side, outs = side >> len(widths), [*widths[-2::-1], channels]
        self.Dense_0 = nn.Linear(latent, self.side**2 * widths[-1], bias=False)
        width = widths[-1]
        self.count = len(outs)
        for i, out in enumerate(outs):
            setattr(self, f'BatchNorm_{i}', nn.BatchNorm2d(width))
            setattr(self, f'ConvTranspose_{i}', nn.ConvTranspose2d(width, out, 4, 2, 1, bias=i == len(outs) - 1))
            width = out

    def forward(self, codes):
        x = self.Dense_0(codes).unflatten(1, (self.side, self.side, -1)).permute(0, 3, 1, 2)
        for i in range(self.count):
            x = getattr(self, f'ConvTranspose_{i}')(F.relu(getattr(self, f'BatchNorm_{i}')(x)))
        return torch.sigmoid(x)


class DCGANTrunk(nn.Module):
    def __init__(self, channels, widths):
        super().__init__()
        self.count = len(widths)
        for i, width in enumerate(widths):
            setattr(self, f'Conv_{i}', nn.Conv2d(channels, width, 4, 2, 1, bias=i == 0))
            if i:
                setattr(self, f'BatchNorm_{i - 1}', nn.BatchNorm2d(width))
            channels = width

    def forward(self, images):
        x = 2 * images - 1
        for i in range(self.count):
            x = getattr(self, f'Conv_{i}')(x)
            x = F.leaky_relu(getattr(self, f'BatchNorm_{i - 1}')(x) if i else x, 0.2)
        return flat(x)


def spectral(layer):
    """The layer with its kernel divided by its largest singular value, one power iteration a pass."""
    return parametrizations.spectral_norm(layer)


class UpBlock(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.BatchNorm_0, self.BatchNorm_1 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)
        self.Conv_0, self.Conv_1 = nn.Conv2d(inputs, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.Conv_2 = nn.Conv2d(inputs, width, 1)

    def forward(self, x):
        out = self.Conv_0(F.interpolate(F.relu(self.BatchNorm_0(x)), scale_factor=2))
        out = self.Conv_1(F.relu(self.BatchNorm_1(out)))
        return out + self.Conv_2(F.interpolate(x, scale_factor=2))


class ResNetDecoder(nn.Module):
    def __init__(self, latent, side, channels, widths):
        super().__init__()
        self.side, self.count = side >> len(widths), len(widths)
        self.Dense_0 = nn.Linear(latent, self.side**2 * widths[-1])
        width = widths[-1]
        for i, out in enumerate(widths[::-1]):
            setattr(self, f'UpBlock_{i}', UpBlock(width, out))
            width = out
        self.BatchNorm_0, self.Conv_0 = nn.BatchNorm2d(width), nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, codes):
        x = self.Dense_0(codes).unflatten(1, (self.side, self.side, -1)).permute(0, 3, 1, 2)
        for i in range(self.count):
            x = getattr(self, f'UpBlock_{i}')(x)
        return torch.sigmoid(self.Conv_0(F.relu(self.BatchNorm_0(x))))


class DownBlock(nn.Module):
    def __init__(self, inputs, width, down, first):
        super().__init__()
        self.down, self.first = down, first
        self.Conv_0 = spectral(nn.Conv2d(inputs, width, 3, padding=1))
        self.Conv_1 = spectral(nn.Conv2d(width, width, 3, padding=1))
        self.Conv_2 = spectral(nn.Conv2d(inputs, width, 1)) if first or down or inputs != width else None

    def forward(self, x):
        out = self.Conv_1(F.relu(self.Conv_0(x if self.first else F.relu(x))))
        out = F.avg_pool2d(out, 2) if self.down else out
        if self.first:
            return out + self.Conv_2(F.avg_pool2d(x, 2) if self.down else x)
        x = self.Conv_2(x) if self.Conv_2 is not None else x
        return out + (F.avg_pool2d(x, 2) if self.down else x)


class ResNetTrunk(nn.Module):
    def __init__(self, channels, widths, plain):
        super().__init__()
        outs = [*widths, *[widths[-1]] * plain]
        self.count = len(outs)
        for i, out in enumerate(outs):
            setattr(self, f'DownBlock_{i}', DownBlock(channels, out, i < len(widths), i == 0))
            channels = out

    def forward(self, images):
        x = 2 * images - 1
        for i in range(self.count):
            x = getattr(self, f'DownBlock_{i}')(x)
        return F.relu(x).sum((2, 3))


class Headed(nn.Module):
    def __init__(self, trunk, features, normalised):
        super().__init__()
        self.trunk, self.head = trunk, nn.Linear(features, 1)
        if normalised:
            spectral(self.head)

    def forward(self, images):
        return self.head(self.trunk(images))[:, 0]


class PreActBlock(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.BatchNorm_0, self.BatchNorm_1 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)
        self.changes = stride != 1 or inputs != width
        layers = [nn.Conv2d(inputs, width, 1, stride, bias=False)] if self.changes else []
        layers += [nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.Conv2d(width, width, 3, 1, 1, bias=False)]
        for i, layer in enumerate(layers):
            setattr(self, f'Conv_{i}', layer)

    def forward(self, x):
        activated, first = F.relu(self.BatchNorm_0(x)), int(self.changes)
        out = F.relu(self.BatchNorm_1(getattr(self, f'Conv_{first}')(activated)))
        return getattr(self, f'Conv_{first + 1}')(out) + (self.Conv_0(activated) if self.changes else x)


class ResNet(nn.Module):
    """The trunk of a classifier: groups of so many blocks, each group twice as wide as the one before, after a stem."""

    block: type[nn.Module]

    def __init__(self, channels, blocks, width, stem, mean, std):
        super().__init__()
        self.Conv_0 = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
        self.register_buffer('mean', torch.tensor(mean).reshape(1, -1, 1, 1))
        self.register_buffer('std', torch.tensor(std).reshape(1, -1, 1, 1))
        shapes = [(width * 2**g, 2 if g and i == 0 else 1) for g, count in enumerate(blocks) for i in range(count)]
        inputs = [stem, *(out for out, _ in shapes)]
        self.count, self.outputs = len(shapes), inputs[-1]
        for i, (out, stride) in enumerate(shapes):
            setattr(self, f'{self.block.__name__}_{i}', self.block(inputs[i], out, stride))

    def features(self, images):
        x = self.Conv_0((images - self.mean) / self.std)
        for i in range(self.count):
            x = getattr(self, f'{self.block.__name__}_{i}')(x)
        return x


class PreActResNet(ResNet):
    block = PreActBlock

    def __init__(self, channels, classes, *sizes):
        super().__init__(channels, *sizes)
        self.BatchNorm_0, self.Dense_0 = nn.BatchNorm2d(self.outputs), nn.Linear(self.outputs, classes)

    def forward(self, images):
        return self.Dense_0(F.relu(self.BatchNorm_0(self.features(images))).mean((2, 3)))


class IAATBlock(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.added = width - inputs
        self.BatchNorm_0, self.BatchNorm_1 = nn.BatchNorm2d(inputs, affine=False), nn.BatchNorm2d(width, affine=False)
        self.Conv_0 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.Conv_1 = nn.Conv2d(width, width, 3, 1, 1, bias=False)

    def forward(self, x):
        out = self.Conv_1(F.relu(self.BatchNorm_1(self.Conv_0(F.relu(self.BatchNorm_0(x))))))
        return out + (F.pad(F.avg_pool2d(x, 3, 2, 1), (0, 0, 0, 0, 0, self.added)) if self.added else x)


class IAATResNet(ResNet):
    """The IAAT authors' network."""

    block = IAATBlock

    def __init__(self, channels, classes, *sizes):
        super().__init__(channels, *sizes)
        self.BatchNorm_0, self.BatchNorm_1 = nn.BatchNorm2d(self.outputs, affine=False), nn.BatchNorm2d(classes)
        self.Conv_1 = nn.Conv2d(self.outputs, classes, 1, bias=False)

    def forward(self, images):
        return self.BatchNorm_1(self.Conv_1(F.relu(self.BatchNorm_0(self.features(images))))).mean((2, 3))
