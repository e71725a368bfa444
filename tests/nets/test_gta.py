"""The networks of Generate To Adapt: the released code's shapes, parameter counts and initial values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax.nets.gta import GTAClassifier, GTADiscriminator, GTAEmbedding, GTAGenerator

IMAGES, CODES = jnp.full((2, 32, 32, 3), 0.44), jnp.zeros((2, 11 + 128 + 512))
CASES = {
    'embedding': (GTAEmbedding(), IMAGES, 312_256, [(2, 128)]),
    'classifier': (GTAClassifier(10), jnp.zeros((2, 128)), 17_802, [(2, 10)]),
    'generator': (GTAGenerator(), CODES, 4_090_755, [(2, 32, 32, 3)]),
    'discriminator': (GTADiscriminator(10), IMAGES, 668_427, [(2,), (2, 10)]),
}


def _init(name):
    module, inputs, _, _ = CASES[name]
    arguments = {'train': True} if name in ('generator', 'discriminator') else {}
    return module, jax.jit(lambda: module.init(jax.random.key(0), inputs, **arguments)), arguments


@pytest.mark.parametrize('name', CASES)
def test_shapes_and_parameter_counts(name):
    module, inputs, count, shapes = CASES[name]
    _, init, arguments = _init(name)
    variables = jax.eval_shape(init)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == count
    mutable = {'mutable': ['batch_stats']} if arguments else {}
    outputs = jax.eval_shape(lambda v: module.apply(v, inputs, **arguments, **mutable), variables)
    assert [leaf.shape for leaf in jax.tree.leaves(outputs[0] if arguments else outputs)] == shapes


def test_initial_values():
    params = _init('discriminator')[1]()['params']
    np.testing.assert_allclose(params['Conv_2']['kernel'].std(), 0.02, rtol=0.05)
    np.testing.assert_allclose(params['class']['kernel'].std(), 0.1, rtol=0.1)
    scale = np.concatenate([params[f'BatchNorm_{i}']['BatchNorm_0']['scale'] for i in range(4)])
    np.testing.assert_allclose([scale.mean(), scale.std()], [1, 0.02], rtol=0.1)
    bias = params['Conv_2']['bias']
    assert 0.9 / np.sqrt(9 * 128) < np.abs(bias).max() <= 1 / np.sqrt(9 * 128)
    assert not params['real']['bias'].any()


def test_mid_grey_is_the_embeddings_zero():
    module = GTAEmbedding()
    variables = module.init(jax.random.key(0), IMAGES)
    without = jax.tree.map(lambda p: p if p.ndim > 1 else 0 * p, variables)
    np.testing.assert_allclose(module.apply(without, IMAGES), 0, atol=1e-6)
