"""Networks: known sizes, the sheet's details, bfloat16, pooling."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import nets
from gjax.nets.layers import max_pool


@pytest.mark.parametrize(('shape', 'side'), [((2, 8, 6, 3), 2), ((2, 7, 9, 2), 2), ((1, 4, 4, 5), 4), ((2, 5, 5, 1), 3)])
def test_max_pool_equals_flax_in_value_and_gradient_also_where_values_are_equal(shape, side):
    images = jnp.round(2 * jax.random.normal(jax.random.key(0), shape))
    value, own_pullback = jax.vjp(lambda x: max_pool(x, side), images)
    truth, pullback = jax.vjp(lambda x: nn.max_pool(x, (side, side), (side, side)), images)
    cotangent = jax.random.normal(jax.random.key(1), truth.shape)
    np.testing.assert_array_equal(value, truth)
    np.testing.assert_array_equal(own_pullback(cotangent)[0], pullback(cotangent)[0])


def _count(name, size=32, **options):
    net = nets.build(name, **options)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((2, size, size, 3)), train=False))
    return sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes['params']))


def test_parameter_counts():
    assert _count('iaat_wide_resnet', num_classes=10) == 46_090_740  # the authors' network, sheet section 3
    assert _count('iaat_wide_resnet', num_classes=100) == 46_090_740 + 90 * 640 + 2 * 90
    assert _count('preact_resnet18', num_classes=10) == 11_171_146 + 2 * 512  # the usual PyTorch one has no final BN
    assert _count('wide_resnet', num_classes=10) == 36_479_194  # WRN-28-10
    assert _count('resnet50', num_classes=1000, size=224) == 25_557_032  # torchvision's resnet50


def test_iaat_blocks_have_no_affine_and_shortcuts_are_padded_pools():
    net = nets.build('iaat_wide_resnet', num_classes=10, depth=8, width=1)
    variables = net.init(jax.random.key(0), jnp.zeros((2, 8, 8, 3)), train=False)
    names = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(variables['params'])[0]}
    assert sum('scale' in name for name in names) == 1
    assert sum('bias' in name for name in names) == 1


@pytest.mark.parametrize('name', ['small_cnn', 'preact_resnet18', 'wide_resnet', 'iaat_wide_resnet'])
def test_bfloat16_compute_keeps_float32_parameters_and_logits(name):
    small = {'preact_resnet18': {'width': 4}, 'wide_resnet': {'depth': 10, 'width': 1}, 'small_cnn': {}}
    options = small.get(name, {'depth': 8, 'width': 1})
    images = jax.random.uniform(jax.random.key(1), (4, 16, 16, 3))
    logits = {}
    for dtype in ('float32', 'bfloat16'):
        net = nets.build(name, num_classes=5, dtype=dtype, **options)
        variables = net.init(jax.random.key(0), images, train=False)
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
        logits[dtype], new = net.apply(variables, images, train=True, mutable=['batch_stats'])
        assert logits[dtype].dtype == jnp.float32
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(new))
    np.testing.assert_allclose(logits['bfloat16'], logits['float32'], atol=0.15)
    assert np.abs(np.asarray(logits['bfloat16'] - logits['float32'])).max() > 0


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'name': 'lenet'}, "net.name is 'lenet'; allowed: small_cnn"),
        ({'name': 'small_cnn', 'dtype': 'int8'}, "net.dtype is 'int8'; allowed: float32, bfloat16"),
        ({'name': 'small_cnn', 'hiden': 3}, 'did you mean hidden'),
    ],
)
def test_bad_networks_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        nets.build(num_classes=2, **arguments)


def test_bad_depth_is_refused():
    net = nets.build('wide_resnet', num_classes=2, depth=29)
    with pytest.raises(ValueError, match='depth is 29; allowed: 4'):
        net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
