"""Agreement of two rankings, and how well a score ranks."""

import numpy as np


def spearman(first, second) -> float:
    """Spearman's rank correlation of two arrays [N], in [-1, 1]; 0 where either is constant (scipy leaves it undefined)."""
    from scipy import stats  # takes half a second to import

    first, second = np.asarray(first), np.asarray(second)
    if (first == first[0]).all() or (second == second[0]).all():
        return 0.0
    return float(stats.spearmanr(first, second).statistic)


def auroc(negatives, positives) -> float:
    """The probability that a score of `positives` [M] is above one of `negatives` [N], ties counted half; in [0, 1]."""
    from sklearn.metrics import roc_auc_score  # takes a second to import

    scores = np.concatenate([np.asarray(negatives), np.asarray(positives)])
    return float(roc_auc_score(np.repeat([0, 1], [len(negatives), len(positives)]), scores))
