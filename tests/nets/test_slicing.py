"""Cutting channels out: the smaller network is one of the suite's, and computes what the masked one does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import masks, nets
from gjax.nets.channel_groups import narrowed

SHAPE, LATENT = (16, 24, 3), 5
CLASSIFIERS = {
    'small_cnn': {'widths': (4, 6), 'hidden': 5},
    'preact_resnet18': {'blocks': (1, 2), 'width': 4},
    'resnet18': {'blocks': (1, 1), 'width': 4},
    'resnet50': {'blocks': (1, 1), 'width': 4},
    'wide_resnet': {'depth': 10, 'width': 1},
}
FAMILIES = {
    'dcgan': {'widths': (4, 8, 6)},
    'resnet_gan': {'widths': (4, 6), 'trunk_widths': (4, 6), 'plain': 1, 'trunk_norm': 'batch'},
}
PARTS = ('decoder', 'encoder', 'discriminator')


def _part(net, part):
    """(module, groups) of a classifier ('') or of a family's part."""
    if not part:
        return net, net.channels()
    module = net.encoder(7) if part == 'encoder' else getattr(net, part)()
    return module, net.decoder_channels() if part == 'decoder' else net.trunk_channels()


def _build(name, options):
    family = name in FAMILIES
    return (
        nets.build(name, image_shape=SHAPE, latent=LATENT, **options)
        if family
        else nets.build(name, num_classes=3, **options)
    )


def _randomised(variables, rng):
    """As after training: at their initial values scales and statistics would prove little."""
    leaves, structure = jax.tree.flatten(variables)
    keys = jax.random.split(rng, len(leaves))
    return jax.tree.unflatten(
        structure, [leaf + 0.3 * jax.random.uniform(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    )


def _masks(params, groups, share):
    scores = masks.channel_scores(params, groups)
    keys = jax.random.split(jax.random.key(3), len(scores))
    random = {name: jax.random.uniform(key, score.shape) for (name, score), key in zip(scores.items(), keys, strict=True)}
    return masks.channel_masks(random, share)


DEEP = ('wide_resnet', 'resnet18', 'resnet50', 'preact_resnet18')  # which compile longest
CASES = [(name, '') for name in CLASSIFIERS] + [(name, part) for name in FAMILIES for part in PARTS]


@pytest.mark.parametrize(
    ('name', 'part'), [pytest.param(*case, marks=[pytest.mark.slow] * (case[0] in DEEP)) for case in CASES]
)
def test_a_sliced_network_computes_what_the_masked_one_does(name, part):
    options = (CLASSIFIERS | FAMILIES)[name]
    net = _build(name, options)
    module, groups = _part(net, part)
    inputs = jax.random.uniform(jax.random.key(1), (3, LATENT) if part == 'decoder' else (3, *SHAPE))
    variables = _randomised(jax.jit(lambda k: module.init(k, inputs, train=False))(jax.random.key(0)), jax.random.key(2))
    params, stats = variables['params'], variables['batch_stats']
    keep = _masks(params, groups, 0.5)
    small_params, small_stats = masks.slice_channels(params, stats, groups, keep)
    sizes = narrowed(net.channel_sizes(), masks.kept(keep))
    small, _ = _part(_build(name, {**options, **sizes}), part)
    shapes = jax.eval_shape(lambda k: small.init(k, inputs, train=False), jax.random.key(0))
    assert jax.tree.map(jnp.shape, small_params) == jax.tree.map(lambda leaf: leaf.shape, shapes['params'])
    assert sum(leaf.size for leaf in jax.tree.leaves(small_params)) < sum(leaf.size for leaf in jax.tree.leaves(params))
    masked = masks.mask_channels(params, groups, keep)
    for train in (False, True):
        arguments = {'train': train, **({'mutable': ['batch_stats']} if train else {})}
        expected = module.apply({'params': masked, 'batch_stats': stats}, inputs, **arguments)
        outputs = small.apply({'params': small_params, 'batch_stats': small_stats}, inputs, **arguments)
        pair = (o[0] if train else o for o in (outputs, expected))
        np.testing.assert_allclose(*pair, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', [name for name in CLASSIFIERS if name != 'small_cnn'])
def test_as_many_inner_widths_as_blocks(name):
    net = _build(name, {**CLASSIFIERS[name], 'inner': (3,)})
    with pytest.raises(ValueError, match=r'net.inner is \(3,\); allowed: \(\) or'):
        jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, *SHAPE)), train=False))
