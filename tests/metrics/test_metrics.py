"""Streaming means ignore padding; ranking counts pairs, ties by half, and is defined for constants."""

import numpy as np
import pytest

from gjax import metrics
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


def _batch(**results):
    mean = MaskedMean()
    mean.add({'a': np.ones(2)}, np.ones(2, bool))
    mean.add(results, np.ones(2, bool))


EYE = np.eye(2)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (
            lambda: MaskedMean().add({'a': np.ones((1, 2))}, np.ones(2, bool)),
            r'the shape of a is \(1, 2\); allowed: \[2, ...\]',
        ),
        (
            lambda: MaskedMean().add({'a': np.ones(2)}, np.ones((2, 1), bool)),
            r'the shape of mask is \(2, 1\); allowed: \[B\]',
        ),
        (lambda: MaskedMean().add({'a': np.ones(2)}, np.ones(2)), 'the dtype of mask is float64; allowed: bool'),
        (lambda: _batch(b=np.ones(2)), 'results are of b; allowed: a, as in the first batch'),
        (lambda: spearman([1, 2], [1]), r'the shape of second is \(1,\); allowed: \(2,\), that of first'),
        (lambda: spearman(EYE, EYE), r'the shape of first is \(2, 2\); allowed: \[N\]'),
        (lambda: spearman([], []), 'first and second are empty; allowed: at least one value'),
        (lambda: auroc([], [1.0]), 'negatives are empty; allowed: finite scores'),
        (lambda: auroc([0.0], [np.nan]), 'positives are not all finite; allowed: finite scores'),
        (lambda: auroc([0.0], [[1.0]]), r'the shape of positives is \(1, 1\); allowed: \[N\] with N >= 1'),
        (lambda: metrics.inception_score(EYE[0]), r'the shape of probabilities is \(2,\); allowed: \[N, K\]'),
        (
            lambda: metrics.inception_score(3 * EYE),
            r'probabilities are as low as 0, with sums 3..3; allowed: >= 0, each row',
        ),
        (lambda: metrics.inception_score(EYE[:0]), 'probabilities have no rows; allowed'),
        (
            lambda: metrics.frechet_distance((EYE[0], EYE), (EYE[0, :1], EYE)),
            r'the shape of the second mean is \(1,\); allowed',
        ),
        (
            lambda: metrics.frechet_distance((EYE[0], EYE[:1]), (EYE[0], EYE)),
            r'the shape of the first covariance is \(1, 2\)',
        ),
        (
            lambda: metrics.linear_probe_accuracy(EYE, np.ones((2, 1)), EYE, np.ones(2)),
            r'the shape of train_labels is \(2, 1\); allowed: \(2,\), one an example',
        ),
        (
            lambda: metrics.linear_probe_accuracy(EYE, np.ones(2), EYE[:, :1], np.ones(2)),
            r'the shape of test_codes is \(2, 1\)',
        ),
        (lambda: metrics.told_apart([EYE], [EYE]), 'train has 1 domains, test 1; allowed: the same number, at least 2'),
        (
            lambda: metrics.told_apart([EYE, EYE[:, :1]], [EYE, EYE]),
            r'the shape of train\[1\] is \(2, 1\); allowed: \[N, 2\]',
        ),
        (lambda: metrics.told_apart([EYE, EYE], [EYE, EYE[:0]]), r'test\[1\] has no examples; allowed: at least one'),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=f'^{message}') as caught:
        call()
    assert '\n' not in str(caught.value)
