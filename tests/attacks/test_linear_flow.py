"""The linear flow's closed forms against scipy, brute force in two dimensions, and gradient methods."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize, stats

from gjax.attacks import linear_flow

RNG = np.random.default_rng(0)


def _covariance(size, seed=0):
    factor = np.random.default_rng(seed).normal(size=(size, size))
    return jnp.asarray(factor @ factor.T / size + 0.1 * np.eye(size), jnp.float32)


def _points(covariance, count=6, mean=None):
    mean = jnp.zeros(len(covariance)) if mean is None else mean
    return jnp.asarray(RNG.multivariate_normal(np.asarray(mean), np.asarray(covariance), count), jnp.float32)


def test_likelihood_is_scipys():
    covariance, mean = _covariance(5), jnp.asarray(RNG.normal(size=5), jnp.float32)
    points = _points(covariance, mean=mean)
    expected = -stats.multivariate_normal(np.asarray(mean), np.asarray(covariance)).logpdf(np.asarray(points))
    np.testing.assert_allclose(linear_flow.gaussian_nll(points, mean, covariance), expected, rtol=1e-4)


@pytest.mark.parametrize('eps', [0.05, 0.5, 3.0])
def test_sample_perturbation_is_the_best_of_all_directions(eps):
    covariance, mean = _covariance(2, 3), jnp.asarray([0.3, -0.2])
    points = _points(covariance, mean=mean)
    delta = linear_flow.sample_perturbation(points, mean, covariance, eps)
    np.testing.assert_allclose(jnp.linalg.norm(delta, axis=1), eps, rtol=1e-5)
    reached = linear_flow.gaussian_nll(points + delta, mean, covariance)
    angles = np.linspace(0, 2 * np.pi, 20_001)
    circle = jnp.asarray(eps * np.stack([np.cos(angles), np.sin(angles)], 1), jnp.float32)
    best = [linear_flow.gaussian_nll(point[None] + circle, mean, covariance).max() for point in points]
    np.testing.assert_allclose(reached, best, rtol=1e-5)


def test_sample_perturbation_takes_a_radius_for_each_point():
    covariance, eps = _covariance(4), jnp.asarray([0.0, 0.1, 1.0])
    delta = linear_flow.sample_perturbation(_points(covariance, 3), jnp.zeros(4), covariance, eps)
    np.testing.assert_allclose(jnp.linalg.norm(delta, axis=1), eps, rtol=1e-5)


@pytest.mark.parametrize(('point', 'eps'), [([0.0, 1.0, 0.0], 2.0), ([0.0, 0.0, 0.0], 0.5), ([1e-6, 1.0, 1.0], 5.0)])
def test_the_hard_case(point, eps):
    """A point orthogonal to the least variance: the length is made up along it, at no loss against a search."""
    variances = np.array([0.2, 1.0, 2.0])
    points, covariance = jnp.asarray([point], jnp.float32), jnp.diag(jnp.asarray(variances, jnp.float32))
    delta = linear_flow.sample_perturbation(points, jnp.zeros(3), covariance, eps)
    assert float(jnp.linalg.norm(delta)) == pytest.approx(eps, rel=1e-5)

    def energy(direction):
        moved = np.asarray(point) + eps * direction / np.linalg.norm(direction)
        return -0.5 * np.sum(moved**2 / variances)

    best = min(optimize.minimize(energy, start).fun for start in np.random.default_rng(1).normal(size=(20, 3)))
    reached = 0.5 * np.sum((np.asarray(points) + np.asarray(delta)) ** 2 / variances)
    assert reached == pytest.approx(-best, rel=1e-4)


def test_equal_variances_push_away_from_the_mean():
    points = _points(jnp.eye(4))
    delta = linear_flow.sample_perturbation(points, jnp.zeros(4), jnp.eye(4), 0.7)
    away = 0.7 * points / jnp.linalg.norm(points, axis=1, keepdims=True)
    np.testing.assert_allclose(delta, away, atol=1e-4)


def test_gradient_ascent_reaches_the_closed_form_and_noise_does_not_pass_it():
    covariance = _covariance(12, 5)
    points, mean, eps = _points(covariance, 16), jnp.zeros(12), 0.5

    def nll(points):
        return linear_flow.gaussian_nll(points, mean, covariance)

    delta = 1e-3 * jax.random.normal(jax.random.key(0), points.shape)
    for _ in range(200):
        gradient = jax.grad(lambda delta: nll(points + delta).sum())(delta)
        delta += 0.1 * gradient / jnp.linalg.norm(gradient, axis=1, keepdims=True)
        delta *= jnp.minimum(1, eps / jnp.linalg.norm(delta, axis=1, keepdims=True))
    best = nll(points + linear_flow.sample_perturbation(points, mean, covariance, eps)) - nll(points)
    risen = nll(points + delta) - nll(points)
    assert np.all(risen >= 0.99 * best)
    assert np.all(risen <= best * (1 + 1e-4))
    noise = jax.random.normal(jax.random.key(1), (100, *points.shape))
    noise *= eps / jnp.linalg.norm(noise, axis=2, keepdims=True)
    assert np.all(np.stack([nll(points + each) for each in noise]).max(axis=0) < nll(points) + best)


def test_universal_perturbation_is_the_least_variance():
    covariance = _covariance(5, 7)
    points = _points(covariance, 400)
    points -= points.mean(axis=0, keepdims=True)
    best = linear_flow.universal_perturbation(covariance, 0.3)

    def increase(delta):
        moved = linear_flow.gaussian_nll(points + jnp.asarray(delta, jnp.float32)[None], jnp.zeros(5), covariance)
        return float(jnp.mean(moved - linear_flow.gaussian_nll(points, jnp.zeros(5), covariance)))

    assert float(jnp.linalg.norm(best)) == pytest.approx(0.3, rel=1e-5)
    assert increase(best) == pytest.approx(float(linear_flow.universal_increase(covariance, 0.3)), rel=1e-3)
    others = RNG.normal(size=(100, 5))
    assert all(increase(0.3 * other / np.linalg.norm(other)) < increase(best) for other in others)


def test_maximum_likelihood_is_where_the_likelihood_has_no_slope():
    points = _points(_covariance(3, 2), 50, jnp.asarray([1.0, 2.0, 3.0]))
    mean, covariance = linear_flow.maximum_likelihood(points)

    def nll(mean, covariance):
        return linear_flow.gaussian_nll(points, mean, covariance).mean()

    for slope in jax.grad(nll, argnums=(0, 1))(mean, covariance):
        np.testing.assert_allclose(slope, 0, atol=2e-4)


@pytest.mark.parametrize(('volume', 'level'), [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0), (3.0, 3.0), (7.0, 13 / 3)])
def test_water_level(volume, level):
    assert float(linear_flow.water_level(jnp.asarray([3.0, 1.0, 2.0]), volume)) == pytest.approx(level)


@pytest.mark.parametrize('eps', [0.2, 0.8, 2.0])
def test_robust_covariance_is_a_solvers(eps):
    """A generic solver's Q for the dual, max of log det(K + Q); there is no gap between that and the worst case of ours."""
    covariance = np.asarray(_covariance(3, 4), np.float64)

    def added(entries):
        factor = entries.reshape(3, 3)
        return eps**2 * factor @ factor.T / np.sum(factor**2)

    def dual(entries):
        return -np.linalg.slogdet(covariance + added(entries))[1]

    starts = np.random.default_rng(0).normal(size=(5, 9))
    found = min((optimize.minimize(dual, start) for start in starts), key=lambda result: result.fun)
    ours = np.asarray(linear_flow.robust_covariance(jnp.asarray(covariance, jnp.float32), eps), np.float64)
    np.testing.assert_allclose(ours, covariance + added(found.x), atol=2e-3)

    def worst(fitted):
        least = np.linalg.eigvalsh(fitted)[0]
        return np.trace(np.linalg.solve(fitted, covariance)) + eps**2 / least + np.linalg.slogdet(fitted)[1]

    assert worst(ours) == pytest.approx(3 - found.fun, rel=1e-5)
    assert worst(ours) < min(worst(covariance), worst(covariance + eps**2 / 3 * np.eye(3)) + 1e-9)


