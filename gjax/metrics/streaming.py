"""Means over an evaluation set that arrives in batches padded to one size."""

import numpy as np

from gjax.checks import check_shape


class MaskedMean:
    """Streaming means of per-example results; rows where the mask is False (padding) do not count.

    `add` takes a dict of arrays [B] or [B, ...] and a bool mask [B]; it raises ValueError for other shapes, for a mask of
    another dtype and, from the second batch on, for other names. `result` gives one float, or one list, a name.
    """

    def __init__(self):
        self._sums = {}
        self._count = 0

    def add(self, results, mask):
        mask = np.asarray(mask)
        check_shape('mask', mask, (None,), '[B]')
        if mask.dtype != bool:
            raise ValueError(f'the dtype of mask is {mask.dtype}; allowed: bool')
        if self._sums and results.keys() != self._sums.keys():
            raise ValueError(f'results are of {", ".join(results)}; allowed: {", ".join(self._sums)}, as in the first batch')
        for name, values in results.items():
            check_shape(name, np.asarray(values), (len(mask), ...), f'[{len(mask)}, ...], one an entry of the mask')
        self._count += int(mask.sum())
        for name, values in results.items():
            self._sums[name] = self._sums.get(name, 0.0) + np.asarray(values)[mask].astype(np.float64).sum(axis=0)

    def result(self):
        if not self._count:
            raise ValueError('the mean of no examples is undefined: the evaluation set is empty')
        return {name: np.asarray(total / self._count).tolist() for name, total in self._sums.items()}
