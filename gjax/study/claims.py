"""What a study declares: which variants run, which claims of the paper are judged by their numbers, what tables show."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95  # of each one-sided interval
SLACK = 1e-9  # accuracies are sums of floats: a bound that is met but for rounding counts as met
VERDICTS = ('holds', 'not shown', 'does not hold', 'not measured')


@dataclasses.dataclass(frozen=True)
class Variant:
    """One config of a study, run once a seed; it has a row of its own in the tables."""

    name: str  # of the row and of the folder
    config: str  # a config file beside the study, with its argument: 'digits.py:iaat'
    overrides: Mapping[str, object] = dataclasses.field(default_factory=dict)  # dotted config keys
    extra: bool = False  # runs only if extras are asked for


class Column(NamedTuple):
    """How a table shows one metric: percent with one decimal unless said otherwise."""

    title: str
    scale: float = 100.0  # what the metric is multiplied by: 255 for radii in 255ths, 1 for bits per dimension
    digits: int = 1  # decimals


def one_sided(mean: float, std: float, count: int) -> tuple[float, float]:
    """The lower and the upper end of the two one-sided 95 % intervals of a mean, by Student's t.

    Args:
      mean, std: of the measured values; std with count - 1 degrees of freedom.
      count: how many values there are, at least 2.
    """
    from scipy import stats  # a slow import, of no use to those who only declare a study

    half = float(stats.t.ppf(CONFIDENCE, count - 1)) * std / math.sqrt(count)
    return mean - half, mean + half


def decide(mean, std, count: int, at_least=None, at_most=None) -> tuple[str, list[float | None]]:
    """(verdict, [lower end, upper end]) on 'the mean is at least (and, or at most) a bound'.

    The claim holds if the end of its one-sided 95 % interval that is nearer to the bound is on the right side of it, and
    does not hold if the other end is on the wrong side; otherwise the values do not show either. One value shows nothing.

    Args:
      mean, std: of the values; None where there are none (std: fewer than 2).
      count: how many values there are.
      at_least, at_most: the bounds; with both, both must hold.

    Returns:
      One of `VERDICTS`, and the ends that it was read from, None in the place of one that was not asked.
    """
    if not count:
        return 'not measured', [None, None]
    if count < 2:
        return 'not shown', [None, None]
    low, high = one_sided(mean, std, count)
    asked = [at_least is not None, at_most is not None]
    if (not asked[0] or low >= at_least - SLACK) and (not asked[1] or high <= at_most + SLACK):
        return 'holds', [low if asked[0] else None, high if asked[1] else None]
    below, above = asked[0] and high < at_least - SLACK, asked[1] and low > at_most + SLACK
    if below or above:
        return 'does not hold', [low if above else None, high if below else None]
    return 'not shown', [low if asked[0] else None, high if asked[1] else None]


@dataclasses.dataclass(frozen=True)
class Claim:
    """'The metric of one run, minus that of another, is at least (or at most) a bound', over pairs of runs."""

    name: str
    sentence: str  # the paper's claim in our words
    metric: str
    run: str  # the row whose metric it is
    minus: str = ''  # the row that is subtracted, seed by seed; '' for none, or for the same row with another metric
    minus_metric: str = ''  # the metric of that row; '' for the same
    at_least: float | None = None
    at_most: float | None = None
    paper: str = ''  # the paper's own number, or where it stands
    deviation: Mapping[str, str] = dataclasses.field(default_factory=dict)  # by scale: what differs from the paper, and why
    id: str = ''  # which sentence of the paper's abstract it belongs to ('iaat-2'); '' for one of the text
    # Several measurements a seed, e.g. transfers: then the pairs are those of the rows RUN/SUFFIX and MINUS/SUFFIX, over
    # seeds and suffixes. A scale that has no such row leaves that suffix out.
    over: tuple[str, ...] = ()
    scales: tuple[str, ...] = ()  # at which it is judged; () for all

    def pairs(self, metrics: Mapping[str, Mapping[int, Mapping]]) -> dict[tuple[int, str], float]:
        """{(seed, suffix): the metric, or its difference from the other row} wherever both were measured."""
        paired = bool(self.minus or self.minus_metric)
        found = {}
        for suffix in self.over or ('',):
            run, minus = (f'{name}/{suffix}' if suffix else name for name in (self.run, self.minus or self.run))
            for seed, own in metrics.get(run, {}).items():
                other = metrics.get(minus, {}).get(seed, {}).get(self.minus_metric or self.metric) if paired else 0.0
                if own.get(self.metric) is not None and other is not None:
                    found[seed, suffix] = own[self.metric] - other
        return found

    def judge(self, metrics: Mapping[str, Mapping[int, Mapping]], scale: str = 'mini') -> dict:
        """The claim's entry of study.json.

        Args:
          metrics: {row: {seed: {metric: value}}}.
          scale: whose deviation is named.

        Returns:
          'verdict', one of `VERDICTS`, with 'interval' (see `decide`) and 'pairs', the number of differences; 'holds': True,
          False or, where the verdict is neither, None; 'mean', 'std' and 'seeds'; and what was asked.
        """
        pairs = self.pairs(metrics)
        values = list(pairs.values())
        mean = float(np.mean(values)) if values else None
        std = float(np.std(values, ddof=1)) if len(values) > 1 else None
        verdict, interval = decide(mean, std, len(values), self.at_least, self.at_most)
        return {
            'claim': self.sentence,
            'id': self.id,
            'verdict': verdict,
            'holds': {'holds': True, 'does not hold': False}.get(verdict),
            'mean': mean,
            'std': std,
            'interval': interval,
            'pairs': len(values),
            'seeds': len({seed for seed, _ in pairs}),
            'at_least': self.at_least,
            'at_most': self.at_most,
            'paper': self.paper,
            'deviation': self.deviation.get(scale, ''),
        }


@dataclasses.dataclass(frozen=True)
class Study:
    """What `gjax reproduce NAME` does."""

    name: str  # the folder in experiments/
    title: str  # how the root README's table calls the paper
    headline: str  # the name of the claim that stands for the paper there
    variants: Mapping[str, list[Variant]]  # by scale: 'mini', 'small', 'paper'
    claims: list[Claim]
    # The question that a table answers, its heading -> {metric: Column}, at most five of one kind. A table shows the rows
    # and the columns of which something was measured.
    tables: Mapping[str, Mapping[str, Column]]
    # ({variant: {seed: directory}}) -> {row: {seed: {metric: value}}}: numbers that need several runs, as more metrics of a
    # variant or as rows of their own.
    derive: Callable[[dict], dict]
    figures: Callable[[dict], dict]  # ({variant: {seed: directory}}) -> {file: Figure}
    note: Callable[[dict], str]  # (the config of its first run, a dict) -> the line below the tables: how it was measured
    rows: tuple[str, ...] = ()  # what the tables show, in order; () for every variant
    only: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # rows of one table, by its heading
    seeds: tuple[int, ...] = (0, 1, 2)  # of `gjax reproduce NAME` without --seeds
