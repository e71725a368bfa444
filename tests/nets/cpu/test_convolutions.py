"""Convolutions, and transposed ones, equal to XLA's in value and both gradients, in whichever form they are computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gjax.nets.cpu.convolutions import conv2d, conv_transpose2d

SLOW = pytest.mark.slow  # shapes of a form that another one has


@pytest.mark.parametrize(
    ('size', 'kernel', 'strides', 'padding'),
    [
        ((2, 8, 8, 3), (3, 3, 3, 4), (1, 1), ((1, 1), (1, 1))),
        ((2, 9, 7, 3), (3, 3, 3, 4), (2, 2), ((1, 1), (1, 1))),
        ((2, 8, 8, 2), (5, 3, 2, 4), (2, 3), ((0, 2), (1, 0))),
        pytest.param((2, 8, 8, 2), (1, 1, 2, 4), (2, 2), ((0, 0), (0, 0)), marks=SLOW),
        ((2, 7, 7, 2), (4, 4, 2, 3), (2, 2), ((0, 0), (2, 1))),
        ((2, 8, 8, 6), (3, 3, 6, 4), (1, 1), ((1, 1), (1, 1))),
        ((2, 9, 7, 6), (3, 3, 6, 4), (2, 2), ((1, 1), (1, 1))),
        pytest.param((2, 8, 8, 6), (5, 3, 6, 4), (2, 3), ((0, 2), (1, 0)), marks=SLOW),
        pytest.param((2, 8, 8, 6), (1, 1, 6, 4), (2, 2), ((0, 0), (0, 0)), marks=SLOW),
        pytest.param((2, 7, 7, 6), (4, 4, 6, 3), (2, 2), ((0, 0), (2, 1)), marks=SLOW),
        ((2, 8, 8, 2), (3, 5, 2, 4), (1, 1), ((0, 0), (2, 0))),
        pytest.param((2, 5, 5, 6), (5, 5, 6, 4), (1, 1), ((0, 0), (0, 0)), marks=SLOW),
        ((2, 9, 8, 6), (3, 3, 6, 4), (2, 2), ((-1, 1), (0, -1))),
        pytest.param((2, 9, 8, 2), (3, 3, 2, 4), (1, 1), ((-1, 1), (0, -1)), marks=SLOW),
        ((2, 8, 9, 10), (3, 3, 10, 4), (1, 1), ((1, 1), (0, 2))),  # the input's gradient by rows of taps
        pytest.param((2, 8, 9, 14), (5, 3, 14, 4), (1, 1), ((0, 0), (1, 0)), marks=SLOW),
        pytest.param((2, 10, 9, 14), (3, 3, 14, 4), (1, 1), ((-1, 0), (0, -1)), marks=SLOW),
        pytest.param((2, 9, 9, 10), (4, 2, 10, 4), (1, 1), ((0, 1), (-2, 0)), marks=SLOW),
        ((2, 8, 9, 14), (3, 3, 14, 4), (1, 1), ((1, 1), (0, 2))),  # as a convolution
        ((2, 5, 5, 14), (5, 5, 14, 4), (1, 1), ((0, 0), (0, 0))),  # tap by tap
        ((16, 8, 7, 64), (3, 3, 64, 64), (1, 1), ((1, 1), (0, 2))),  # in Winograd's form
        pytest.param((16, 7, 8, 64), (3, 3, 64, 96), (1, 1), ((2, 1), (1, 1)), marks=SLOW),  # the input's gradient alone
        pytest.param((16, 9, 8, 96), (3, 3, 96, 64), (1, 1), ((-1, 2), (1, -1)), marks=SLOW),
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


@pytest.mark.parametrize(('channels', 'strides'), [(1, (1, 1)), pytest.param(6, (2, 2), marks=SLOW)])
def test_conv2d_has_second_derivatives(channels, strides):
    images, weights = jnp.ones((1, 4, 4, channels)), jnp.full((3, 3, channels, 1), 0.3 / channels)

    def loss(w):
        inner = jax.grad(lambda x: jnp.sum(conv2d(x, w, strides, ((1, 1), (1, 1))) ** 3))(images)
        return jnp.sum(conv2d(images, w, strides, ((1, 1), (1, 1))) ** 3) + jnp.sum(inner**2)

    value = jax.grad(lambda w: jnp.sum(jax.grad(loss)(w) ** 2))(weights)
    step = 1e-3
    up, down = (jnp.sum(jax.grad(loss)(weights.at[1, 1].add(s)) ** 2) for s in (step, -step))
    np.testing.assert_allclose(value[1, 1].sum(), (up - down) / (2 * step), rtol=1e-2)


@pytest.mark.parametrize(
    ('size', 'kernel', 'strides'),
    [
        ((2, 4, 4, 3), (4, 4, 3, 5), (2, 2)),
        ((2, 5, 7, 3), (3, 3, 3, 4), (2, 2)),
        ((2, 5, 4, 3), (5, 5, 3, 4), (2, 2)),
        ((2, 4, 4, 2), (3, 3, 2, 4), (1, 1)),
        ((2, 3, 4, 2), (2, 3, 2, 4), (3, 1)),
        ((2, 5, 4, 3), (5, 5, 3, 6), (2, 2)),
        ((2, 5, 4, 3), (3, 3, 3, 6), (2, 2)),
        ((2, 3, 4, 2), (2, 3, 2, 6), (3, 1)),
    ],
)
def test_conv_transpose_equals_xla_in_value_and_both_gradients(size, kernel, strides):
    keys = jax.random.split(jax.random.key(0), 3)
    features, weights = jax.random.normal(keys[0], size), jax.random.normal(keys[1], kernel)
    expected, pullback = jax.vjp(lambda x, w: lax.conv_transpose(x, w, strides, 'SAME'), features, weights)
    value, own_pullback = jax.vjp(lambda x, w: conv_transpose2d(x, w, strides), features, weights)
    cotangent = jax.random.normal(keys[2], expected.shape)
    np.testing.assert_allclose(value, expected, atol=1e-5)
    for own, reference in zip(own_pullback(cotangent), pullback(cotangent), strict=True):
        np.testing.assert_allclose(own, reference, atol=1e-4)


def test_conv_transpose_has_second_derivatives():
    features, weights = jax.random.normal(jax.random.key(0), (1, 3, 3, 2)), jnp.full((4, 4, 2, 1), 0.3)

    def gradient_norm(operation):
        return lambda w: jnp.sum(jax.grad(lambda x: jnp.sum(operation(x, w) ** 3))(features) ** 2)

    own = jax.grad(gradient_norm(lambda x, w: conv_transpose2d(x, w, (2, 2))))(weights)
    xla = jax.grad(gradient_norm(lambda x, w: lax.conv_transpose(x, w, (2, 2), 'SAME')))(weights)
    np.testing.assert_allclose(own, xla, rtol=1e-4)
