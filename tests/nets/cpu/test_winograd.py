"""Winograd's form of a convolution: what it computes, and when it is taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gjax.nets.cpu import winograd
from gjax.nets.cpu.convolutions import _plain, conv2d


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
