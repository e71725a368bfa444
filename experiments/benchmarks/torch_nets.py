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
        setattr(self, f'ConvTranspose_{stages}', nn.ConvTranspose2d(inputs, channels, 4, 2, 1))

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


class PreActResNet(nn.Module):
    """Of groups of so many blocks, each twice as wide as the one before, after a stem."""

    def __init__(self, channels, classes, blocks, width, stem, mean, std):
        super().__init__()
        self.Conv_0 = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
        self.register_buffer('mean', torch.tensor(mean).reshape(1, -1, 1, 1))
        self.register_buffer('std', torch.tensor(std).reshape(1, -1, 1, 1))
        inputs, self.count = stem, sum(blocks)
        shapes = [(width * 2**g, 2 if g and i == 0 else 1) for g, count in enumerate(blocks) for i in range(count)]
        for i, (out, stride) in enumerate(shapes):
            setattr(self, f'PreActBlock_{i}', PreActBlock(inputs, out, stride))
            inputs = out
        self.BatchNorm_0, self.Dense_0 = nn.BatchNorm2d(inputs), nn.Linear(inputs, classes)

    def forward(self, images):
        x = self.Conv_0((images - self.mean) / self.std)
        for i in range(self.count):
            x = getattr(self, f'PreActBlock_{i}')(x)
        return self.Dense_0(F.relu(self.BatchNorm_0(x)).mean((2, 3)))


def bounded(raw):
    return 2 * torch.tanh(raw / 2)


def squeeze(x):
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(batch, 4 * channels, height // 2, width // 2)


class ActNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.shift, self.log_scale = (nn.Parameter(torch.zeros(channels)) for _ in range(2))

    def load_flax(self, params, stats):
        self.shift.data.copy_(tensor(params['shift']))
        self.log_scale.data.copy_(tensor(params['log_scale']))

    def forward(self, x):
        y = (x + self.shift[:, None, None]) * self.log_scale.exp()[:, None, None]
        return y, x[0, 0].numel() * self.log_scale.sum()


class InvertibleConv(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.lower, self.upper = (nn.Parameter(torch.zeros(channels, channels)) for _ in range(2))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer('signs', torch.ones(channels))
        self.register_buffer('order', torch.arange(channels))
        self.register_buffer('eye', torch.eye(channels))

    def load_flax(self, params, stats):
        for name, value in params['learned'].items():
            getattr(self, name).data.copy_(tensor(value))
        for name, value in stats['fixed'].items():
            getattr(self, name).copy_(tensor(value))

    def forward(self, x):
        upper = self.upper.triu(1) + torch.diag(self.signs * self.log_scale.exp())
        weight = ((self.lower.tril(-1) + self.eye) @ upper)[self.order]
        return F.conv2d(x, weight[:, :, None, None]), x[0, 0].numel() * self.log_scale.sum()


class ZeroConv(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.Conv_0, self.log_scale = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Parameter(torch.zeros(outputs))

    def load_flax(self, params, stats):
        load(self, {'Conv_0': params['Conv_0']}, {})
        self.log_scale.data.copy_(tensor(params['log_scale']))

    def forward(self, x):
        return self.Conv_0(x) * (3 * self.log_scale).exp()[:, None, None]


class GlowNetwork(nn.Module):
    def __init__(self, inputs, outputs, hidden):
        super().__init__()
        self.Conv_0 = nn.Conv2d(inputs, hidden, 3, padding=1, bias=False)
        self.Conv_1 = nn.Conv2d(hidden, hidden, 1, bias=False)
        self.ActNorm_0, self.ActNorm_1 = ActNorm(hidden), ActNorm(hidden)
        self.ZeroConv_0 = ZeroConv(hidden, outputs)

    def forward(self, x):
        x = F.relu(self.ActNorm_0(self.Conv_0(x))[0])
        return self.ZeroConv_0(F.relu(self.ActNorm_1(self.Conv_1(x))[0]))


class AffineCoupling(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.GlowNetwork_0 = GlowNetwork((channels + 1) // 2, 2 * (channels // 2), hidden)

    def forward(self, x):
        kept, moved = x.chunk(2, 1)
        shift, scale = self.GlowNetwork_0(kept).chunk(2, 1)
        scale = bounded(scale)
        return torch.cat([kept, (moved + shift) * scale.exp()], 1), scale.sum((1, 2, 3))


class GlowStep(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.ActNorm_0, self.InvertibleConv_0 = ActNorm(channels), InvertibleConv(channels)
        self.AffineCoupling_0 = AffineCoupling(channels, hidden)

    def forward(self, x):
        x, first = self.ActNorm_0(x)
        x, second = self.InvertibleConv_0(x)
        x, third = self.AffineCoupling_0(x)
        return x, first + second + third


def _layer(tree, number: int):
    return {key: _layer(value, number) if isinstance(value, dict) else value[number] for key, value in tree.items()}


class GlowLevel(nn.Module):
    def __init__(self, channels, depth, hidden):
        super().__init__()
        self.steps = nn.ModuleList(GlowStep(channels, hidden) for _ in range(depth))

    def load_flax(self, params, stats):
        learned, fixed = params['Repeated_0']['learned'], stats['Repeated_0']['fixed']
        for number, step in enumerate(self.steps):
            load(step, _layer(learned, number), _layer(fixed, number))

    def forward(self, x):
        x, total = squeeze(x), 0
        for step in self.steps:
            x, log_det = step(x)
            total = total + log_det
        return x, total


class Glow(nn.Module):
    """Images in [0, 1] to latents [B, D] and log-determinants [B]."""

    def __init__(self, channels, levels, depth, hidden):
        super().__init__()
        self.levels = levels
        for i in range(levels):
            channels *= 4
            setattr(self, f'GlowLevel_{i}', GlowLevel(channels, depth, hidden))
            if i < levels - 1:
                channels //= 2
                gaussian = nn.Module()
                gaussian.ZeroConv_0 = ZeroConv(channels, 2 * channels)
                setattr(self, f'ConditionalGaussian_{i}', gaussian)

    def forward(self, images):
        x, total, latents = images - 0.5, 0, []
        for i in range(self.levels):
            x, log_det = getattr(self, f'GlowLevel_{i}')(x)
            total = total + log_det
            if i < self.levels - 1:
                x, out = x.chunk(2, 1)
                mean, scale = getattr(self, f'ConditionalGaussian_{i}').ZeroConv_0(x).chunk(2, 1)
                scale = bounded(scale)
                latents.append(((out - mean) * (-scale).exp()).flatten(1))
                total = total - scale.sum((1, 2, 3))
        return torch.cat([*latents, x.flatten(1)], 1), total
