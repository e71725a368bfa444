"""Bijections of which normalizing flows are made, as Linen modules: `bijection(x) -> (y, log |det dy/dx|)` and
`bijection(y, inverse=True) -> (x, log |det dx/dy|)`, float32, the log-determinants per example [B], in nats.

Only the networks inside couplings compute in another dtype, if told to.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from gjax.checks import check_floats, check_shape
from gjax.losses import sum_per_example
from gjax.nets.layers import Conv

LOGIT_ALPHA = 0.05  # how far from 0 and 1 the logit's arguments stay (Dinh et al. 2017, section 4.1)


def bounded(raw, bound: float):
    """bound * tanh(raw / bound): the identity near 0, within +-bound everywhere.

    Log-scales without a bound overflow under attack (RealNVP's have a tanh; Dinh et al. 2017, section 3.6).
    """
    return bound * jnp.tanh(raw / bound)


def squeeze(images):
    """[B, H, W, C] to [B, H / 2, W / 2, 4 C]: 2 x 2 blocks of pixels become channels, a pixel's colours together (Dinh et
    al. 2017, section 3.6).
    """
    batch, height, width, channels = images.shape
    blocks = images.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2, width // 2, 4 * channels)


def unsqueeze(features):
    """The inverse of `squeeze`."""
    batch, height, width, channels = features.shape
    blocks = features.reshape(batch, height, width, 2, 2, channels // 4)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels // 4)


class Squeeze(nn.Module):
    """`squeeze` as a bijection, of log-determinant 0."""

    @nn.compact
    def __call__(self, inputs, *, inverse: bool = False):
        return (unsqueeze if inverse else squeeze)(inputs), jnp.zeros(len(inputs))


def chained(bijections, inputs, *, inverse: bool = False):
    """Bijections one after the other, or undone in the other order: outputs and the sum of the log-determinants."""
    outputs, total = inputs, jnp.zeros(len(inputs))
    for bijection in reversed(bijections) if inverse else bijections:
        outputs, log_det = bijection(outputs, inverse=inverse)
        total += log_det
    return outputs, total


def to_pixels(images, *, logit: bool, inverse: bool = False):
    """What a flow sees of images in [0, 1]: x - 1/2 or, with `logit`, logit(a + (1 - 2 a) x), a = 0.05 (Dinh et al. 2017,
    section 4.1), and the log-determinant [B].
    """
    if not logit:
        return images + (0.5 if inverse else -0.5), jnp.zeros(len(images))
    share = 1 - 2 * LOGIT_ALPHA
    if inverse:
        logits, outputs = images, (jax.nn.sigmoid(images) - LOGIT_ALPHA) / share
    else:
        squashed = LOGIT_ALPHA + share * images
        logits = outputs = jnp.log(squashed) - jnp.log1p(-squashed)
    log_det = sum_per_example(math.log(share) - jax.nn.log_sigmoid(logits) - jax.nn.log_sigmoid(-logits))
    return outputs, -log_det if inverse else log_det


class ActNorm(nn.Module):
    """y = (x + shift) exp(log_scale) per channel, initialised so that the first batch gives mean 0, variance 1 (Kingma &
    Dhariwal 2018, section 3.1). Means are over the global batch: sharding it changes nothing.

    unbiased: whether that variance is a sum of squares over N - 1 instead of N values of a channel, as in glow-pytorch.
    """

    unbiased: bool = False

    @nn.compact
    def __call__(self, inputs, *, inverse: bool = False):
        axes = tuple(range(inputs.ndim - 1))
        shift = self.param('shift', lambda _: -jnp.mean(inputs, axis=axes))
        log_scale = self.param('log_scale', lambda _: -jnp.log(jnp.std(inputs, axis=axes, ddof=int(self.unbiased)) + 1e-6))
        lead = (1,) * len(axes)
        shift, factors = shift.reshape(*lead, -1), log_scale.reshape(*lead, -1)
        log_det = jnp.full(len(inputs), math.prod(inputs.shape[1:-1]) * jnp.sum(log_scale))
        if inverse:
            return inputs * jnp.exp(-factors) - shift, -log_det
        return (inputs + shift) * jnp.exp(factors), log_det


def _rotation_factors(rng, size: int):
    """P, L, U and the signs and logarithms of U's diagonal, of a random rotation [size, size] = P L U."""
    rotation = jnp.linalg.qr(jax.random.normal(rng, (size, size)))[0]
    permutation, lower, upper = jax.scipy.linalg.lu(rotation)
    diagonal = jnp.diagonal(upper)
    params = {'lower': jnp.tril(lower, -1), 'upper': jnp.triu(upper, 1), 'log_scale': jnp.log(jnp.abs(diagonal))}
    return params, {'order': jnp.argmax(permutation, axis=1), 'signs': jnp.sign(diagonal)}


