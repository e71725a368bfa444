"""Masks of any pytree: what is prunable is a rule, the suite's own networks have the masks of their kernels, and trees that
do not fit are refused in one line.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gjax import masks, nets
from gjax.nets.channel_groups import ChannelGroup


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    """A layer as a dataclass, as in Equinox: the weight [out, in], the bias [out], and which function follows."""

    weight: jax.Array
    bias: jax.Array
    activation: object = None


class Small(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 2, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(2, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.embedding = nnx.Embed(4, 2, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(2, 3, rngs=rngs)])


def layers():
    """A list of two layers; the function is a leaf, the step a whole number."""
    first = Layer(jnp.arange(6.0).reshape(3, 2), jnp.ones(3), jnp.tanh)
    return [first, {'w': jnp.full((2, 2), 10.0), 'b': jnp.ones(2), 'step': jnp.zeros((2, 2), jnp.int32)}]


def test_lists_and_dataclasses():
    full = masks.dense(layers())
    assert masks.count(full) == (10, 10)
    assert (full[0].bias, full[0].activation, full[1]['b'], full[1]['step']) == (None,) * 4
    smaller = masks.keep_highest(full, masks.magnitude(layers()), 0.5)
    pruned = masks.apply(smaller, layers())
    np.testing.assert_array_equal(pruned[0].weight, [[0, 0], [0, 0], [0, 5]])
    np.testing.assert_array_equal(pruned[1]['w'], np.full((2, 2), 10.0))
    assert pruned[0].activation is jnp.tanh
    assert masks.is_nested(smaller, full)


def test_a_kernel_is_prunable_whatever_its_rank():
    assert masks.count(masks.dense({'kernel': jnp.ones(3), 'bias': jnp.ones(3), 'scale': jnp.ones((2, 3))})) == (3, 3)


def test_an_nnx_state():
    state = nnx.state(Small(nnx.Rngs(0)))
    full = masks.dense(state, protected=('conv',))
    assert masks.count(full)[1] == 6
    assert masks.count(masks.dense(state))[1] == 6 + 18
    smaller = masks.keep_highest(full, masks.magnitude(state), 0.5)
    pruned = masks.apply(smaller, state)
    assert jax.tree.structure(pruned) == jax.tree.structure(state)
    kernel = np.asarray(state['layers'][0]['kernel'][...])
    kept = np.asarray(pruned['layers'][0]['kernel'][...])
    np.testing.assert_array_equal(kept != 0, np.abs(kernel) >= np.sort(np.abs(kernel).ravel())[3])
    with pytest.raises(ValueError, match='there is no layer dense to protect'):
        masks.dense(state, protected=('dense',))


def test_the_rule_is_the_callers():
    everything = masks.dense(layers(), prunable=lambda path, leaf: getattr(leaf, 'dtype', None) == jnp.float32)
    assert masks.count(everything)[1] == 10 + 5
    paths = []
    masks.dense({'a': {'b': jnp.ones(2)}}, prunable=lambda path, leaf: paths.append(path) or True)
    assert paths == ['a/b']


def _modules():
    """{name: (module, shape of an example, arguments)} of every network."""
    image = (32, 32, 3)
    found = {name: (nets.build(name, num_classes=10), image, {'train': False}) for name in nets.CLASSIFIERS}
    for name in nets.FAMILIES:
        family = nets.build(name, image_shape=image)
        found[f'{name} decoder'] = (family.decoder(), (family.latent,), {'train': False})
        for part in ('encoder', 'discriminator'):
            module = getattr(family, part)
            found[f'{name} {part}'] = (module() if part == 'discriminator' else module(8), image, {'train': False})
    for name, net in {'realnvp': {'blocks': 1}, 'glow': {'levels': 1, 'depth': 2, 'hidden': 8}}.items():
        found[name] = (nets.build(name, image_shape=(8, 8, 1), **net), (8, 8, 1), {})
    domain = nets.build('gta_digits', num_classes=10, image_shape=image)
    for part in ('embedding', 'discriminator'):
        found[f'gta {part}'] = (getattr(domain, part)(), image, {'train': False})
    return found


MODULES = _modules()
QUICK = ('small_cnn', 'mlp decoder', 'mlp encoder', 'dcgan discriminator', 'glow')  # to trace


@pytest.mark.parametrize('name', [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODULES])
def test_every_networks_masks_are_those_of_its_kernels(name):
    """As before masks took other trees: True at what is named 'kernel', None elsewhere."""
    module, shape, options = MODULES[name]
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    params = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, **options)['params'], images)
    full = jax.eval_shape(masks.dense, params)
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    kernels = {masks.path_name(path): leaf.shape for path, leaf in leaves if masks.path_name(path).endswith('kernel')}
    assert {masks.path_name(path): leaf.shape for path, leaf in jax.tree_util.tree_flatten_with_path(full)[0]} == kernels
    assert kernels


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (
            lambda: masks.dense({'bias': jnp.ones(3)}),
            r'there is nothing to prune in params \(bias\); allowed: a prunable leaf',
        ),
        (lambda: masks.dense({'w': jnp.ones((2, 2), int)}), r'there is nothing to prune in params \(w\)'),
        (
            lambda: masks.keep_highest({'bias': None}, {'bias': jnp.ones(3)}, 0.5),
            'the masks have no leaf, so there is nothing to prune; allowed: at least one mask',
        ),
        (
            lambda: masks.keep_highest(masks.dense(layers()), {'w': jnp.ones((2, 2))}, 0.5),
            r'scores has no entry 0/weight; allowed: a tree like the masks, with 0/weight, 1/w',
        ),
        (
            lambda: masks.keep_highest({'w': jnp.ones((2, 2), bool)}, {'w': jnp.ones(2)}, 0.5),
            r'the shape of scores at w is \(2,\); allowed: \(2, 2\), that of its mask',
        ),
        (
            lambda: masks.apply({'w': jnp.ones((1, 2), bool)}, {'w': jnp.ones((2, 2))}),
            r'the shape of params at w is \(2, 2\); allowed: \(1, 2\), that of its mask',
        ),
        (
            lambda: masks.apply({'w': jnp.ones(2)}, {'w': jnp.ones(2)}),
            'the mask of params at w has dtype float32; allowed: bool',
        ),
        (lambda: masks.apply({'v': jnp.ones(2, bool)}, {'w': jnp.ones(2)}), 'params has no entry v; allowed'),
        (lambda: masks.count({'w': jnp.ones(2)}), 'a mask has dtype float32; allowed: bool'),
        (lambda: masks.is_nested({'v': jnp.ones(2, bool)}, {'w': jnp.ones(2, bool)}), 'inner has no entry w'),
        (lambda: masks.random_like({'w': jnp.ones(2, bool)}, rng=0), 'rng is 0; allowed: one key'),
        (lambda: masks.channel_masks({}, 0.5), 'scores have no group, so there is nothing to prune'),
        (lambda: masks.channel_masks({'g': jnp.ones(3)}, 1.0), 'pruned is 1.0; allowed: 0 <= pruned < 1'),
        (
            lambda: masks.channel_masks({'g': jnp.ones((3, 1))}, 0.5),
            r'the shape of the scores of g is \(3, 1\); allowed: \[C\]',
        ),
        (lambda: masks.channel_masks({'g': jnp.full(3, jnp.nan)}, 0.5), 'the scores of g have NaN; allowed: numbers'),
        (lambda: masks.hamming(jnp.ones(3, bool), jnp.ones(1, bool)), r'the shape of second is \(1,\); allowed: \[..., 3\]'),
        (lambda: masks.masks_agree(jnp.ones(3, bool), 0.1), r'the shape of history is \(3,\); allowed: \[T, C\]'),
        (lambda: masks.masks_agree(jnp.ones((1, 3), bool), 0.1), r'the shape of history is \(1, 3\); allowed: .* T >= 2'),
        (
            lambda: masks.masks_agree(jnp.ones((2, 3), bool), 0.1, rule='last'),
            "the rule is 'last'; allowed: paper, released, any_two",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=f'^{message}') as caught:
        call()
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('remaining', [10, -0.1, np.float32(1.5), np.nan, jnp.asarray(-1.0)])
def test_a_share_outside_zero_and_one_is_refused(remaining):
    mask, scores = {'w': jnp.ones(4, bool)}, {'w': jnp.arange(4.0)}
    with pytest.raises(ValueError, match=r'^remaining is \S+; allowed: 0\.\.1, a share of all prunable entries$'):
        masks.keep_highest(mask, scores, remaining)
    with pytest.raises(ValueError, match=r'^the shape of remaining is \(2,\); allowed: \(\)$'):
        masks.keep_highest(mask, scores, np.ones(2))


@pytest.mark.parametrize('function', [masks.mask_channels, lambda *a: masks.slice_channels(a[0], {'norm': {}}, *a[1:])])
def test_channel_masks_that_do_not_fit_are_refused(function):
    params = {'norm': {'scale': jnp.ones(3), 'bias': jnp.ones(3)}}
    group = ChannelGroup('g', ('norm',), ())
    for chosen, message in (
        ({}, 'masks have no group g; allowed'),
        ({'g': np.ones(1, bool)}, r'the shape of the mask of g is \(1,\); allowed: \(3,\)'),
        ({'g': np.ones(3)}, 'the mask of g has dtype float64; allowed: bool'),
    ):
        with pytest.raises(ValueError, match=f'^{message}'):
            function(params, (group,), chosen)


def test_scores_that_are_all_nan_are_refused():
    mask = {'a': np.asarray([True, False]), 'b': np.asarray([True, True])}
    scores = {'a': np.asarray([np.nan, 1.0]), 'b': np.asarray([1.0, np.nan])}
    kept = masks.keep_highest(mask, scores, 0.25)
    assert (kept['a'].tolist(), kept['b'].tolist()) == ([False, False], [True, False])
    with pytest.raises(ValueError, match=r'^all 1 scores are NaN; allowed: at least one number$'):
        masks.keep_highest(mask, scores, 0.5, scope='layer')
    with pytest.raises(ValueError, match=r'^all 3 scores are NaN; allowed: at least one number$'):
        masks.keep_highest(mask, jax.tree.map(lambda s: s * jnp.nan, scores), 0.5)
