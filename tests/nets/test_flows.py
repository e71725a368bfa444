"""Flows: inverses, log-determinants against the Jacobian, densities, and the data-dependent initialisation."""

from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from gjax.attacks.linear_flow import gaussian_nll
from gjax.losses.flow import dequantise, standard_normal_nll
from gjax.nets import bijectors
from gjax.nets.glow import Glow, GlowNetwork, GlowStep
from gjax.nets.linear_flow import LinearFlow, linear_flow_params
from gjax.nets.realnvp import RealNVP, ResidualNetwork

SHAPE = (4, 4, 2)
GLOW = Glow(SHAPE, levels=2, depth=2, hidden=4)
NETWORK = partial(ResidualNetwork, hidden=4, blocks=1)


class Conditioned(nn.Module):
    """`ConditionalGaussian` given a function of nothing that is moved."""

    @nn.compact
    def __call__(self, inputs, *, inverse=False):
        kept, out = jnp.split(inputs, 2, axis=-1)
        out, log_det = bijectors.ConditionalGaussian()(out, kept, inverse=inverse)
        return jnp.concatenate([kept, out], axis=-1), log_det


BIJECTIONS = {
    'actnorm': bijectors.ActNorm(),
    'invertible_conv': bijectors.InvertibleConv(),
    'affine': bijectors.AffineCoupling(NETWORK),
    'affine_swapped': bijectors.AffineCoupling(NETWORK, swap=True),
    'glow_coupling': bijectors.AffineCoupling(partial(GlowNetwork, hidden=4)),
    'checkerboard': bijectors.CheckerboardCoupling(NETWORK, parity=1),
    'conditional_gaussian': Conditioned(),
    'repeated': bijectors.Repeated(partial(GlowStep, 4, parent=None), 3),
    'glow': GLOW,
    'glow_logit': GLOW.copy(logit=True, levels=1),
    'glow_released': GLOW.copy(as_released='openai', levels=1, depth=1),
    'realnvp': RealNVP(SHAPE, levels=3, hidden=2, blocks=1),
    'linear_flow': LinearFlow(SHAPE),
}


def images_of(seed: int, count: int = 8, shape=SHAPE):
    return jax.random.uniform(jax.random.key(seed), (count, *shape), minval=0.05, maxval=0.95)


def moved(variables, seed: int = 1, scale: float = 0.1):
    """Variables with parameters away from their initialisation, at which couplings are the identity: by a share of their
    spread, or absolutely where all are the same.
    """
    leaves, tree = jax.tree.flatten(variables['params'])
    rngs = jax.random.split(jax.random.key(seed), len(leaves))

    def move(leaf, rng):
        spread = jnp.std(leaf)
        return leaf + scale * jnp.where(spread > 0, spread, 1.0) * jax.random.normal(rng, leaf.shape)

    leaves = [move(leaf, rng) for leaf, rng in zip(leaves, rngs, strict=True)]
    return {**variables, 'params': jax.tree.unflatten(tree, leaves)}


# Half a minute each to compile; the comparison with distrax is not among the slow tests.
SLOW = pytest.param('realnvp', marks=pytest.mark.slow)
RELEASED = pytest.param('glow_released', marks=pytest.mark.slow)


def variables_of(module, images=None):
    return moved(jax.jit(module.init)(jax.random.key(0), images_of(0) if images is None else images))


@pytest.mark.parametrize('name', [{'realnvp': SLOW, 'glow_released': RELEASED}.get(name, name) for name in BIJECTIONS])
def test_inverse_and_log_determinant(name):
    module, images = BIJECTIONS[name], images_of(2, 3)
    variables = variables_of(module)
    outputs, log_det = jax.jit(module.apply)(variables, images)
    back, inverse_log_det = jax.jit(partial(module.apply, inverse=True))(variables, outputs)
    np.testing.assert_allclose(back, images, atol=1e-5)
    np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-4, atol=1e-4)
    assert outputs.dtype == log_det.dtype == jnp.float32

    def flat(image):
        return module.apply(variables, image[None])[0].reshape(-1)

    jacobians = jax.jit(jax.vmap(jax.jacrev(flat)))(images).reshape(3, images[0].size, -1)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobians)[1], rtol=1e-4, atol=2e-4)
    assert np.std(log_det) > 1e-3 or name in ('actnorm', 'invertible_conv', 'linear_flow')


def test_squeeze_takes_blocks_of_pixels():
    images = jnp.arange(2 * 4 * 6 * 3, dtype=jnp.float32).reshape(2, 4, 6, 3)
    squeezed = bijectors.squeeze(images)
    np.testing.assert_array_equal(squeezed[1, 1, 2], images[1, 2:4, 4:6].reshape(-1))
    np.testing.assert_array_equal(bijectors.unsqueeze(squeezed), images)


