"""Means over an evaluation set that arrives in batches padded to one size."""

import numpy as np


class MaskedMean:
    """Streaming means of per-example results; rows where the mask is False (padding) do not count.

    `add` takes a dict of arrays [B] or [B, ...] and a bool mask [B]; `result` gives one float, or one list, a name.
    """

    def __init__(self):
        self._sums = {}
        self._count = 0

    def add(self, results, mask):
        mask = np.asarray(mask, bool)
        self._count += int(mask.sum())
        for name, values in results.items():
            self._sums[name] = self._sums.get(name, 0.0) + np.asarray(values)[mask].astype(np.float64).sum(axis=0)

    def result(self):
        if not self._count:
            raise ValueError('the mean of no examples is undefined: the evaluation set is empty')
        return {name: np.asarray(total / self._count).tolist() for name, total in self._sums.items()}