def initialised(module: nn.Module, make: Callable):
    """(learned, fixed) of a module, make(rng) -> both at its initialisation; two dicts that are drawn together, unlike what
    two calls of `self.param` give. `fixed` is kept in the collection 'batch_stats'.
    """
    if not module.has_variable('params', 'learned'):
        learned, fixed = make(module.make_rng('params'))
        module.put_variable('params', 'learned', learned)
        module.put_variable('batch_stats', 'fixed', fixed)
    return module.get_variable('params', 'learned'), module.get_variable('batch_stats', 'fixed')


class InvertibleConv(nn.Module):
    """y = W x at every pixel, W = P L (U + diag(s)): a 1 x 1 convolution whose determinant is the product of s (Kingma &
    Dhariwal 2018, Eq. 10-11). W begins as a random rotation; the permutation P and the signs of s are not learned.
    """

    @nn.compact
    def __call__(self, inputs, *, inverse: bool = False):
        channels = inputs.shape[-1]
        params, fixed = initialised(self, lambda rng: _rotation_factors(rng, channels))
        lower = jnp.tril(params['lower'], -1) + jnp.eye(channels)
        upper = jnp.triu(params['upper'], 1) + jnp.diag(fixed['signs'] * jnp.exp(params['log_scale']))
        log_det = jnp.full(len(inputs), math.prod(inputs.shape[1:-1]) * jnp.sum(params['log_scale']))
        if inverse:
            pixels = inputs.reshape(-1, channels)[:, jnp.argsort(fixed['order'])].T
            pixels = jax.scipy.linalg.solve_triangular(lower, pixels, lower=True, unit_diagonal=True)
            return jax.scipy.linalg.solve_triangular(upper, pixels).T.reshape(inputs.shape), -log_det
        weights = jnp.matmul(lower, upper, precision=lax.Precision.HIGHEST)[fixed['order']]
        return jnp.einsum('...c,dc->...d', inputs, weights, precision=lax.Precision.HIGHEST), log_det


