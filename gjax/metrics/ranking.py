"""Agreement of two rankings."""

import numpy as np
from scipy import stats


def spearman(first, second) -> float:
    """Spearman's rank correlation of two arrays [N], in [-1, 1]; 0 where either is constant (scipy leaves it undefined)."""
    first, second = np.asarray(first), np.asarray(second)
    if (first == first[0]).all() or (second == second[0]).all():
        return 0.0
    return float(stats.spearmanr(first, second).statistic)
