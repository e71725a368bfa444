"""Square: sizes and shapes of the squares by hand and by brute force; ball, bounds and progress on a linear model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import attacks
from gjax.attacks import square_search
from gjax.losses import margin

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(100, 4)).astype(np.float32)
IMAGES = RNG.uniform(0, 1, (7, 10, 5, 2)).astype(np.float32)


def _model(images):
    return images.reshape(len(images), -1) @ jnp.asarray(WEIGHTS)


LABELS = np.asarray(_model(IMAGES)).argmax(axis=1)


def test_sides_by_hand():
    assert [square_search.square_side(i, 32, 32, 'linf') for i in range(10)] == [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]
    assert [square_search.square_side(i, 32, 32, 'l2') for i in range(10)] == [29, 21, 15, 11, 7, 5, 5, 3, 3, 3]
    assert square_search.square_side(0, 10, 5, 'linf') == 5
    assert square_search.HALVINGS == (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def _rectangles(height, width):
    """The k-th rectangle reaches k pixels from the centre to each side, and is 1 / (k + 1)^2 high."""
    values = np.zeros((height, width))
    for k in range(max(height, width) // 2 + 1):
        for i in range(height):
            for j in range(width):
                values[i, j] += (abs(i - height // 2) <= k and abs(j - width // 2) <= k) / (k + 1) ** 2
    return values


@pytest.mark.parametrize('side', [1, 2, 3, 7, 8])
def test_bumps_are_sums_of_rectangles(side):
    half = side // 2
    lower = _rectangles(side - half, side)
    expected = np.zeros((side, side))
    expected[half:] = -lower / np.linalg.norm(lower)
    if half:
        upper = _rectangles(half, side)
        expected[:half] = upper / np.linalg.norm(upper)
    np.testing.assert_allclose(square_search.two_bumps(side), expected / np.linalg.norm(expected), atol=1e-6)


@pytest.mark.parametrize(('norm', 'dual'), [('linf', 1), ('l2', 2)])
def test_margins_fall_within_ball_and_bounds(norm, dual):
    """On a linear model whose margins cannot fall by more than eps times a dual norm; the search gets a third of the way. An
    image depends on its own key alone, so that copies in other rows are given the same.
    """
    images = np.concatenate([IMAGES, IMAGES[::-1]])
    labels = np.concatenate([LABELS, LABELS[::-1]])
    labels[1] = labels[-2] = (labels[1] + 1) % 4  # wrong from the start
    eps = np.asarray([0, 1, 1, 2, 3, 4, 5], np.float32) * (1e-3 if norm == 'linf' else 1e-2)
    eps = np.concatenate([eps, eps[::-1]])
    keys = jax.random.split(jax.random.key(0), 7)
    keys = jnp.concatenate([keys, keys[::-1]])
    attack = jax.jit(lambda *a: attacks.square(_model, *a[:3], rng=a[3], norm=norm, queries=200))
    found = np.asarray(attack(images, labels, eps, keys))
    np.testing.assert_array_equal(found[7:], found[:7][::-1])
    np.testing.assert_array_equal(found[:2], images[:2])
    delta = (found - images).reshape(14, -1)
    sizes = np.abs(delta).max(axis=1) if norm == 'linf' else np.linalg.norm(delta, axis=1)
    assert (sizes <= eps * (1 + 1e-4)).all()
    assert found.min() >= 0
    assert found.max() <= 1
    before, after = (np.asarray(margin(_model(x), labels)) for x in (images, found))
    normals = np.linalg.norm(WEIGHTS[:, :, None] - WEIGHTS[:, None], dual, axis=0).max()
    fell = (before - after)[2:7] / (normals * eps[2:7])
    assert (fell > 0.33).all()
    assert (fell <= 1).all()


def test_images_without_two_axes_are_refused():
    options = {'rng': jax.random.key(0)}
    with pytest.raises(ValueError, match=r'^the shape of images is \(7, 100\); allowed: \[B, H, W, C\]$'):
        attacks.square(_model, IMAGES.reshape(7, -1), LABELS, 0.1, **options)
    with pytest.raises(ValueError, match=r'^the shape of images is \(7, 4, 5, 2\); allowed for Square in l2'):
        attacks.square(_model, IMAGES[:, :4], LABELS, 0.1, norm='l2', **options)
    with pytest.raises(ValueError, match=r'^queries is 0; allowed: integers >= 1$'):
        attacks.square(_model, IMAGES, LABELS, 0.1, queries=0, **options)
