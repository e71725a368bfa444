"""Streaming means ignore padding; ranking counts pairs, ties by half, and is defined for constants."""

import numpy as np
import pytest

from gjax.metrics import MaskedMean, auroc, spearman


def test_padding_never_counts():
    mean = MaskedMean()
    mean.add({'a': np.asarray([1.0, 0.0]), 'curve': np.asarray([[1, 0], [0, 0]])}, [True, True])
    mean.add({'a': np.asarray([1.0, 99.0]), 'curve': np.asarray([[1, 1], [9, 9]])}, [True, False])
    result = mean.result()
    assert result['a'] == pytest.approx(2 / 3)
    assert result['curve'] == pytest.approx([2 / 3, 1 / 3])


def test_no_examples_is_an_error():
    with pytest.raises(ValueError, match='empty'):
        MaskedMean().result()


def test_spearman():
    assert spearman([1, 2, 3, 4], [1, 8, 27, 64]) == pytest.approx(1.0)
    assert spearman([1, 1, 1], [1, 2, 3]) == 0.0
    assert spearman([1, 2, 3], [np.inf] * 3) == 0.0


def test_auroc_counts_pairs():
    rng = np.random.default_rng(0)
    negatives, positives = rng.integers(0, 6, 40), rng.integers(2, 8, 30)
    wins = (positives[:, None] > negatives[None]) + 0.5 * (positives[:, None] == negatives[None])
    np.testing.assert_allclose(auroc(negatives, positives), wins.mean())
