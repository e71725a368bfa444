"""Flows over vectors [B, D]: brute-force log-determinants, inverses, densities; flows that could not change their input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import nets
from gjax.losses import standard_normal_nll
from gjax.nets import bijectors
from gjax.nets.flow import flow_nll, flow_samples
from gjax.nets.glow import Glow
from gjax.nets.linear_flow import LinearFlow
from gjax.nets.realnvp import RealNVP
from tests.nets.test_flows import moved


def flow_of(name: str, size: int):
    options = {'realnvp': {'levels': 1, 'hidden': 4, 'blocks': 1}, 'glow': {'levels': 2, 'depth': 2, 'hidden': 8}}
    return nets.build(name, image_shape=(size,), **options.get(name, {}))


def vectors_of(size: int, count: int = 6):
    """Far outside [0, 1], and of another spread in each coordinate."""
    return 3 * jax.random.normal(jax.random.key(0), (count, size)) * jnp.arange(1.0, size + 1)[None] - 2


@pytest.mark.parametrize(
    ('name', 'size'),
    [
        ('realnvp', 3),
        pytest.param('glow', 3, marks=pytest.mark.slow),
        ('linear_flow', 3),
        *(pytest.param(name, size, marks=pytest.mark.slow) for name in ('realnvp', 'glow') for size in (2, 5)),
    ],
)
def test_log_determinants_are_the_jacobians_and_every_coordinate_is_transformed(name, size):
    flow, vectors = flow_of(name, size), vectors_of(size)
    variables = jax.jit(flow.init)(jax.random.key(1), vectors)
    if name != 'linear_flow':  # its start is one already
        variables = moved(variables)

    def one(vector):
        latents, log_det = flow.apply(variables, vector[None])
        return latents[0], (latents[0], log_det[0])

    jacobians, (latents, log_det) = map(jax.device_get, jax.jit(jax.vmap(jax.jacfwd(one, has_aux=True)))(vectors))
    back, inverse_log_det = jax.jit(partial(flow.apply, inverse=True))(variables, latents)
    assert latents.shape == (6, size)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobians.astype(np.float64))[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(back, vectors, rtol=1e-4, atol=1e-4)
    if name != 'linear_flow':  # no output is a fixed affine map of the inputs: its derivatives differ from point to point
        assert (jacobians.std(axis=0).max(axis=1) > 1e-4).all()


def test_the_density_and_samples_of_a_flow_of_vectors():
    flow, vectors = LinearFlow((2,)), vectors_of(2, 2000)
    variables = flow.init(jax.random.key(0), vectors)
    nll = flow_nll(flow, variables, vectors, rng=jax.random.key(0))  # as they are: nothing is dequantised
    np.testing.assert_array_equal(nll, standard_normal_nll(*flow.apply(variables, vectors)))
    samples = flow_samples(flow, variables, 2000, rng=jax.random.key(1))  # nothing is clipped to [0, 1]
    np.testing.assert_allclose(samples.mean(0), vectors.mean(0), atol=0.4)
    np.testing.assert_allclose(samples.std(0), vectors.std(0), rtol=0.1)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (
            lambda: RealNVP((1, 1, 2), levels=1),
            r'images are 1 x 1 pixels; allowed: at least 2 pixels, or image_shape \(2,\) for vectors',
        ),
        (lambda: RealNVP((1,)), r'image_shape is \(1,\); allowed for a coupling flow: at least 2 coordinates'),
        (lambda: Glow((1,)), r'image_shape is \(1,\); allowed for a coupling flow: at least 2 coordinates'),
        (lambda: RealNVP((4, 4)), r'image_shape is \(4, 4\); allowed: \(height, width, channels\), or \(D,\) for vectors'),
        (lambda: RealNVP((4, 0, 1)), r'image_shape is \(4, 0, 1\); allowed: \(height, width, channels\)'),
        (lambda: Glow((2,), depth=0), 'depth is 0; allowed: > 0'),
        (lambda: RealNVP((2,), hidden=0), 'hidden is 0; allowed: > 0'),
        (lambda: RealNVP((4, 4, 1), levels=0), r'net.levels is 0; allowed: at least 1'),
        (lambda: Glow((4, 4, 1), levels=0), r'net.levels is 0; allowed: at least 1'),
        (
            lambda: nets.build('mlp', image_shape=(3,)),
            r'image_shape is \(3,\); allowed for mlp: \(height, width, channels\)$',
        ),
        (
            lambda: nets.build('glow', image_shape=(3, 3)),
            r'image_shape is \(3, 3\); allowed for glow: .*, or \(D,\) for vectors',
        ),
    ],
)
def test_a_flow_that_cannot_change_its_input_is_refused(call, message):
    with pytest.raises(ValueError, match=f'^{message}'):
        call()


@pytest.mark.parametrize(
    'flow', [RealNVP((2,)), Glow((2,)), LinearFlow((2,)), RealNVP((4, 4, 1)), Glow((4, 4, 1), levels=1)]
)
def test_inputs_of_another_shape_are_refused(flow):
    """Convolutions would take images of any size, and give latents that no inverse fits."""
    wrong = jnp.zeros((3, 8, 8, 1) if len(flow.image_shape) == 3 else (3, 5))
    with pytest.raises(ValueError, match=r'^the shape of inputs is \(3, .*\); allowed: \[B, '):
        jax.eval_shape(flow.init, jax.random.key(0), wrong)
    with pytest.raises(ValueError, match=r'^the shape of latents is \(3, .*\); allowed: \[B, '):
        jax.eval_shape(partial(flow.init, inverse=True), jax.random.key(0), wrong)
    whole = jnp.zeros((3, *flow.image_shape), jnp.int32)
    with pytest.raises(ValueError, match=r'^the dtype of inputs is int32; allowed: float32'):
        jax.eval_shape(flow.init, jax.random.key(0), whole)


def test_a_coupling_of_one_channel_is_refused():
    coupling = bijectors.AffineCoupling(lambda outputs: bijectors.VectorNetwork(outputs, 4))
    with pytest.raises(ValueError, match=r'^a coupling got inputs of shape \(3, 1\); allowed: at least 2 channels to halve'):
        jax.eval_shape(coupling.init, jax.random.key(0), jnp.zeros((3, 1)))
