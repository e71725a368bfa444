"""Distances between sets of images by the features of a classifier, and scores of its predictions."""

import numpy as np


def gaussian_statistics(features) -> tuple[np.ndarray, np.ndarray]:
    """Mean [F] and covariance [F, F] (divided by N - 1) of features [N, F], in float64; ValueError for fewer than two."""
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f'features are {features.shape}; allowed: [N, F] with N >= 2')
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def frechet_distance(first, second) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)): the squared 2-Wasserstein distance of two Gaussians (Heusel et al. 2017,
    Eq. 6), >= 0.

    It is biased upwards on few samples: compare only distances of the same extractor and the same numbers of samples.

    Args:
      first, second: (mean [F], covariance [F, F]), as of `gaussian_statistics`.
    """
    (mean, covariance), (other_mean, other_covariance) = first, second
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    # C1 C2 and C1^(1/2) C2 C1^(1/2) have the same eigenvalues; the second is symmetric, so singular ones stay harmless.
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other_covariance @ root), 0.0)).sum()
    distance = ((mean - other_mean) ** 2).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * cross
    return float(max(distance, 0.0))


def inception_score(probabilities) -> float:
    """exp(mean KL(p(y|x) || p(y))) of class probabilities [N, K]: from 1 to K (Salimans et al. 2016), in one split."""
    probabilities = np.asarray(probabilities, np.float64)
    marginal = probabilities.mean(axis=0)
    with np.errstate(divide='ignore', invalid='ignore'):
        terms = probabilities * (np.log(probabilities) - np.log(marginal))
    return float(np.exp(np.where(probabilities > 0, terms, 0.0).sum(axis=1).mean()))


def linear_probe_accuracy(train_codes, train_labels, test_codes, test_labels) -> float:
    """The test accuracy of logistic regression on standardised codes [N, Z] (scikit-learn's, C = 1)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    return float(probe.fit(train_codes, train_labels).score(test_codes, test_labels))