def test_density_integrates_to_one():
    """Of a flow over the plane, points [1, 1, 2]."""
    flow = bijectors.Repeated(partial(GlowStep, 8, parent=None), 4)
    points = 0.5 * jax.random.normal(jax.random.key(0), (64, 1, 1, 2))
    variables = moved(flow.init(jax.random.key(1), points), scale=0.2)
    side = jnp.linspace(-12, 12, 601)
    grid = jnp.stack(jnp.meshgrid(side, side), axis=-1).reshape(-1, 1, 1, 2)
    latents, log_det = jax.jit(flow.apply)(variables, grid)
    density = jnp.exp(-standard_normal_nll(latents.reshape(-1, 2), log_det))
    assert abs(float(density.sum()) * float(side[1] - side[0]) ** 2 - 1) < 5e-3


@pytest.mark.parametrize('name', ['actnorm', 'repeated', 'glow', SLOW])
def test_initialisation_normalises_the_global_batch(name, meshes):
    """Sharding it changes nothing; a step normalises what it is given, so latents begin near a standard normal."""
    module, images = BIJECTIONS[name], images_of(3, 64)
    found = {}
    for count, mesh in meshes.items():
        sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec('data')))
        everywhere = NamedSharding(mesh, PartitionSpec())
        found[count] = jax.jit(module.init, out_shardings=everywhere)(jax.random.key(0), sharded)
    for a, b in zip(*map(jax.tree.leaves, found.values()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    outputs, _ = module.apply(found[1], images)
    if name in ('actnorm', 'repeated'):
        outputs = outputs.reshape(-1, SHAPE[-1])
        np.testing.assert_allclose(outputs.mean(0), 0, atol=0.01)
        if name == 'actnorm':
            np.testing.assert_allclose(outputs.std(0), 1, atol=0.01)
    assert 0.7 < float(outputs.std()) < 1.3


def test_begins_as_a_rotation():
    module = bijectors.InvertibleConv()
    images = images_of(0)
    variables = module.init(jax.random.key(0), images)
    outputs, log_det = module.apply(variables, images)
    np.testing.assert_allclose(log_det, 0, atol=1e-4)
    np.testing.assert_allclose((outputs**2).sum(-1), (images**2).sum(-1), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['glow', 'realnvp'])
def test_recomputation_changes_nothing(name):
    images, module = images_of(4), BIJECTIONS[name]
    variables = variables_of(module)

    def loss(params, flow):
        latents, log_det = flow.apply({**variables, 'params': params}, images)
        return jnp.mean(standard_normal_nll(latents, log_det))

    gradients = [jax.jit(jax.grad(partial(loss, flow=f)))(variables['params']) for f in (module, module.copy(remat=True))]
    chex.assert_trees_all_close(*gradients, rtol=1e-4, atol=1e-4)
    for flow, expected in ((module, False), (module.copy(remat=True), True)):
        program = str(jax.make_jaxpr(jax.grad(partial(loss, flow=flow)))(variables['params']))
        assert ('remat' in program or 'checkpoint' in program) == expected


@pytest.mark.parametrize('name', ['glow', SLOW])
def test_bfloat16_inside_couplings_only(name):
    """The flow stays invertible, whatever its networks round."""
    module, images = BIJECTIONS[name].copy(dtype=jnp.bfloat16), images_of(5)
    variables = variables_of(module)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables['params']))
    latents, log_det = jax.jit(module.apply)(variables, images)
    assert latents.dtype == log_det.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(partial(module.apply, inverse=True))(variables, latents)[0], images, atol=1e-4)
    exact = BIJECTIONS[name].apply(variables, images)[1]
    assert 0 < float(jnp.abs(log_det - exact).max()) < 0.1 * float(jnp.abs(exact).max())


def test_log_scales_are_bounded_under_any_input():
    module = RealNVP(SHAPE, hidden=4, blocks=1, bound=1.5, logit=False)
    variables = variables_of(module)
    latents, log_det = jax.jit(module.apply)(variables, 1e4 * images_of(6))
    assert np.isfinite(latents).all()
    assert np.isfinite(log_det).all()


def test_linear_flow_is_the_gaussian():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4)).astype(np.float32)
    mean, covariance = jnp.asarray(rng.normal(size=4), jnp.float32), jnp.asarray(root @ root.T + 0.1 * np.eye(4, dtype='f'))
    images = images_of(0, 5, (2, 2, 1))
    latents, log_det = LinearFlow((2, 2, 1)).apply({'params': linear_flow_params(mean, covariance)}, images)
    expected = gaussian_nll(images.reshape(5, 4), mean, covariance)
    np.testing.assert_allclose(standard_normal_nll(latents, log_det), expected, rtol=1e-4)


def test_sides_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r'images are 6 x 6 pixels; allowed: sides that 4 divides'):
        Glow((6, 6, 1), levels=2)
    RealNVP((6, 6, 1), levels=2)


def test_dequantised_images_fill_the_levels():
    images = jnp.asarray([0, 7, 255], jnp.float32).reshape(3, 1, 1, 1) / 255
    low, high = (dequantise(images, jnp.full(images.shape, noise)).reshape(-1) for noise in (0.0, 1.0))
    np.testing.assert_allclose(low, np.array([0, 7, 255]) / 256, atol=1e-7)
    np.testing.assert_allclose(high, np.array([1, 8, 256]) / 256, atol=1e-7)
