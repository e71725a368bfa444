"""FAB: projections onto hyperplanes within a box against SciPy, and the distance to known boundaries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from gjax import attacks
from gjax.attacks.fast_boundary import to_hyperplane
from tests.linear import binary_model

RNG = np.random.default_rng(0)


def _planes(count=12, size=7):
    """Points, normals and values: planes near and far, missed by the box, with normals that are partly or wholly zero."""
    points, normals = RNG.uniform(0, 1, (count, size)), RNG.normal(size=(count, size))
    points[:3] = points[:3].round()  # in corners
    normals[3, :4] = 0
    normals[4] *= 1e-6
    inside = RNG.uniform(0, 1, (count, size))
    values = np.sum(normals * (points - inside), axis=1)  # so that each plane meets the box
    values[5] *= 1e-3
    values[6] = 0
    values[7], values[8] = 50, -50
    normals[9] = 0
    return [a.astype(np.float32) for a in (points, normals, values)]


def _by_scipy(point, normal, value, norm):
    """The shortest delta by linear or quadratic programming in float64; where there is none, the corner."""
    low, high = -point, 1 - point
    corner = np.where(np.sign(value) * normal > 0, low, np.where(normal == 0, 0, high))
    if abs(value) >= abs(corner @ normal):
        return corner
    scale = np.abs(normal).max()
    normal, value = normal / scale, value / scale
    if norm == 'linf':  # min t with |delta_i| <= t
        size = len(point)
        one = np.ones((size, 1))
        rows = np.block([[np.eye(size), -one], [-np.eye(size), -one]])
        bounds = [*zip(low, high, strict=True), (0, None)]
        cost, plane = np.eye(size + 1)[-1], np.append(normal, 0)[None]
        return optimize.linprog(cost, rows, np.zeros(2 * size), plane, [-value], bounds).x[:-1]
    plane = {'type': 'eq', 'fun': lambda d: d @ normal + value, 'jac': lambda d: normal}
    options = {'bounds': list(zip(low, high, strict=True)), 'constraints': [plane], 'options': {'ftol': 1e-14}}
    start = np.zeros(len(point))
    return optimize.minimize(lambda d: d @ d, start, jac=lambda d: 2 * d, method='SLSQP', **options).x


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_projections_are_scipys(norm):
    points, normals, values = _planes()
    deltas = np.asarray(jax.jit(lambda *a: to_hyperplane(*a, norm))(points, normals, values), np.float64)
    order = np.inf if norm == 'linf' else 2
    for i, (point, normal, value) in enumerate(zip(points, normals, values, strict=True)):
        expected = _by_scipy(*(np.asarray(a, np.float64) for a in (point, normal, value)), norm)
        if norm == 'l2':  # where the solution is unique
            np.testing.assert_allclose(deltas[i], expected, atol=2e-4)
        assert np.linalg.norm(deltas[i], order) == pytest.approx(np.linalg.norm(expected, order), abs=1e-4)
        assert normal @ deltas[i] == pytest.approx(normal @ expected, abs=1e-5 * max(1.0, float(np.abs(normal).max())))
        assert (point + deltas[i] >= -1e-7).all()
        assert (point + deltas[i] <= 1 + 1e-7).all()
        np.testing.assert_array_equal(deltas[i][normal == 0], 0)


@pytest.mark.parametrize(('norm', 'attack'), [('linf', attacks.fab), ('l2', attacks.fab_targeted)])
def test_the_boundary_of_a_linear_model_is_found_at_its_distance(norm, attack):
    w, b, model = binary_model(RNG, 16)
    images = RNG.uniform(0.4, 0.6, (8, 4, 4, 1)).astype(np.float32)
    labels = np.asarray(model(images)).argmax(axis=1)
    labels[0] = 1 - labels[0]
    dual = np.abs(w).sum() if norm == 'linf' else np.linalg.norm(w)
    distance = np.abs(images.reshape(8, -1) @ w + b) / dual
    eps = (distance * np.where(np.arange(8) % 2, 1.02, 0.98)).astype(np.float32)  # only odd images can fall
    options = {'rng': jax.random.key(0), 'norm': norm, 'steps': 30}
    found = jax.jit(lambda *a: attack(model, *a, **options))(images, labels, eps)
    delta = (np.asarray(found) - images).reshape(8, -1)
    sizes = np.abs(delta).max(axis=1) if norm == 'linf' else np.linalg.norm(delta, axis=1)
    np.testing.assert_allclose(sizes[1::2], distance[1::2], rtol=0.02)
    np.testing.assert_array_equal(sizes[::2], 0)
    assert (np.asarray(model(found)).argmax(axis=1) != labels)[1::2].all()


def test_untargeted_steps_go_to_the_nearest_of_several_boundaries():
    """The boundaries of a linear model of five classes: the distance is the least over the other classes."""
    weights = RNG.normal(size=(16, 5)).astype(np.float32)
    images = RNG.uniform(0.45, 0.55, (6, 4, 4, 1)).astype(np.float32)
    logits = images.reshape(6, -1) @ weights
    labels = logits.argmax(axis=1)
    normals = weights.T[None] - weights.T[labels][:, None]
    distances = (logits.max(axis=1)[:, None] - logits) / np.maximum(np.abs(normals).sum(axis=2), 1e-9)
    distances[np.arange(6), labels] = np.inf

    def model(x):
        return x.reshape(len(x), -1) @ jnp.asarray(weights)

    found = jax.jit(lambda x, y: attacks.fab(model, x, y, 1.0, rng=jax.random.key(0), steps=30))(images, labels)
    np.testing.assert_allclose(np.abs(np.asarray(found) - images).max(axis=(1, 2, 3)), distances.min(axis=1), rtol=0.03)
