"""GLOW (Kingma & Dhariwal 2018, arXiv:1807.03039): actnorm, invertible 1 x 1 convolution and affine coupling, at several
scales.
"""

import dataclasses
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from gjax.checks import one_of, positive
from gjax.nets.bijectors import (
    PADDINGS,
    ActNorm,
    AffineCoupling,
    ConditionalGaussian,
    InvertibleConv,
    Repeated,
    Squeeze,
    VectorNetwork,
    ZeroConv,
    chained,
    check_inputs,
    check_sides,
    multi_scale,
    with_border,
)
from gjax.nets.layers import Conv

# What the released code of the paper (openai/glow), and the much-used port rosinality/glow-pytorch, do otherwise than the
# defaults of `Glow`: all of it by name.
AS_RELEASED = {
    'openai': {'scales': 'sigmoid', 'padding': 'edge', 'learned_prior': True},
    'glow_pytorch': {
        'scales': 'sigmoid',
        'padding': 'ones',
        'learned_prior': True,
        'unbiased_start': True,
        'network_norm': False,
    },
}
SCALES = ('bounded', 'sigmoid')


@dataclasses.dataclass(frozen=True)
class Choices:
    """In what implementations of GLOW differ; see `Glow`."""

    scales: str = 'bounded'
    padding: str = 'zeros'
    learned_prior: bool = False
    unbiased_start: bool = False
    network_norm: bool = True

    def actnorm(self) -> ActNorm:
        return ActNorm(self.unbiased_start)


class GlowNetwork(nn.Module):
    """Of a coupling: 3 x 3, 1 x 1 and 3 x 3 convolutions, the first two normalised (`ActNorm`), the last one zero at first.

    [B, H, W, C] to float32 [B, H, W, outputs].
    """

    outputs: int
    hidden: int = 512
    dtype: Any = jnp.float32
    choices: Choices = Choices()

    @nn.compact
    def __call__(self, inputs):
        x, init = inputs, nn.initializers.normal(0.05)
        edge, norm = self.choices.padding == 'edge', self.choices.network_norm
        for size in (3, 1):
            options = {'use_bias': not norm, 'kernel_init': init, 'dtype': self.dtype}
            if edge and size == 3:
                x, options = with_border(x, 'edge'), options | {'padding': 'VALID'}
            x = Conv(self.hidden, (size, size), **options)(x)
            x = nn.relu(self.choices.actnorm()(x.astype(jnp.float32))[0].astype(self.dtype) if norm else x)
        return ZeroConv(self.outputs, self.choices.padding)(x)


class GlowStep(nn.Module):
    """One step of flow (figure 2 a), over images or vectors [B, D]."""

    hidden: int = 512
    bound: float = 2.0
    dtype: Any = jnp.float32
    choices: Choices = Choices()

    @nn.compact
    def __call__(self, inputs, *, inverse: bool = False):
        own = {} if inputs.ndim == 2 else {'choices': self.choices}
        network = partial(VectorNetwork if inputs.ndim == 2 else GlowNetwork, hidden=self.hidden, dtype=self.dtype, **own)
        coupling = AffineCoupling(network, self.bound, sigmoid=self.choices.scales == 'sigmoid')
        return chained([self.choices.actnorm(), InvertibleConv(), coupling], inputs, inverse=inverse)


class GlowLevel(nn.Module):
    """Squeeze, then `depth` steps of flow."""

    depth: int
    hidden: int
    bound: float
    remat: bool
    dtype: Any
    choices: Choices

    @nn.compact
    def __call__(self, inputs, *, inverse: bool = False):
        step = partial(GlowStep, self.hidden, self.bound, self.dtype, self.choices, parent=None)
        return chained([Squeeze(), Repeated(step, self.depth, self.remat)], inputs, inverse=inverse)


