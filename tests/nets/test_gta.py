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
    'generator': (GTAGenerator(), CODES, 4_090_752, [(2, 32, 32, 3)]),
    'generator_with_bias': (GTAGenerator(final_bias=True), CODES, 4_090_755, [(2, 32, 32, 3)]),
    'discriminator': (GTADiscriminator(10), IMAGES, 668_427, [(2,), (2, 10)]),
}


def _init(name):
    module, inputs, _, _ = CASES[name]
    arguments = {'train': True} if name not in ('embedding', 'classifier') else {}
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


def _random(name, seed=0):
    """Variables of a module with weights that no layer leaves near zero, and inputs."""
    module, inputs, _, _ = CASES[name]
    rng, arguments = np.random.default_rng(seed), {'train': True} if name not in ('embedding', 'classifier') else {}
    variables = jax.jit(lambda: module.init(jax.random.key(0), inputs, **arguments))()
    params = jax.tree.map(lambda p: jnp.asarray(0.1 * rng.normal(size=p.shape), jnp.float32), variables['params'])
    inputs = rng.uniform(-1, 1, (3, *inputs.shape[1:])).astype(np.float32)
    return module, variables | {'params': params}, abs(inputs) if name == 'embedding' else inputs


@pytest.mark.slow
def test_layers_are_the_released_codes():
    """F, G and D in training mode against torch's layers in the sheet's order, on the same random weights."""
    torch = pytest.importorskip('torch', reason='torch is not installed: pip install torch')
    functional = torch.nn.functional

    def tensor(array, axes=None):
        array = np.asarray(array)
        return torch.tensor(array if axes is None else array.transpose(axes))

    def norm(x, params):
        own = params['BatchNorm_0']
        return functional.batch_norm(x, None, None, tensor(own['scale']), tensor(own['bias']), True)

    def conv(x, params, padding):
        return functional.conv2d(x, tensor(params['kernel'], (3, 2, 0, 1)), tensor(params['bias']), padding=padding)

    def transposed(x, params, stride, padding):
        kernel = tensor(np.asarray(params['kernel'])[::-1, ::-1].copy(), (2, 3, 0, 1))
        assert set(params) == {'kernel'}
        return functional.conv_transpose2d(x, kernel, None, stride=stride, padding=padding)

    module, variables, images = _random('embedding')
    p, x = variables['params'], tensor((images - 0.44) / np.float32(0.19), (0, 3, 1, 2))
    for i in range(3):
        x = torch.relu(conv(x, p[f'Conv_{i}'], 0))
        x = functional.max_pool2d(x, 2) if i < 2 else x
    np.testing.assert_allclose(module.apply(variables, images), x.flatten(1).numpy(), rtol=1e-4, atol=1e-3)

    module, variables, codes = _random('generator')
    p, x = variables['params'], tensor(codes)[:, :, None, None]
    for i in range(4):
        x = transposed(x, p[f'ConvTranspose_{i}'], 1 if i == 0 else 2, 0 if i == 0 else 1)
        x = torch.relu(norm(x, p[f'BatchNorm_{i}']))
    x = torch.tanh(transposed(x, p['ConvTranspose_4'], 2, 1)).numpy().transpose(0, 2, 3, 1)
    found = module.apply(variables, codes, train=True, mutable=['batch_stats'])[0]
    np.testing.assert_allclose(found, x, atol=1e-4)
    assert np.std(x) > 0.01

    module, variables, images = _random('discriminator')
    p, x = variables['params'], tensor(images, (0, 3, 1, 2))
    for i in range(4):
        x = functional.leaky_relu(norm(conv(x, p[f'Conv_{i}'], 1), p[f'BatchNorm_{i}']), 0.2)
        x = functional.max_pool2d(x, 4 if i == 3 else 2)
    features = x.flatten(1).numpy()
    found = module.apply(variables, images, train=True, mutable=['batch_stats'])[0]
    for name, logits in zip(('real', 'class'), found, strict=True):
        expected = features @ np.asarray(p[name]['kernel']) + np.asarray(p[name]['bias'])
        np.testing.assert_allclose(np.asarray(logits).reshape(3, -1), expected, atol=1e-4)
