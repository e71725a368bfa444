"""GLOW (Kingma & Dhariwal 2018, arXiv:1807.03039): actnorm, invertible 1 x 1 convolution and affine coupling, at several
scales.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from gjax.checks import positive
from gjax.nets.bijectors import (
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
)
from gjax.nets.layers import Conv


class GlowNetwork(nn.Module):
    """Of a coupling: 3 x 3, 1 x 1 and 3 x 3 convolutions, the first two normalised (`ActNorm`), the last one zero at first.

    [B, H, W, C] to float32 [B, H, W, outputs].
    """

    outputs: int
    hidden: int = 512
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs):
        x, init = inputs, nn.initializers.normal(0.05)
        for size in (3, 1):
            x = Conv(self.hidden, (size, size), use_bias=False, kernel_init=init, dtype=self.dtype)(x)
            x = nn.relu(ActNorm()(x.astype(jnp.float32))[0].astype(self.dtype))
        return ZeroConv(self.outputs)(x)


class GlowStep(nn.Module):
    """One step of flow (figure 2 a), over images or vectors [B, D]."""

    hidden: int = 512
    bound: float = 2.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs, *, inverse: bool = False):
        kind = VectorNetwork if inputs.ndim == 2 else GlowNetwork
        network = partial(kind, hidden=self.hidden, dtype=self.dtype)
        return chained([ActNorm(), InvertibleConv(), AffineCoupling(network, self.bound)], inputs, inverse=inverse)


class GlowLevel(nn.Module):
    """Squeeze, then `depth` steps of flow."""

    depth: int
    hidden: int
    bound: float
    remat: bool
    dtype: Any

    @nn.compact
    def __call__(self, inputs, *, inverse: bool = False):
        step = partial(GlowStep, self.hidden, self.bound, self.dtype, parent=None)
        return chained([Squeeze(), Repeated(step, self.depth, self.remat)], inputs, inverse=inverse)


class Glow(nn.Module):
    """Images [B, H, W, C] in [0, 1] to standard normal latents [B, H W C] and, with `inverse`, back; and log-determinants.

    levels: how often it is squeezed. depth: steps of each. hidden: channels of the coupling networks. bound: of log-scales.
    logit: whether the logit comes first. remat: less memory for more arithmetic. CIFAR-10 in the paper: 3, 32 and 512.

    With image_shape (D,), D >= 2, it is a flow over vectors [B, D] of any range: `levels` times `depth` steps with dense
    networks and D x D matrices, all of one scale. There is no logit, which is for pixels.
    """

    image_shape: tuple[int, ...]
    levels: int = 3
    depth: int = 32
    hidden: int = 512
    bound: float = 2.0
    logit: bool = False
    remat: bool = False
    dtype: Any = jnp.float32

    def __post_init__(self):
        check_sides(self.image_shape, self.levels if self.levels else -1)
        for name in ('depth', 'hidden'):
            positive(name, getattr(self, name), zero=False)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs, *, inverse: bool = False):
        check_inputs(inputs, self.image_shape, inverse=inverse)
        if len(self.image_shape) == 1:
            step = partial(GlowStep, self.hidden, self.bound, self.dtype, parent=None)
            steps = [Repeated(step, self.depth, self.remat) for _ in range(self.levels)]
            return chained(steps, inputs, inverse=inverse)
        levels = [GlowLevel(self.depth, self.hidden, self.bound, self.remat, self.dtype) for _ in range(self.levels)]
        splits = [ConditionalGaussian(self.bound) for _ in range(self.levels - 1)]
        options = {'logit': self.logit, 'last_squeezed': True, 'inverse': inverse}
        return multi_scale(inputs, levels, splits, self.image_shape, **options)
