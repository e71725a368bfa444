"""Checks of options and arrays: one line that names the argument, its value and what is allowed."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import checks

IMAGES = np.full((2, 3, 3, 1), 0.5, np.float32)


def _with(value, images=IMAGES):
    images = images.copy()
    images.flat[3] = value
    return images


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: checks.check_shape('labels', np.zeros((4, 1)), (4,)), 'the shape of labels is (4, 1); allowed: (4,)'),
        (lambda: checks.check_shape('x', np.zeros(3), (None, ...), 'y'), None),
        (lambda: checks.check_shape('x', [1, 2], (2,)), 'x is of type list; allowed: an array'),
        (
            lambda: checks.check_shapes((None,), '[B]', real=np.zeros(3), fake=np.zeros((3, 1))),
            'the shape of fake is (3, 1); allowed: (3,), that of real',
        ),
        (
            lambda: checks.check_floats(images=np.zeros(3, np.uint8)),
            'the dtype of images is uint8; allowed: float32, float16, bfloat16, float64',
        ),
        (lambda: checks.check_integers(labels=np.zeros(3, bool)), 'the dtype of labels is bool; allowed: integers'),
        (lambda: checks.check_key('rng', 0), 'rng is 0; allowed: one key, such as jax.random.key(0)'),
        (lambda: checks.check_key('rng', np.zeros(2)), 'rng is float64[2]; allowed: one key, such as jax.random.key(0)'),
        (
            lambda: checks.check_key('rng', jax.random.split(jax.random.key(0))),
            'rng is key<fry>[2]; allowed: one key, such as jax.random.key(0)',
        ),
        (lambda: checks.check_key('rng', jax.random.key(0)), None),
        (lambda: checks.check_key('rng', jax.random.PRNGKey(0)), None),
        (
            lambda: checks.check_bounds((1.0, 0.0)),
            'bounds is (1.0, 0.0); allowed: (low, high), two finite numbers with low < high',
        ),
        (lambda: checks.check_bounds(0.5), 'bounds is 0.5; allowed: (low, high), two finite numbers with low < high'),
        (lambda: checks.check_bounds((-1, 1)), None),
        (
            lambda: checks.check_eps('eps', 8, 'linf'),
            'eps is 8; allowed for linf: 0..1, the width of the bounds (8/255?)',
        ),
        (lambda: checks.check_eps('eps', 8, 'linf', (0.0, 255.0)), None),
        (lambda: checks.check_eps('eps', 8, 'l2'), None),
        (lambda: checks.check_eps('eps', jnp.asarray([0.1, jnp.nan]), 'l2'), 'eps is [0.1 nan]; allowed: >= 0'),
        (lambda: checks.check_eps('eps', np.inf, 'l2'), 'eps is inf; allowed for l2: finite radii'),
        (
            lambda: checks.check_eps('eps', jnp.asarray([0.1, 1.5]), 'linf'),
            'eps is 1.5; allowed for linf: 0..1, the width of the bounds (1.5/255?)',
        ),
        (
            lambda: checks.check_radii('curve', (0.1, 3.0), 'linf'),
            'curve is 3; allowed for linf: 0..1, the width of the bounds (3/255?)',
        ),
        (lambda: checks.check_radii('curve', (0.1, 0.1)), None),
        (lambda: checks.check_radii('curve', (0.1, 0.1002), digits=4), None),
        (
            lambda: checks.check_radii('curve', (0.1, 0.10002), digits=4),
            'curve is (0.1, 0.10002); allowed: radii that differ within 4 digits after the point',
        ),
        (lambda: checks.check_images('images', _with(1 + 5e-7)), None),
        (
            lambda: checks.check_images('images', _with(1.1)),
            'images lie in 0.5..1.1; allowed: 0..1 (bounds); normalise inside the network',
        ),
        (
            lambda: checks.check_images('images', jnp.asarray(_with(np.nan))),
            'images lie in nan..nan; allowed: 0..1 (bounds); normalise inside the network',
        ),
        (lambda: checks.check_images('images', _with(-1), (-1.0, 1.0)), None),
        (
            lambda: checks.check_images('images', IMAGES.astype(np.uint8)),
            'the dtype of images is uint8; allowed: float32, float16, bfloat16, float64 (divide by 255?)',
        ),
        (
            lambda: checks.check_images('images', IMAGES[:0]),
            'the shape of images is (0, 3, 3, 1); allowed: at least one example',
        ),
        (
            lambda: checks.check_images('images', IMAGES[0, 0, 0]),
            'the shape of images is (1,); allowed: [B, ...], such as [B, H, W, C]',
        ),
    ],
)
def test_messages(call, message):
    if message is None:
        call()
        return
    with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
        call()


def test_under_jit_shapes_are_checked_and_values_are_not():
    def check(images):
        assert checks.concrete(images) is None
        checks.check_images('images', images)
        return images

    jax.eval_shape(check, _with(7.0))
    for wrong in (IMAGES[:0], IMAGES.astype(int), IMAGES[0, 0, 0]):
        with pytest.raises(ValueError, match='allowed'):
            jax.eval_shape(check, wrong)
    np.testing.assert_array_equal(checks.concrete([1, 2.0]), [1, 2])
