"""Agreement of two rankings, and how well a score ranks."""

import numpy as np

from gjax.checks import check_shape, check_shapes


def spearman(first, second) -> float:
    """Spearman's rank correlation of two arrays [N], in [-1, 1]; 0 where either is constant (scipy leaves it undefined).

    Raises:
      ValueError: arrays of another rank, of different lengths, or empty.
    """
    from scipy import stats  # takes half a second to import

    first, second = np.asarray(first), np.asarray(second)
    check_shapes((None,), '[N]', first=first, second=second)
    if not first.size:
        raise ValueError('first and second are empty; allowed: at least one value')
    if (first == first[0]).all() or (second == second[0]).all():
        return 0.0
    return float(stats.spearmanr(first, second).statistic)


def auroc(negatives, positives) -> float:
    """The probability that a score of `positives` [M] is above one of `negatives` [N], ties counted half; in [0, 1].

    Raises:
      ValueError: arrays of another rank, empty, or with a score that is not finite.
    """
    from sklearn.metrics import roc_auc_score  # takes a second to import

    negatives, positives = np.asarray(negatives), np.asarray(positives)
    for name, scores in (('negatives', negatives), ('positives', positives)):
        check_shape(name, scores, (None,), '[N] with N >= 1')
        if not scores.size or not np.isfinite(scores).all():
            raise ValueError(f'{name} are {"empty" if not scores.size else "not all finite"}; allowed: finite scores, [N]')
    scores = np.concatenate([negatives, positives])
    return float(roc_auc_score(np.repeat([0, 1], [len(negatives), len(positives)]), scores))
