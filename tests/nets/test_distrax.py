"""Flows against distrax, another implementation of the same bijections, with the same parameters."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax.losses import standard_normal_nll
from gjax.nets import bijectors
from gjax.nets.glow import Glow, GlowNetwork
from gjax.nets.realnvp import RealNVP, ResidualNetwork
from tests.nets.test_flows import images_of, moved

with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    try:
        import distrax
    except Exception as error:  # what it is built on follows JAX at a distance, and then fails in its own ways
        pytest.skip(f'no distrax to compare with: {error}', allow_module_level=True)

pytestmark = pytest.mark.slow
SHAPE = (4, 4, 2)


@pytest.fixture(autouse=True)
def lenient():
    """distrax promotes types and ranks."""
    with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def actnorm(params):
    factors = jnp.exp(params['log_scale'])
    return distrax.Block(distrax.ScalarAffine(shift=params['shift'] * factors, scale=factors), 3)


def invertible_conv(params, fixed):
    """By the determinant of the whole matrix."""
    size = len(params['log_scale'])
    lower, upper = jnp.tril(params['lower'], -1) + jnp.eye(size), jnp.triu(params['upper'], 1)
    upper += jnp.diag(fixed['signs'] * jnp.exp(params['log_scale']))
    matrix = jnp.eye(size)[fixed['order']] @ lower @ upper
    return distrax.Block(distrax.UnconstrainedAffine(matrix=matrix, bias=jnp.zeros(size)), 2)


def affine(outputs):
    """y = (x + t) exp(s) of a network's outputs (t, s)."""
    shift, scale = jnp.split(outputs, 2, axis=-1)
    scale = 2.0 * jnp.tanh(scale / 2.0)
    return distrax.ScalarAffine(shift=shift * jnp.exp(scale), scale=jnp.exp(scale))


def split_coupling(network, params, channels: int, swap: bool = False):
    def conditioner(kept):
        return network(2 * (channels // 2)).apply({'params': params}, kept[None])[0]

    split = channels // 2
    return distrax.SplitCoupling(split, 3, conditioner, affine, swap=swap)


def checkerboard_coupling(network, params, shape, parity: int):
    mask = jnp.broadcast_to((jnp.indices(shape)[:2].sum(0) + parity) % 2 == 0, shape)

    def conditioner(kept):
        return network(2 * shape[-1]).apply({'params': params}, kept[None])[0]

    return distrax.MaskedCoupling(mask, conditioner, affine, event_ndims=3)


def logit():
    alpha = bijectors.LOGIT_ALPHA
    inner = [distrax.Inverse(distrax.Sigmoid()), distrax.ScalarAffine(alpha, 1 - 2 * alpha)]
    return distrax.Block(distrax.Chain(inner), 3)


def nll_by_distrax(steps, inputs, shape):
    """steps: in the order in which the data goes through them."""
    base = distrax.Independent(distrax.Normal(jnp.zeros(shape), jnp.ones(shape)), 3)
    flow = distrax.Transformed(base, distrax.Inverse(distrax.Chain(steps[::-1])))
    return -jax.jit(jax.vmap(flow.log_prob))(inputs)


def test_glow():
    """A level of three steps, its squeeze apart."""
    flow, images = Glow(SHAPE, levels=1, depth=3, hidden=4), images_of(1)
    variables = moved(flow.init(jax.random.key(0), images_of(0)))
    learned = variables['params']['GlowLevel_0']['Repeated_0']['learned']
    fixed = variables['batch_stats']['GlowLevel_0']['Repeated_0']['fixed']
    steps = []
    for i in range(3):
        own, constant = (jax.tree.map(lambda leaf, i=i: leaf[i], tree) for tree in (learned, fixed))
        steps.append(actnorm(own['ActNorm_0']))
        steps.append(invertible_conv(own['InvertibleConv_0']['learned'], constant['InvertibleConv_0']['fixed']))
        network = own['AffineCoupling_0']['GlowNetwork_0']
        steps.append(split_coupling(partial(GlowNetwork, hidden=4), network, 8))
    expected = nll_by_distrax(steps, bijectors.squeeze(images - 0.5), (2, 2, 8))
    found = standard_normal_nll(*flow.apply(variables, images))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert np.std(found) > 0.01


def test_realnvp():
    """Two levels: checkerboards, a squeeze, channels; then what stays goes through checkerboards alone."""
    flow, images = RealNVP(SHAPE, hidden=4, blocks=1), images_of(2)
    variables = moved(flow.init(jax.random.key(0), images_of(0)))
    network = partial(ResidualNetwork, hidden=4, blocks=1)
    first, last = (variables['params'][f'RealNVPLevel_{i}'] for i in range(2))
    board, channels, top = [], [], []
    for i in range(3):
        own = first[f'CheckerboardCoupling_{i}']['ResidualNetwork_0']
        board += [checkerboard_coupling(network, own, SHAPE, i % 2), actnorm(first[f'ActNorm_{i}'])]
        own = first[f'AffineCoupling_{i}']['ResidualNetwork_0']
        channels += [split_coupling(network, own, 8, bool(i % 2)), actnorm(first[f'ActNorm_{3 + i}'])]
    wide = partial(ResidualNetwork, hidden=8, blocks=1)
    for i in range(4):
        own = last[f'CheckerboardCoupling_{i}']['ResidualNetwork_0']
        top += [checkerboard_coupling(wide, own, (2, 2, 4), i % 2), actnorm(last[f'ActNorm_{i}'])]

    def run(steps, values):
        return jax.jit(jax.vmap(distrax.Chain(steps[::-1]).forward_and_log_det))(values)

    x, total = run([logit(), *board], images)
    x, log_det = run(channels, bijectors.squeeze(x))
    total += log_det
    x, out = jnp.split(x, 2, axis=-1)
    x, log_det = run(top, x)
    latents = jnp.concatenate([out.reshape(len(out), -1), x.reshape(len(x), -1)], axis=1)
    base = distrax.Independent(distrax.Normal(jnp.zeros(32), jnp.ones(32)), 1)
    expected = -(base.log_prob(latents) + total + log_det)
    found = standard_normal_nll(*flow.apply(variables, images))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
