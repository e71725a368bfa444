"""Claims are judged by the one-sided interval of paired differences; what one seed or few show is not overstated."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from gjax.study.claims import SLACK, Claim, decide, one_sided

METRICS = {
    'a': {seed: {'m': value, 'other': 0.1} for seed, value in enumerate((0.90, 0.94, 0.91))},
    'b': {seed: {'m': value} for seed, value in enumerate((0.86, 0.88, 0.85))},
}
DIFFERENCES = (0.04, 0.06, 0.06)


def _judge(values, **bounds):
    """The claim that these values, one a seed, meet the bounds."""
    return Claim('c', 'sentence', 'm', 'a', **bounds).judge({'a': {seed: {'m': own} for seed, own in enumerate(values)}})


def test_the_differences_are_paired_by_seed():
    judged = Claim('c', 'a beats b', 'm', 'a', minus='b', at_least=0.02, id='x-1').judge(METRICS)
    assert (judged['claim'], judged['id'], judged['verdict'], judged['holds']) == ('a beats b', 'x-1', 'holds', True)
    assert judged['mean'] == pytest.approx(np.mean(DIFFERENCES))
    assert judged['std'] == pytest.approx(np.std(DIFFERENCES, ddof=1))
    assert (judged['pairs'], judged['seeds']) == (3, 3)
    within = Claim('c', '', 'm', 'a', minus_metric='other', at_least=0.7).judge(METRICS)
    assert within['mean'] == pytest.approx(np.mean([0.80, 0.84, 0.81]))
    alone = Claim('c', '', 'm', 'a', at_least=0.8).judge(METRICS)
    assert alone['mean'] == pytest.approx(np.mean([0.90, 0.94, 0.91]))
    fewer = METRICS | {'b': {seed: METRICS['b'][seed] for seed in (0, 2)} | {7: {'m': 0.0}}}
    assert Claim('c', '', 'm', 'a', minus='b', at_least=0.0).judge(fewer)['pairs'] == 2


@pytest.mark.parametrize('bound', [0.0, 0.03, 0.0414, 0.05, 0.0525, 0.08])
@pytest.mark.parametrize('count', [2, 3, 9])
def test_the_verdict_is_that_of_a_one_sided_t_test(bound, count):
    values = np.resize(DIFFERENCES, count) + 0.001 * np.arange(count)
    beyond = stats.ttest_1samp(values, bound, alternative='greater').pvalue <= 0.05
    short = stats.ttest_1samp(values, bound, alternative='less').pvalue <= 0.05
    expected = 'holds' if beyond else 'does not hold' if short else 'not shown'
    assert _judge(values, at_least=bound)['verdict'] == expected
    assert _judge(-values, at_most=-bound)['verdict'] == expected


def test_the_three_verdicts_all_occur_and_their_ends_are_scipys():
    ends = stats.t.interval(0.90, 2, np.mean(DIFFERENCES), stats.sem(DIFFERENCES))
    assert one_sided(np.mean(DIFFERENCES), np.std(DIFFERENCES, ddof=1), 3) == pytest.approx(ends)
    for bound, verdict, holds, shown in (
        (0.03, 'holds', True, [ends[0], None]),
        (0.05, 'not shown', None, [ends[0], None]),
        (0.08, 'does not hold', False, [None, ends[1]]),
    ):
        judged = _judge(DIFFERENCES, at_least=bound)
        assert (judged['verdict'], judged['holds']) == (verdict, holds)
        assert judged['interval'] == [pytest.approx(end) if end is not None else None for end in shown]
        mirrored = _judge([-value for value in DIFFERENCES], at_most=-bound)
        assert (mirrored['verdict'], mirrored['holds']) == (verdict, holds)
        assert mirrored['interval'] == [pytest.approx(-end) if end is not None else None for end in reversed(shown)]


def test_with_both_bounds_both_must_hold():
    for bounds, verdict in (((0.03, 0.08), 'holds'), ((0.03, 0.06), 'not shown'), ((0.05, 0.08), 'not shown')):
        assert _judge(DIFFERENCES, at_least=bounds[0], at_most=bounds[1])['verdict'] == verdict
    for bounds in ((0.08, 0.09), (0.01, 0.02)):
        assert _judge(DIFFERENCES, at_least=bounds[0], at_most=bounds[1])['verdict'] == 'does not hold'


def test_one_pair_shows_nothing_and_none_measures_nothing():
    for value in (0.9, -0.9):
        judged = _judge([value], at_least=0.0)
        assert (judged['verdict'], judged['holds'], judged['mean'], judged['std']) == ('not shown', None, value, None)
        assert judged['interval'] == [None, None]
    missing = Claim('c', '', 'absent', 'a', minus='b', at_least=0, deviation={'mini': 'small'}).judge(METRICS)
    assert (missing['verdict'], missing['holds'], missing['mean'], missing['pairs']) == ('not measured', None, None, 0)
    assert missing['deviation'] == 'small'
    assert Claim('c', '', 'm', 'nowhere', at_least=0).judge(METRICS)['verdict'] == 'not measured'


def test_zero_spread_and_sums_of_floats():
    assert _judge([0.0, 0.0, 0.0], at_most=0.0)['verdict'] == 'holds'
    assert _judge([0.1 + 0.2, 0.1 + 0.2], at_most=0.3)['verdict'] == 'holds'
    assert _judge([1 - 0.9, 1 - 0.9], at_least=0.1)['verdict'] == 'holds'  # 0.09999999999999998
    assert _judge([0.3 + 10 * SLACK] * 2, at_most=0.3)['verdict'] == 'does not hold'
    assert decide(0.0, 0.0, 3, at_least=0.01) == ('does not hold', [None, 0.0])


def test_pairs_over_several_measurements_a_seed():
    values = {('a', 0): 0.1, ('a', 1): 0.3, ('b', 0): 0.2, ('b', 1): 0.5, ('c', 0): 0.9}
    metrics = {'own': {0: {'m': 9.0}, 1: {'m': 9.0}}}  # the row of means plays no part
    for (suffix, seed), value in values.items():
        metrics.setdefault(f'own/{suffix}', {})[seed] = {'m': 1 + value}
        if suffix != 'c':  # never measured of the other
            metrics.setdefault(f'other/{suffix}', {})[seed] = {'m': 1.0}
    claim = Claim('c', '', 'm', 'own', minus='other', at_least=0.0, over=('a', 'b', 'c', 'd'))
    assert claim.pairs(metrics) == {
        (seed, suffix): pytest.approx(values[suffix, seed]) for suffix in 'ab' for seed in (0, 1)
    }
    judged = claim.judge(metrics)
    assert (judged['pairs'], judged['seeds']) == (4, 2)
    beyond = stats.ttest_1samp([0.1, 0.3, 0.2, 0.5], 0.0, alternative='greater').pvalue
    assert (judged['verdict'] == 'holds') == (beyond <= 0.05)


def test_declaring_a_study_imports_no_statistics():
    code = 'import sys, gjax.study.claims; sys.exit("scipy.stats" in sys.modules or "matplotlib" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
