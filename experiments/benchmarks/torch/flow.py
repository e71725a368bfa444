"""GLOW as a good PyTorch user would write it; nets.py tells whose names its modules carry."""

import torch
import torch.nn.functional as F
from torch import nn

from experiments.benchmarks.torch.nets import load, tensor


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
