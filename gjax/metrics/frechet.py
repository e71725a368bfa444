"""Distances between sets of images by the features of a classifier, and scores of its predictions."""

import numpy as np

from gjax.checks import check_shape


def gaussian_statistics(features) -> tuple[np.ndarray, np.ndarray]:
    """Mean [F] and covariance [F, F] (divided by N - 1) of features [N, F], in float64; ValueError for fewer than two."""
    features = np.asarray(features, np.float64)
    check_shape('features', features, (None, None), '[N, F] with N >= 2')
    if len(features) < 2:
        raise ValueError(f'the shape of features is {features.shape}; allowed: [N, F] with N >= 2')
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def frechet_distance(first, second) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)): the squared 2-Wasserstein distance of two Gaussians (Heusel et al. 2017,
    Eq. 6), >= 0.

    It is biased upwards on few samples: compare only distances of the same extractor and the same numbers of samples.

    Args:
      first, second: (mean [F], covariance [F, F]), as of `gaussian_statistics`; ValueError for other shapes.
    """
    (mean, covariance), (other_mean, other_covariance) = first, second
    check_shape('the first mean', mean, (None,), '[F]')
    check_shape('the second mean', other_mean, mean.shape)
    check_shape('the first covariance', covariance, mean.shape * 2)
    check_shape('the second covariance', other_covariance, mean.shape * 2)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    # C1 C2 and C1^(1/2) C2 C1^(1/2) have the same eigenvalues; the second is symmetric, so singular ones stay harmless.
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other_covariance @ root), 0.0)).sum()
    distance = ((mean - other_mean) ** 2).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * cross
    return float(max(distance, 0.0))


def inception_score(probabilities) -> float:
    """exp(mean KL(p(y|x) || p(y))) of class probabilities [N, K]: from 1 to K (Salimans et al. 2016), in one split.

    Raises:
      ValueError: another shape, no rows, or rows that are no probabilities: negative, or not of sum 1.
    """
    probabilities = np.asarray(probabilities, np.float64)
    check_shape('probabilities', probabilities, (None, None), '[N, K] with N >= 1')
    if not len(probabilities):
        raise ValueError('probabilities have no rows; allowed: [N, K] with N >= 1')
    sums = probabilities.sum(axis=1)
    if (probabilities < 0).any() or (np.abs(sums - 1) > 1e-3).any():
        found = f'{probabilities.min():.4g}, with sums {sums.min():.4g}..{sums.max():.4g}'
        raise ValueError(f'probabilities are as low as {found}; allowed: >= 0, each row of sum 1')
    marginal = probabilities.mean(axis=0)
    with np.errstate(divide='ignore', invalid='ignore'):
        terms = probabilities * (np.log(probabilities) - np.log(marginal))
    return float(np.exp(np.where(probabilities > 0, terms, 0.0).sum(axis=1).mean()))


def linear_probe_accuracy(train_codes, train_labels, test_codes, test_labels) -> float:
    """The test accuracy of logistic regression on standardised codes (scikit-learn's, C = 1).

    Args:
      train_codes, test_codes: [N, Z] and [M, Z].
      train_labels, test_labels: [N] and [M]; ValueError for other shapes.
    """
    check_shape('train_codes', train_codes, (None, None), '[N, Z]')
    check_shape('test_codes', test_codes, (None, train_codes.shape[1]), f'[M, {train_codes.shape[1]}]')
    check_shape('train_labels', train_labels, train_codes.shape[:1], f'{train_codes.shape[:1]}, one an example')
    check_shape('test_labels', test_labels, test_codes.shape[:1], f'{test_codes.shape[:1]}, one an example')
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    return float(probe.fit(train_codes, train_labels).score(test_codes, test_labels))
