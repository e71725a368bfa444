"""Networks: known sizes, the sheet's details, bfloat16, and a convolution equal to XLA's in value and gradient."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gjax import nets
from gjax.nets.cpu import winograd
from gjax.nets.cpu.convolutions import _plain, conv2d
from gjax.nets.layers import max_pool


@pytest.mark.parametrize(
    ('size', 'kernel', 'strides', 'padding'),
    [
        ((2, 8, 8, 3), (3, 3, 3, 4), (1, 1), ((1, 1), (1, 1))),
        ((2, 9, 7, 3), (3, 3, 3, 4), (2, 2), ((1, 1), (1, 1))),
        ((2, 8, 8, 2), (5, 3, 2, 4), (2, 3), ((0, 2), (1, 0))),
        ((2, 8, 8, 2), (1, 1, 2, 4), (2, 2), ((0, 0), (0, 0))),
        ((2, 7, 7, 2), (4, 4, 2, 3), (2, 2), ((0, 0), (2, 1))),
        ((2, 8, 8, 6), (3, 3, 6, 4), (1, 1), ((1, 1), (1, 1))),
        ((2, 9, 7, 6), (3, 3, 6, 4), (2, 2), ((1, 1), (1, 1))),
        ((2, 8, 8, 6), (5, 3, 6, 4), (2, 3), ((0, 2), (1, 0))),
        ((2, 8, 8, 6), (1, 1, 6, 4), (2, 2), ((0, 0), (0, 0))),
        ((2, 7, 7, 6), (4, 4, 6, 3), (2, 2), ((0, 0), (2, 1))),
        ((2, 8, 8, 2), (3, 5, 2, 4), (1, 1), ((0, 0), (2, 0))),
        ((2, 5, 5, 6), (5, 5, 6, 4), (1, 1), ((0, 0), (0, 0))),
        ((2, 9, 8, 6), (3, 3, 6, 4), (2, 2), ((-1, 1), (0, -1))),
        ((2, 9, 8, 2), (3, 3, 2, 4), (1, 1), ((-1, 1), (0, -1))),
        ((2, 8, 9, 10), (3, 3, 10, 4), (1, 1), ((1, 1), (0, 2))),  # the input's gradient by rows of taps
        ((2, 8, 9, 14), (5, 3, 14, 4), (1, 1), ((0, 0), (1, 0))),
        ((2, 10, 9, 14), (3, 3, 14, 4), (1, 1), ((-1, 0), (0, -1))),
        ((2, 9, 9, 10), (4, 2, 10, 4), (1, 1), ((0, 1), (-2, 0))),
        ((2, 8, 9, 14), (3, 3, 14, 4), (1, 1), ((1, 1), (0, 2))),  # as a convolution
        ((2, 5, 5, 14), (5, 5, 14, 4), (1, 1), ((0, 0), (0, 0))),  # tap by tap
        ((16, 8, 7, 64), (3, 3, 64, 64), (1, 1), ((1, 1), (0, 2))),  # in Winograd's form
        ((16, 7, 8, 64), (3, 3, 64, 96), (1, 1), ((2, 1), (1, 1))),  # the input's gradient alone
        ((16, 9, 8, 96), (3, 3, 96, 64), (1, 1), ((-1, 2), (1, -1))),
    ],
)
def test_conv2d_equals_xla_in_value_and_both_gradients(size, kernel, strides, padding):
    keys = jax.random.split(jax.random.key(0), 3)
    images, weights = jax.random.normal(keys[0], size), jax.random.normal(keys[1], kernel)

    def xla(x, w):  # padded, or cut, beforehand: XLA's convolution reads beyond images whose padding is negative
        x = lax.pad(x, 0.0, ((0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)))
        return lax.conv_general_dilated(x, w, strides, 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))

    expected, pullback = jax.vjp(xla, images, weights)
    value, own_pullback = jax.vjp(lambda x, w: conv2d(x, w, strides, padding), images, weights)
    cotangent = jax.random.normal(keys[2], expected.shape)
    np.testing.assert_allclose(value, expected, atol=1e-5 * max(1, 3 * expected.std()))
    for own, reference in zip(own_pullback(cotangent), pullback(cotangent), strict=True):
        np.testing.assert_allclose(own, reference, atol=1e-4 * max(1, reference.std()))


@pytest.mark.parametrize('padding', [((1, 1), (1, 1)), ((0, 0), (0, 0)), ((2, 1), (0, 3)), ((-1, 1), (1, -2))])
@pytest.mark.parametrize('size', [(8, 8), (7, 9), (12, 5)])
def test_winograd_is_a_convolution(size, padding):
    """With the exact products of float64 beside it: odd sizes, tiles that are not whole, cut sides."""
    rng = np.random.default_rng(0)
    images, kernel = rng.normal(size=(2, *size, 5)), rng.normal(size=(3, 3, 5, 4))
    padded = np.pad(images, ((0, 0), *((max(low, 0), max(high, 0)) for low, high in padding), (0, 0)))
    (top, bottom), (left, right) = [(max(-low, 0), max(-high, 0)) for low, high in padding]
    padded = padded[:, top : padded.shape[1] - bottom, left : padded.shape[2] - right]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))  # [B, H', W', C, 3, 3]
    expected = np.einsum('bhwcij,ijcd->bhwd', windows, kernel)
    cotangent = rng.normal(size=expected.shape)
    single = [values.astype(np.float32) for values in (images, kernel, cotangent)]
    np.testing.assert_allclose(winograd.conv2d(*single[:2], padding, _plain), expected, atol=1e-4)
    gradient = np.einsum('bhwcij,bhwd->ijcd', windows, cotangent)
    np.testing.assert_allclose(winograd.kernel_gradient(single[0], single[2], padding, _plain), gradient, atol=3e-4)


def test_which_convolutions_winograd_takes():
    """Wide ones of 3 x 3 taps in float32, and only on CPUs."""

    def takes(*, batch=8, size=8, channels=64, features=64, taps=3, strides=1, dtype=jnp.float32, platform='cpu', of=None):
        images = jax.ShapeDtypeStruct((batch, size, size, channels), dtype)
        kernel = jax.ShapeDtypeStruct((taps, taps, channels, features), dtype)

        def convolved(x, w):
            return conv2d(x, w, (strides, strides), ((1, 1), (1, 1)))

        def pulled_back(x, w, cotangent):
            return jax.vjp(convolved, x, w)[1](cotangent)[of]

        arguments = (images, kernel, jax.eval_shape(convolved, images, kernel))
        traced = jax.jit(convolved).trace(*arguments[:2]) if of is None else jax.jit(pulled_back).trace(*arguments)
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        convolutions = text.count('stablehlo.convolution')
        assert convolutions in (1, 6)
        return convolutions == 6

    for of in (None, 0, 1):  # the convolution, and its gradients
        assert takes(of=of), of
        assert not takes(of=of, platform='tpu'), of
    assert takes(channels=256, features=256, size=4, batch=32)
    assert takes(size=7, batch=16)
    for other in (
        {'channels': 48},
        {'features': 48},
        {'taps': 1},
        {'taps': 5},
        {'strides': 2},
        {'dtype': jnp.bfloat16},
        {'batch': 4, 'size': 4},
        {'size': 6, 'batch': 64},
    ):
        assert not takes(**other), other


def test_winograd_under_vmap_and_in_second_derivatives():
    rng = np.random.default_rng(0)
    images, kernel = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((2, 8, 8, 8, 96), (3, 3, 96, 96)))

    def own(x, w):
        return conv2d(x, w, (1, 1), ((1, 1), (1, 1)))

    def xla(x, w):
        return lax.conv_general_dilated(x, w, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))

    def steepness(w, x, convolved):
        return jnp.sum(jax.grad(lambda x: jnp.sum(jnp.sin(convolved(x, w) / 30)))(x) ** 2)

    def both(function, *arguments, atol):
        value, truth = (jax.jit(lambda *args, c=c: function(*args, c))(*arguments) for c in (own, xla))
        np.testing.assert_allclose(value, truth, atol=atol * np.std(truth))

    both(lambda x, w, c: jax.vmap(lambda x: c(x, w))(x), images, kernel, atol=3e-5)
    both(jax.grad(steepness), kernel, images[0], atol=1e-3)


@pytest.mark.parametrize(('shape', 'side'), [((2, 8, 6, 3), 2), ((2, 7, 9, 2), 2), ((1, 4, 4, 5), 4), ((2, 5, 5, 1), 3)])
def test_max_pool_equals_flax_in_value_and_gradient_also_where_values_are_equal(shape, side):
    images = jnp.round(2 * jax.random.normal(jax.random.key(0), shape))
    value, own_pullback = jax.vjp(lambda x: max_pool(x, side), images)
    truth, pullback = jax.vjp(lambda x: nn.max_pool(x, (side, side), (side, side)), images)
    cotangent = jax.random.normal(jax.random.key(1), truth.shape)
    np.testing.assert_array_equal(value, truth)
    np.testing.assert_array_equal(own_pullback(cotangent)[0], pullback(cotangent)[0])


@pytest.mark.parametrize('channels', [2, 10])
@pytest.mark.parametrize(('strides', 'pad'), [((1, 1), 1), ((2, 2), 1), ((1, 1), 0)])
def test_gradients_in_bfloat16_are_rounded_ones(strides, pad, channels):
    def total(images, kernel):
        return conv2d(images, kernel, strides, ((pad, pad), (pad, pad))).astype(jnp.float32).sum()

    keys, shapes = jax.random.split(jax.random.key(0)), ((2, 8, 8, channels), (3, 3, channels, 4))
    rounded = [jax.random.normal(key, shape).astype(jnp.bfloat16) for key, shape in zip(keys, shapes, strict=True)]
    truth = jax.grad(total, (0, 1))(*(values.astype(jnp.float32) for values in rounded))
    for own, exact in zip(jax.grad(total, (0, 1))(*rounded), truth, strict=True):
        assert own.dtype == jnp.bfloat16
        np.testing.assert_allclose(own.astype(jnp.float32), exact, rtol=0.02, atol=0.1)


@pytest.mark.parametrize(('channels', 'strides'), [(1, (1, 1)), (6, (2, 2))])
def test_conv2d_has_second_derivatives(channels, strides):
    images, weights = jnp.ones((1, 4, 4, channels)), jnp.full((3, 3, channels, 1), 0.3 / channels)

    def loss(w):
        inner = jax.grad(lambda x: jnp.sum(conv2d(x, w, strides, ((1, 1), (1, 1))) ** 3))(images)
        return jnp.sum(conv2d(images, w, strides, ((1, 1), (1, 1))) ** 3) + jnp.sum(inner**2)

    value = jax.grad(lambda w: jnp.sum(jax.grad(loss)(w) ** 2))(weights)
    step = 1e-3
    up, down = (jnp.sum(jax.grad(loss)(weights.at[1, 1].add(s)) ** 2) for s in (step, -step))
    np.testing.assert_allclose(value[1, 1].sum(), (up - down) / (2 * step), rtol=1e-2)


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