class AffineCoupling(nn.Module):
    """Half of the channels, scaled and shifted as a network of the other half says (Dinh et al. 2017, Eq. 7-8):

      y_a = x_a, y_b = (x_b + t(x_a)) exp(s(x_a)), |s| <= bound.

    network: inputs [B, H, W, C_a] -> [B, H, W, 2 C_b], t and s; made when called, with how many outputs it has. swap: b, not
    a, stays. sigmoid: exp(s) is sigmoid(r + 2) of the network's output r, as in GLOW's released code, instead of
    exp(bound tanh(r / bound)): below 1, and without a bound below. Of vectors [B, D] it is the coordinates that are halved.
    ValueError for a single channel, which could never change.
    """

    network: Callable[[int], nn.Module]
    bound: float = 2.0
    swap: bool = False
    sigmoid: bool = False

    @nn.compact
    def __call__(self, inputs, *, inverse: bool = False):
        if inputs.shape[-1] < 2:
            raise ValueError(f'a coupling got inputs of shape {inputs.shape}; allowed: at least 2 channels to halve')
        kept, moved = jnp.split(inputs, [(inputs.shape[-1] + 1) // 2], axis=-1)
        if self.swap:
            kept, moved = moved, kept
        shift, scale = jnp.split(self.network(2 * moved.shape[-1])(kept).astype(jnp.float32), 2, axis=-1)
        scale = jax.nn.log_sigmoid(scale + 2) if self.sigmoid else bounded(scale, self.bound)
        log_det = sum_per_example(scale)
        if inverse:
            moved, log_det = moved * jnp.exp(-scale) - shift, -log_det
        else:
            moved = (moved + shift) * jnp.exp(scale)
        return jnp.concatenate([moved, kept] if self.swap else [kept, moved], axis=-1), log_det


def checkerboard(height: int, width: int, parity: int):
    """[1, H, W, 1] float: 1 where row + column + parity is even."""
    places = jnp.arange(height)[:, None] + jnp.arange(width)[None]
    return ((places + parity) % 2 == 0).astype(jnp.float32)[None, :, :, None]


class CheckerboardCoupling(nn.Module):
    """The pixels of one colour of a checkerboard, scaled and shifted as a network of the others says (Dinh et al. 2017,
    section 3.4); as `AffineCoupling`, with `network` of whole images. parity: which colour stays.
    """

    network: Callable[[int], nn.Module]
    bound: float = 2.0
    parity: int = 0

    @nn.compact
    def __call__(self, inputs, *, inverse: bool = False):
        _, height, width, channels = inputs.shape
        stays = checkerboard(height, width, self.parity)
        shift, scale = jnp.split(self.network(2 * channels)(inputs * stays).astype(jnp.float32), 2, axis=-1)
        shift, scale = shift * (1 - stays), bounded(scale, self.bound) * (1 - stays)
        log_det = sum_per_example(scale)
        if inverse:
            return inputs * jnp.exp(-scale) - shift, -log_det
        return (inputs + shift) * jnp.exp(scale), log_det


class ConditionalGaussian(nn.Module):
    """What is factored out of a flow, made standard normal given what stays: e = (x - m(h)) exp(-s(h)), |s| <= bound, with m
    and s a 3 x 3 convolution that begins at zero (Kingma & Dhariwal 2018, released code).

    bound: of s; 0 for none, as in the released code. padding: of `ZeroConv`.
    """

    bound: float = 2.0
    padding: str = 'zeros'

    @nn.compact
    def __call__(self, outputs, condition, *, inverse: bool = False):
        mean, scale = jnp.split(ZeroConv(2 * outputs.shape[-1], self.padding)(condition), 2, axis=-1)
        scale = bounded(scale, self.bound) if self.bound else scale
        log_det = -sum_per_example(scale)
        if inverse:
            return mean + outputs * jnp.exp(scale), -log_det
        return (outputs - mean) * jnp.exp(-scale), log_det


PADDINGS = ('zeros', 'ones', 'edge')


def with_border(images, padding: str):
    """Images [B, H, W, C] with one pixel more on every side, [B, H + 2, W + 2, C], so that a 3 x 3 convolution tells where
    the image ends.

    padding: 'zeros'; 'ones'; or 'edge': zeros, and one more channel, which is 1 in the border and 0 inside.
    """
    border = ((0, 0), (1, 1), (1, 1), (0, 0))
    padded = jnp.pad(images, border, constant_values=float(padding == 'ones'))
    if padding != 'edge':
        return padded
    inside = jnp.zeros((*images.shape[:3], 1), images.dtype)
    return jnp.concatenate([padded, jnp.pad(inside, border, constant_values=1.0)], axis=-1)


class ZeroConv(nn.Module):
    """A 3 x 3 convolution that begins at zero, its outputs times exp(3 log_scale), which is learned (Kingma & Dhariwal 2018,
    released code); float32.

    padding: see `with_border`. Of the released code 'edge', of glow-pytorch 'ones'.
    """

    features: int
    padding: str = 'zeros'

    @nn.compact
    def __call__(self, inputs):
        zeros, inputs = nn.initializers.zeros_init(), inputs.astype(jnp.float32)
        if self.padding == 'zeros':
            outputs = Conv(self.features, kernel_init=zeros, bias_init=zeros)(inputs)
        else:
            bordered = with_border(inputs, self.padding)
            outputs = Conv(self.features, padding='VALID', kernel_init=zeros, bias_init=zeros)(bordered)
        log_scale = self.param('log_scale', zeros, (self.features,))
        return outputs * jnp.exp(3 * log_scale).reshape(1, 1, 1, -1)


class VectorNetwork(nn.Module):
    """Of a coupling over vectors: a dense layer, residual blocks of two more, and a last one that is zero at first, its
    outputs times exp(3 log_scale) as in `ZeroConv`. [B, D] to float32 [B, outputs].
    """

    outputs: int
    hidden: int = 64
    blocks: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs):
        x = nn.Dense(self.hidden, dtype=self.dtype)(inputs)
        for _ in range(self.blocks):
            inner = nn.relu(nn.Dense(self.hidden, dtype=self.dtype)(nn.relu(x)))
            x += nn.Dense(self.hidden, dtype=self.dtype)(inner)
        zeros = nn.initializers.zeros_init()
        outputs = nn.Dense(self.outputs, kernel_init=zeros)(nn.relu(x).astype(jnp.float32))
        log_scale = self.param('log_scale', zeros, (self.outputs,))
        return outputs * jnp.exp(3 * log_scale).reshape(1, -1)


class Repeated(nn.Module):
    """`depth` bijections of the same kind, one after the other, with their parameters stacked: compiled once, by `lax.scan`.

    make: the bijection, a module without a parent. remat: keep only every bijection's inputs for the backward pass and
    compute the rest again, a third more arithmetic for a fraction of the memory.
    """

    make: Callable[[], nn.Module]
    depth: int
    remat: bool = False

    @nn.compact
    def __call__(self, inputs, *, inverse: bool = False):
        bijection = self.make()

        def first(rng):
            def draw(carry, key):
                (outputs, _), variables = bijection.init_with_output(key, carry)
                return outputs, (variables['params'], variables.get('batch_stats', {}))

            return lax.scan(draw, inputs, jax.random.split(rng, self.depth))[1]

        def body(carry, layer):
            values, total = carry
            variables = dict(zip(('params', 'batch_stats'), layer, strict=True))
            values, log_det = bijection.apply(variables, values, inverse=inverse)
            return (values, total + log_det), None

        layers = initialised(self, first)
        start = (inputs, jnp.zeros(len(inputs)))
        body = jax.checkpoint(body, prevent_cse=False) if self.remat else body  # as a scan asks for
        return lax.scan(body, start, layers, reverse=inverse)[0]


def check_sides(image_shape, squeezes: int) -> None:
    """ValueError unless images (H, W, C) can be squeezed so many times, or vectors (D,) have halves."""
    if len(image_shape) not in (1, 3) or any(size < 1 for size in image_shape):
        raise ValueError(f'image_shape is {tuple(image_shape)}; allowed: (height, width, channels), or (D,) for vectors')
    if squeezes < 0:
        raise ValueError('net.levels is 0; allowed: at least 1')
    if len(image_shape) == 1:
        if image_shape[0] < 2:
            raise ValueError(f'image_shape is {tuple(image_shape)}; allowed for a coupling flow: at least 2 coordinates')
        return
    height, width, _ = image_shape
    if height % 2**squeezes or width % 2**squeezes:
        raise ValueError(
            f'images are {height} x {width} pixels; allowed: sides that {2**squeezes} divides (data.image_size, net.levels)'
        )


def check_inputs(inputs, image_shape, *, inverse: bool) -> None:
    """ValueError unless a flow's inputs are [B, *image_shape] or, with `inverse`, latents [B, D]; also under `jax.jit`."""
    shape = (math.prod(image_shape),) if inverse else tuple(image_shape)
    check_shape('latents' if inverse else 'inputs', inputs, (None, *shape), f'[B, {", ".join(map(str, shape))}]')
    check_floats(inputs=inputs)


def multi_scale(inputs, levels, splits, image_shape, *, logit: bool, last_squeezed: bool, inverse: bool, prior=None):
    """A flow of several levels, each but the last one with half of its channels factored out (Dinh et al. 2017, Eq. 13-14).

    Args:
      inputs: images [B, H, W, C] in [0, 1], or latents [B, H W C] if `inverse`.
      levels: bijections [B, h, w, c] -> [B, h / 2, w / 2, 4 c], the last one to the same shape unless `last_squeezed`.
      splits: of every level but the last, the bijection of what is factored out given the rest, or None for the identity.
      image_shape: (H, W, C).
      logit: of `to_pixels`.
      prior: the bijection of the last level's outputs given zeros (a `ConditionalGaussian`, their learned prior), or None
        for the identity.

    Returns:
      (latents [B, H W C] or images, log-determinants [B]). What was factored out first comes first.
    """

    def split_off(split, values, condition):
        if split is None:
            return values, jnp.zeros(len(values))
        return split(values, condition, inverse=inverse)

    if not inverse:
        (x, total), latents = to_pixels(inputs, logit=logit), []
        for level, split in zip(levels[:-1], splits, strict=True):
            x, log_det = level(x)
            x, out = jnp.split(x, 2, axis=-1)
            out, split_log_det = split_off(split, out, x)
            total += log_det + split_log_det
            latents.append(out)
        x, log_det = levels[-1](x)
        if prior is not None:
            x, prior_log_det = prior(x, jnp.zeros_like(x))
            log_det += prior_log_det
        return jnp.concatenate([z.reshape(len(z), -1) for z in (*latents, x)], axis=1), total + log_det
    height, width, channels = image_shape
    sizes = [height * width * channels >> i + 1 for i in range(len(splits))]
    *latents, x = jnp.split(inputs, list(itertools.accumulate(sizes)), axis=1)
    halved = len(splits) + last_squeezed
    x, prior_log_det = x.reshape(len(x), height >> halved, width >> halved, -1), None
    if prior is not None:
        x, prior_log_det = prior(x, jnp.zeros_like(x), inverse=True)
    x, total = levels[-1](x, inverse=True)
    total = total if prior_log_det is None else total + prior_log_det
    for level, split, out in reversed(list(zip(levels[:-1], splits, latents, strict=True))):
        out, split_log_det = split_off(split, out.reshape(x.shape), x)
        x, log_det = level(jnp.concatenate([x, out], axis=-1), inverse=True)
        total += log_det + split_log_det
    images, log_det = to_pixels(x, logit=logit, inverse=True)
    return images, total + log_det
