"""Claims."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Run:
    """One line of the table: a config file (with argument), its overrides; `extra` runs only when asked for."""

    name: str
    config: str
    overrides: dict = dataclasses.field(default_factory=dict)
    extra: bool = False


@dataclasses.dataclass(frozen=True)
class Claim:
    """'metric of run, minus metric of minus, is at least (or at most) bound', as a mean over seeds.

    sentence: the paper's claim in our words. paper: its own number, or where it stands. deviation: by scale, what differs
    from the paper and why.
    """

    name: str
    sentence: str
    metric: str
    run: str
    minus: str = ''
    minus_metric: str = ''
    at_least: float | None = None
    at_most: float | None = None
    paper: str = ''
    deviation: dict[str, str] = dataclasses.field(default_factory=dict)

    def judge(self, metrics: dict[str, dict[int, dict]], scale: str = 'mini') -> dict:
        """Mean, spread, number of seeds and verdict from {run: {seed: metrics}}; all None where nothing was measured."""
        other, other_metric = self.minus or self.run, self.minus_metric or self.metric
        paired = bool(self.minus or self.minus_metric)
        values = []
        for seed, own in metrics.get(self.run, {}).items():
            against = metrics.get(other, {}).get(seed, {}).get(other_metric) if paired else 0.0
            if own.get(self.metric) is not None and against is not None:
                values.append(own[self.metric] - against)
        mean = float(np.mean(values)) if values else None
        low = -np.inf if self.at_least is None else self.at_least - 1e-9  # accuracies are sums of floats
        high = np.inf if self.at_most is None else self.at_most + 1e-9
        return {
            'claim': self.sentence,
            'holds': bool(low <= mean <= high) if values else None,
            'mean': mean,
            'std': float(np.std(values, ddof=1)) if len(values) > 1 else None,
            'seeds': len(values),
            'at_least': self.at_least,
            'at_most': self.at_most,
            'paper': self.paper,
            'deviation': self.deviation.get(scale, ''),
        }


@dataclasses.dataclass(frozen=True)
class Study:
    """What `gjax reproduce NAME` does.

    runs: by scale ('mini', 'paper'). columns: metric -> heading of the table. derive: ({run: {seed: directory}}) ->
    {row: {seed: {metric: value}}}, numbers that need several runs: more metrics of a run, or rows of their own. rows: what
    the table shows, in order; default every run. figures: ({run: {seed: directory}}) -> {file: Figure}.
    note: (the config of its first run, a dict) -> the line below the table: how the numbers were measured.
    """

    name: str
    runs: dict[str, list[Run]]
    claims: list[Claim]
    columns: dict[str, str]
    derive: Callable[[dict], dict]
    figures: Callable[[dict], dict]
    note: Callable[[dict], str]
    rows: tuple[str, ...] = ()
