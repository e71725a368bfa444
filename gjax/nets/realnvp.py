"""RealNVP (Dinh et al. 2017, arXiv:1605.08803): affine couplings over checkerboards and channels, at several scales."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from gjax.checks import positive
from gjax.nets.bijectors import (
    ActNorm,
    AffineCoupling,
    CheckerboardCoupling,
    Squeeze,
    VectorNetwork,
    ZeroConv,
    chained,
    check_inputs,
    check_sides,
    multi_scale,
)
from gjax.nets.layers import Conv


class ResidualNetwork(nn.Module):
    """Of a coupling: residual blocks of two 3 x 3 convolutions with normalised weights (Salimans & Kingma 2016), and a last
    convolution that is zero at first. [B, H, W, C] to float32 [B, H, W, outputs].
    """

    outputs: int
    hidden: int = 64
    blocks: int = 8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs):
        def conv(x):
            return nn.WeightNorm(Conv(self.hidden, dtype=self.dtype))(x).astype(self.dtype)

        x = conv(inputs)
        for _ in range(self.blocks):
            x += conv(nn.relu(conv(nn.relu(x))))
        return ZeroConv(self.outputs)(nn.relu(x))


class RealNVPLevel(nn.Module):
    """Couplings that alternate over a checkerboard: three, then a squeeze and three over channels; or four alone (`last`).

    Each is followed by an `ActNorm`, in the place of the paper's batch normalisation, whose log-determinant would tie
    the images of a batch, and a perturbation's effect, together.
    """

    hidden: int
    blocks: int
    bound: float
    last: bool
    remat: bool
    dtype: Any

    @nn.compact
    def __call__(self, inputs, *, inverse: bool = False):
        kind = nn.remat(ResidualNetwork) if self.remat else ResidualNetwork
        sizes = {'hidden': self.hidden, 'blocks': self.blocks, 'dtype': self.dtype}
        network = partial(kind, name='ResidualNetwork_0', **sizes)  # the same parameters either way
        couplings = [CheckerboardCoupling(network, self.bound, i % 2) for i in range(4 if self.last else 3)]
        steps = [step for coupling in couplings for step in (coupling, ActNorm())]
        if not self.last:
            couplings = [AffineCoupling(network, self.bound, bool(i % 2)) for i in range(3)]
            steps += [Squeeze(), *(step for coupling in couplings for step in (coupling, ActNorm()))]
        return chained(steps, inputs, inverse=inverse)


class VectorLevel(nn.Module):
    """Four couplings over vectors that move each half of the coordinates in turn, each followed by an `ActNorm`."""

    hidden: int
    blocks: int
    bound: float
    remat: bool
    dtype: Any

    @nn.compact
    def __call__(self, inputs, *, inverse: bool = False):
        kind = nn.remat(VectorNetwork) if self.remat else VectorNetwork
        sizes = {'hidden': self.hidden, 'blocks': self.blocks, 'dtype': self.dtype}
        network = partial(kind, name='VectorNetwork_0', **sizes)
        couplings = [AffineCoupling(network, self.bound, bool(i % 2)) for i in range(4)]
        return chained([step for coupling in couplings for step in (coupling, ActNorm())], inputs, inverse=inverse)


class RealNVP(nn.Module):
    """Images [B, H, W, C] in [0, 1] to standard normal latents [B, H W C] and, with `inverse`, back; and log-determinants.

    levels: scales, the last one without a squeeze. hidden, blocks: of the residual networks, whose channels double with
    every level. bound: of log-scales. logit: whether the logit comes first. remat: less memory for more arithmetic.
    CIFAR-10 in the paper: 2 levels, 8 blocks of 64.

    With image_shape (D,), D >= 2, it is a flow over vectors [B, D] of any range: `levels` of four couplings each with dense
    networks, all of one scale and one width. There is no logit, which is for pixels.

      flow = RealNVP((2,), hidden=32, blocks=1)
      variables = flow.init(rng, vectors)
      nll = standard_normal_nll(*flow.apply(variables, vectors))

    ValueError for images of one pixel, whose couplings would have no other pixel to go by.
    """

    image_shape: tuple[int, ...]
    levels: int = 2
    hidden: int = 64
    blocks: int = 8
    bound: float = 2.0
    logit: bool = True
    remat: bool = False
    dtype: Any = jnp.float32

    def __post_init__(self):
        check_sides(self.image_shape, self.levels - 1)
        positive('hidden', self.hidden, zero=False)
        if tuple(self.image_shape[:2]) == (1, 1):
            size = self.image_shape[2]
            raise ValueError(f'images are 1 x 1 pixels; allowed: at least 2 pixels, or image_shape ({size},) for vectors')
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs, *, inverse: bool = False):
        check_inputs(inputs, self.image_shape, inverse=inverse)
        if len(self.image_shape) == 1:
            options = (self.hidden, self.blocks, self.bound, self.remat, self.dtype)
            return chained([VectorLevel(*options) for _ in range(self.levels)], inputs, inverse=inverse)
        levels = [
            RealNVPLevel(self.hidden * 2**i, self.blocks, self.bound, i == self.levels - 1, self.remat, self.dtype)
            for i in range(self.levels)
        ]
        splits = [None] * (self.levels - 1)
        options = {'logit': self.logit, 'last_squeezed': False, 'inverse': inverse}
        return multi_scale(inputs, levels, splits, self.image_shape, **options)
