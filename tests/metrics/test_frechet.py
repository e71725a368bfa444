"""Fréchet distance and inception score against closed forms and scipy, and the linear probe."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from gjax import metrics


def test_one_dimensional_gaussians_have_the_closed_form():
    first, second = (np.asarray([1.0]), np.asarray([[4.0]])), (np.asarray([-2.0]), np.asarray([[0.25]]))
    assert metrics.frechet_distance(first, second) == pytest.approx(3.0**2 + (2 - 0.5) ** 2)


def test_it_is_scipys_matrix_root_and_symmetric():
    rng = np.random.default_rng(0)
    sets = [metrics.gaussian_statistics(rng.normal(size=(200, 8)) @ rng.normal(size=(8, 8)) + shift) for shift in (0, 1)]
    (mean, covariance), (other_mean, other_covariance) = sets
    root = sqrtm(covariance @ other_covariance).real
    expected = ((mean - other_mean) ** 2).sum() + np.trace(covariance + other_covariance - 2 * root)
    assert metrics.frechet_distance(*sets) == pytest.approx(expected, rel=1e-6)
    assert metrics.frechet_distance(*reversed(sets)) == pytest.approx(expected, rel=1e-6)
    assert metrics.frechet_distance(sets[0], sets[0]) == pytest.approx(0, abs=1e-6)


def test_singular_covariances_are_no_problem():
    rng = np.random.default_rng(1)
    few = metrics.gaussian_statistics(rng.normal(size=(5, 30)))
    constant = metrics.gaussian_statistics(np.zeros((5, 30)))
    assert metrics.frechet_distance(few, constant) == pytest.approx((few[0] ** 2).sum() + np.trace(few[1]))
    with pytest.raises(ValueError, match=r'the shape of features is \(1, 30\)'):
        metrics.gaussian_statistics(np.zeros((1, 30)))


def test_inception_score_runs_from_one_to_the_number_of_classes():
    assert metrics.inception_score(np.full((10, 4), 0.25)) == pytest.approx(1)
    assert metrics.inception_score(np.eye(4)[np.arange(8) % 4]) == pytest.approx(4)
    assert metrics.inception_score(np.eye(4)[[0] * 8]) == pytest.approx(1)


def test_a_linear_probe_reads_what_is_linear():
    rng = np.random.default_rng(2)
    labels = np.arange(300) % 3
    codes = np.eye(3)[labels] * 4 + rng.normal(size=(300, 3))
    assert metrics.linear_probe_accuracy(codes[:200], labels[:200], codes[200:], labels[200:]) > 0.9
    noise = rng.normal(size=(300, 3))
    assert metrics.linear_probe_accuracy(noise[:200], labels[:200], noise[200:], labels[200:]) < 0.6
