"""Decoders, encoders and discriminators: shapes, known sizes, and that a VAE's parts are a GAN's, layer for layer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import nets

SMALL = {
    'mlp': {'widths': (8,)},
    'dcgan': {'widths': (4, 6)},
    'resnet_gan': {'widths': (4, 4), 'trunk_widths': (4, 6), 'plain': 1},
}


def _init(module, inputs):
    return module.init(jax.random.key(0), inputs, train=False)


def _shapes(module, inputs):
    return jax.eval_shape(lambda: _init(module, inputs))


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('shape', [(28, 28, 1), (8, 12, 3)])
@pytest.mark.parametrize('name', SMALL)
def test_parts_have_the_documented_shapes_and_float32_ends(name, shape, dtype):
    family = nets.build(name, image_shape=shape, latent=5, dtype=dtype, **SMALL[name])
    codes, images = jnp.ones((2, 5)), jnp.full((2, *shape), 0.5)
    for module, inputs, expected in (
        (family.decoder(), codes, (2, *shape)),
        (family.encoder(10), images, (2, 10)),
        (family.discriminator(), images, (2, 1)),
    ):
        variables = _shapes(module, inputs)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
        outputs, _ = jax.eval_shape(
            lambda v, m=module, x=inputs: m.apply(v, x, train=True, mutable=['batch_stats']), variables
        )
        assert (outputs.shape, outputs.dtype) == (expected, jnp.float32)


@pytest.mark.parametrize('norm', ['batch', 'spectral', 'none'])
@pytest.mark.parametrize('name', SMALL)
def test_encoder_and_discriminator_trunks_have_the_same_kernels(name, norm):
    family = nets.build(name, image_shape=(28, 28, 1), latent=5, trunk_norm=norm, **SMALL[name])
    images = jnp.ones((2, 28, 28, 1))
    own, other = (_shapes(m, images)['params'].get('trunk', {}) for m in (family.encoder(10), family.discriminator()))
    kernels = [
        {
            jax.tree_util.keystr(path): leaf.shape
            for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
            if leaf.ndim > 1
        }
        for tree in (own, other)
    ]
    assert kernels[0] == kernels[1]
    assert kernels[0]


def _parameters(module, inputs):
    return sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(_shapes(module, inputs)['params']))


def test_known_parameter_counts():
    codes, images = jnp.ones((2, 128)), jnp.ones((2, 32, 32, 3))
    sngan = nets.build('resnet_gan', image_shape=(32, 32, 3))
    # Miyato et al. 2018, Tables 3 and 4 (also mimicry's and pytorch-gan-collections' figures for this network).
    dense, block, end = 129 * 4096, 2 * (9 * 256 + 1) * 256 + 257 * 256 + 4 * 256, 2 * 256 + (9 * 256 + 1) * 3
    assert _parameters(sngan.decoder(), codes) == dense + 3 * block + end
    first, second, plain = (28 + 1153 + 4) * 128, (2 * 1153 + 129) * 128, 2 * 1153 * 128
    assert _parameters(sngan.discriminator(), images) == first + second + 2 * plain + 129
    dcgan = nets.build('dcgan', image_shape=(32, 32, 3))
    expected = 128 * 8192 + 16 * (512 * 256 + 256 * 128 + 128 * 3) + 3 + 2 * (512 + 256 + 128)
    assert _parameters(dcgan.decoder(), codes) == expected
    expected = 16 * (3 * 128 + 128 * 256 + 256 * 512) + 128 + 2 * (256 + 512) + 8192 + 1
    assert _parameters(dcgan.discriminator(), images) == expected


def test_spectral_norm_bounds_the_discriminator_and_its_state_is_explicit():
    family = nets.build('resnet_gan', image_shape=(8, 8, 1), **SMALL['resnet_gan'])
    net = family.discriminator()
    images = jax.random.uniform(jax.random.key(1), (4, 8, 8, 1))
    variables = _init(net, images)
    step = jax.jit(partial(net.apply, train=True, mutable=['batch_stats']))
    for _ in range(50):
        outputs, new = step(variables, images)
        variables = {**variables, **new}
    still = net.apply(variables, images, train=False)
    np.testing.assert_allclose(still, outputs, rtol=1e-4)
    head = variables['params']['head']['kernel']
    sigma = variables['batch_stats']['SpectralNorm_0']['head/kernel/sigma']
    np.testing.assert_allclose(sigma, np.linalg.svd(head, compute_uv=False)[0], rtol=1e-4)
    scaled = {'params': jax.tree.map(lambda p: 7 * p if p.ndim > 1 else p, variables['params'])}
    same = net.apply({**variables, **scaled}, images, train=False)
    np.testing.assert_allclose(same, still, rtol=1e-4)


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        ('dcgan', {'widths': (4, 4, 4)}, 'widths of 3 layers halves a side of 28 pixels 3 times'),
        ('dcgan', {'widths': (4, 0)}, 'net.widths is (4, 0)'),
        ('dcgan', {'trunk_norm': 'layer'}, "net.trunk_norm is 'layer'; allowed: batch, spectral, none"),
        ('resnet_gan', {'trunk_widths': (4,) * 3, 'widths': (4, 4)}, 'net.trunk_widths of 3 layers'),
    ],
)
def test_impossible_families_are_refused_in_one_line(name, options, message):
    with pytest.raises(ValueError, match=message.replace('(', r'\(').replace(')', r'\)')):
        nets.build(name, image_shape=(28, 28, 1), **options)
