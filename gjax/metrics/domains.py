"""How far apart domains lie, by their embeddings."""

import numpy as np

from gjax.metrics.frechet import linear_probe_accuracy


def told_apart(train, test) -> dict[str, float]:
    """How well a linear classifier tells domains apart.

    Args:
      train, test: a list each, of embeddings [N, D] by domain. Of each domain as many count as the smallest has.

    Returns:
      domain_accuracy: of a classifier fitted on `train`, on `test`, of which every domain is the same share; of D domains
      that it cannot tell apart 1 / D. proxy_a_distance, of two domains: 2 (1 - 2 error) (Ben-David et al. 2007).
    """
    sets = []
    for parts in (train, test):
        count = min(map(len, parts))
        rows = [np.linspace(0, len(part) - 1, count).round().astype(int) for part in parts]
        sets.append(np.concatenate([part[own] for part, own in zip(parts, rows, strict=True)]))
        sets.append(np.repeat(np.arange(len(parts)), count))
    accuracy = linear_probe_accuracy(*sets)
    found = {'domain_accuracy': accuracy}
    return found | {'proxy_a_distance': 2 * (2 * accuracy - 1)} if len(train) == 2 else found