class Glow(nn.Module):
    """Images [B, H, W, C] in [0, 1] to standard normal latents [B, H W C] and, with `inverse`, back; and log-determinants.

    levels: how often it is squeezed. depth: steps of each. hidden: channels of the coupling networks. bound: of log-scales.
    logit: whether the logit comes first. remat: less memory for more arithmetic. CIFAR-10 in the paper: 3, 32 and 512.

    In the following the defaults differ from the authors' released code, so that likelihoods stay finite under attack and no
    convolution knows more than the image:

    scales: 'bounded', log-scales of couplings and of what is factored out within +-bound; or 'sigmoid', couplings scale by
      sigmoid(r + 2), and the Gaussians of what is factored out by exp(r) without a bound.
    padding: what the last convolutions of the coupling networks, and those of the Gaussians, see around the image: 'zeros';
      'ones'; or 'edge', zeros and one more channel that is 1 there, which the first convolutions see too.
    learned_prior: whether the last latents have means and deviations of their own, learned for every channel and, with a
      padding other than zeros, for the border; else a standard normal.
    unbiased_start: whether actnorm begins with deviations over N - 1 values instead of N.
    network_norm: whether the coupling networks are normalised (`ActNorm`); else their convolutions have biases.
    as_released: all five at once (AS_RELEASED), as in 'openai', the authors' code, or in 'glow_pytorch', rosinality's port.
      On weights that were compared they made a difference of 0.13 and 0.22 bits per dimension.

    With image_shape (D,), D >= 2, it is a flow over vectors [B, D] of any range: `levels` times `depth` steps with dense
    networks and D x D matrices, all of one scale. There is no logit, which is for pixels, and no border nor learned prior.
    """

    image_shape: tuple[int, ...]
    levels: int = 3
    depth: int = 32
    hidden: int = 512
    bound: float = 2.0
    logit: bool = False
    remat: bool = False
    dtype: Any = jnp.float32
    scales: str = 'bounded'
    padding: str = 'zeros'
    learned_prior: bool = False
    unbiased_start: bool = False
    network_norm: bool = True
    as_released: str = ''

    def __post_init__(self):
        check_sides(self.image_shape, self.levels if self.levels else -1)
        for name in ('depth', 'hidden'):
            positive(name, getattr(self, name), zero=False)
        one_of('scales', self.scales, SCALES)
        one_of('padding', self.padding, PADDINGS)
        if self.as_released:
            one_of('as_released', self.as_released, tuple(AS_RELEASED))
        for field in dataclasses.fields(Choices):
            value = getattr(self, field.name)
            if self.as_released and value != field.default:
                raise ValueError(
                    f'{field.name} is {value!r} beside as_released={self.as_released!r}; allowed: one of the two'
                )
        own = self.choices
        if len(self.image_shape) == 1 and own != Choices(own.scales, unbiased_start=own.unbiased_start):
            raise ValueError(
                f'image_shape is {tuple(self.image_shape)} with padding={own.padding!r}, learned_prior={own.learned_prior}, '
                f"network_norm={own.network_norm}; allowed for vectors: 'zeros', False, True"
            )
        super().__post_init__()

    @property
    def choices(self) -> Choices:
        """The five options, those of `as_released` if it is set."""
        if self.as_released:
            return Choices(**AS_RELEASED[self.as_released])
        return Choices(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Choices)})

    @nn.compact
    def __call__(self, inputs, *, inverse: bool = False):
        check_inputs(inputs, self.image_shape, inverse=inverse)
        own = self.choices
        if len(self.image_shape) == 1:
            step = partial(GlowStep, self.hidden, self.bound, self.dtype, own, parent=None)
            steps = [Repeated(step, self.depth, self.remat) for _ in range(self.levels)]
            return chained(steps, inputs, inverse=inverse)
        levels = [GlowLevel(self.depth, self.hidden, self.bound, self.remat, self.dtype, own) for _ in range(self.levels)]
        gaussian = partial(ConditionalGaussian, self.bound if own.scales == 'bounded' else 0.0, own.padding)
        splits = [gaussian() for _ in range(self.levels - 1)]
        prior = gaussian() if own.learned_prior else None
        options = {'logit': self.logit, 'last_squeezed': True, 'inverse': inverse, 'prior': prior}
        return multi_scale(inputs, levels, splits, self.image_shape, **options)
