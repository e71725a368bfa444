"""How far apart domains lie, by their embeddings."""

import numpy as np

from gjax.checks import check_shape
from gjax.metrics.frechet import linear_probe_accuracy


def told_apart(train, test) -> dict[str, float]:
    """How well a linear classifier tells domains apart.

    Args:
      train, test: a list each, of embeddings [N, D] by domain. Of each domain as many count as the smallest has.

    Returns:
      domain_accuracy: of a classifier fitted on `train`, on `test`, of which every domain is the same share; of D domains
      that it cannot tell apart 1 / D. proxy_a_distance, of two domains: 2 (1 - 2 error) (Ben-David et al. 2007).

    Raises:
      ValueError: fewer than two domains, another number of them in `test`, or embeddings of another shape.
    """
    if len(train) < 2 or len(test) != len(train):
        raise ValueError(f'train has {len(train)} domains, test {len(test)}; allowed: the same number, at least 2')
    for name, parts in (('train', train), ('test', test)):
        for i, part in enumerate(parts):
            check_shape(f'{name}[{i}]', part, (None, train[0].shape[-1]), f'[N, {train[0].shape[-1]}] with N >= 1')
            if not len(part):
                raise ValueError(f'{name}[{i}] has no examples; allowed: at least one')
    sets = []
    for parts in (train, test):
        count = min(map(len, parts))
        # Drawn, for of every k-th example whole classes may be missing; always the same ones.
        rows = [np.sort(np.random.default_rng(0).permutation(len(part))[:count]) for part in parts]
        sets.append(np.concatenate([part[own] for part, own in zip(parts, rows, strict=True)]))
        sets.append(np.repeat(np.arange(len(parts)), count))
    accuracy = linear_probe_accuracy(*sets)
    found = {'domain_accuracy': accuracy}
    return found | {'proxy_a_distance': 2 * (2 * accuracy - 1)} if len(train) == 2 else found