def test_training_against_universal_perturbations_tends_to_it():
    """Gradient descent on the mean NLL and the worst randomised common perturbation of each step's flow."""
    covariance, eps = _covariance(3, 4), 0.8

    def loss(factor):
        fitted = factor @ factor.T
        worst = eps**2 / jnp.linalg.eigvalsh(fitted)[0]
        return jnp.trace(jnp.linalg.solve(fitted, covariance)) + worst + jnp.linalg.slogdet(fitted)[1]

    optimizer = optax.adam(optax.exponential_decay(0.02, 1000, 0.1))

    def step(carry, _):
        factor, state = carry
        value, gradient = jax.value_and_grad(loss)(factor)
        with jax.numpy_dtype_promotion('standard'):  # optax
            update, state = optimizer.update(gradient, state)
        return (factor + update, state), value

    start = jnp.linalg.cholesky(covariance)
    (factor, _), values = jax.lax.scan(step, (start, optimizer.init(start)), None, length=4000)
    target = linear_flow.robust_covariance(covariance, eps)
    np.testing.assert_allclose(factor @ factor.T, target, atol=0.02 * float(jnp.abs(target).max()))
    assert values[-1] < values[0]


def test_the_trade_off():
    covariance, eps = _covariance(8, 1), 0.7
    clean, robust = np.asarray([linear_flow.trade_off(covariance, train, eps) for train in (0.0, 0.2, 0.4, 0.7, 1.2)]).T
    assert np.all(np.diff(clean) > 0)
    assert np.all(np.diff(robust[:4]) < 0)
    assert robust[4] > robust[3]
    points = _points(covariance, 4000)
    points -= points.mean(axis=0, keepdims=True)
    own = points.T @ points / len(points)
    fitted = linear_flow.robust_covariance(own, 0.4)
    expected = linear_flow.gaussian_nll(points, jnp.zeros(8), fitted).mean()
    assert float(linear_flow.trade_off(own, 0.4, eps)[0]) == pytest.approx(float(expected), rel=1e-4)
