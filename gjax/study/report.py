"""`gjax report`: any runs side by side, whatever their method and however far they are, in one table with figures."""

import collections
import itertools
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gjax.study import plots
from gjax.study.entries import COSTS, Entry, find_runs, group_runs, read_run
from gjax.study.tables import escape, markdown, printable
from gjax.train.errors import RunError
from gjax.train.store import files

# Metrics that trade off, drawn one across the other wherever some runs have both: file -> (across, up).
FRONTIERS = {'frontier.png': ('robust_accuracy', 'clean_accuracy')}
BEHIND = 'robust_accuracy_'  # begins, after a set's name, metrics of single attacks: shown if they are asked for


def _used(runs: list[Entry]) -> tuple[list[Entry], str]:
    """The runs of a group whose numbers count, the complete ones, and ''; where none is, all intact ones and '*'."""
    complete = [run for run in runs if run.status == 'complete']
    return (complete, '') if complete else ([run for run in runs if not run.damaged], '*')


class Column(NamedTuple):
    """A column of the table: one metric as one protocol measures it."""

    metric: str
    protocol: str  # '' where runs state none
    mark: str = ''  # '1', '2', ... where the metric has several columns

    @property
    def title(self) -> str:
        return f'{self.metric} [{self.mark}]' if self.mark else self.metric

    def values(self, runs: list[Entry]) -> list[float]:
        """The metric's values of those runs that measured it by this protocol."""
        return [r.metrics[self.metric] for r in runs if self._has(r)]

    def _has(self, run: Entry) -> bool:
        return self.metric in run.metrics and run.protocols.get(self.metric, '') == self.protocol


def columns_of(metric: str, runs: list[Entry]) -> list[Column]:
    """The columns of a metric: one for each protocol by which some run measured it, in the order of the runs."""
    protocols = list(dict.fromkeys(run.protocols.get(metric, '') for run in runs if metric in run.metrics))
    marks = [''] if len(protocols) == 1 else itertools.count(1)
    return [Column(metric, protocol, str(mark)) for protocol, mark in zip(protocols, marks, strict=False)]


def choose_columns(groups: dict[str, list[Entry]], metrics=()) -> tuple[list[Column], list[str]]:
    """The columns to show and the metrics left out. Numbers of different protocols never share a column.

    Args:
      groups: runs by group.
      metrics: names; default the ten that most groups have, without families of more than three that differ in a number and
        without accuracies under single attacks.

    Raises:
      RunError: no run has a metric of that name.
    """
    used = [run for runs in groups.values() for run in _used(runs)[0]]
    counts = collections.Counter(m for runs in groups.values() for m in {m for r in _used(runs)[0] for m in r.metrics})
    known = sorted(counts, key=lambda metric: (-counts[metric], metric))
    for metric in metrics:
        if metric not in counts:
            raise RunError(f'there is no metric {printable(metric)!r}; known: {_listed(known, printable) or "none"}')
    shown = list(dict.fromkeys(metrics))
    if not shown:
        family = {metric: re.sub(r'[0-9]+(\.[0-9]+)?', '#', metric) for metric in known}
        sizes = collections.Counter(family.values())
        shown = [metric for metric in known if sizes[family[metric]] <= 3 and BEHIND not in metric][:10]
    left_out = [] if metrics else [metric for metric in sorted(counts) if metric not in shown]
    return [column for metric in shown for column in columns_of(metric, used)], left_out


def _legend(columns: list[Column]) -> str:
    """Markdown: how the numbers of the columns were measured."""
    lines = []
    for column in columns:
        if column.mark or column.protocol:
            text = column.protocol or 'the run does not say; while a run trains, the quick evaluation'
            lines.append(f'- {escape(column.title)}: {escape(text, 400)}\n')
    return '\n' + ''.join(lines) if lines else ''


def _listed(names: list[str], show, limit: int = 30) -> str:
    """The first names, as `show` writes them, and how many more there are."""
    more = [f'and {len(names) - limit} more'] if len(names) > limit else []
    return ', '.join([*map(show, names[:limit]), *more])


def _spread(values: list[float]) -> float:
    """The standard deviation; 0 where it is nothing but rounding."""
    spread = np.std(values, ddof=1)
    return 0.0 if spread <= 1e-12 * np.abs(values).max() else spread


def _cell(values: list[float], percent: bool = False) -> str:
    """Mean ± standard deviation: percent with one decimal, or four significant digits."""
    if not values:
        return ''
    with np.errstate(all='ignore'):  # a file may hold infinities
        pair = [np.mean(values), _spread(values)] if len(values) > 1 else values
    return ' ± '.join(f'{100 * v:.1f}' if percent and abs(v) < 1e4 else f'{v:.4g}' for v in pair)


def _status(runs: list[Entry]) -> str:
    counts = collections.Counter(sorted((run.status for run in runs), key=lambda status: status != 'complete'))
    if len(runs) == 1 or counts.keys() == {'complete'}:
        return runs[0].status
    return ', '.join(f'{n} at {status}' if status.endswith('%') else f'{n} {status}' for status, n in counts.items())


def _seeds(runs: list[Entry]) -> str:
    seeds = len({run.seed for run in runs})
    return f'{seeds}' if seeds == len(runs) else f'{seeds} ({len(runs)} runs)'


def _devices(runs: list[Entry]) -> str:
    each = [collections.Counter(run.devices).items() for run in runs]
    return _listed(list(dict.fromkeys(f'{n} x {escape(device)}' for counts in each for device, n in counts)), str, 4)


def comparison_table(groups: dict[str, list[Entry]], columns: list[Column]) -> str:
    """Markdown: a row a group, with its seeds, status, metrics and what it cost.

    Means are over the complete runs; where there is none, over what the others logged last, marked with *.
    """
    percent = {column: column.metric.endswith('accuracy') for column in columns}
    titles = [escape(column.title) + (' (%)' if percent[column] else '') for column in columns]
    lines = [['run', 'seeds', 'status', *titles, 'steps', *COSTS.values(), 'devices']]
    for name, runs in groups.items():
        used, mark = _used(runs)
        cells = [_cell(c.values(used), percent[c]) for c in columns]
        costs = [_cell([getattr(r, key) for r in used if getattr(r, key) is not None]) for key in COSTS]
        steps = sorted({run.step for run in used})
        steps = ' to '.join(map(str, dict.fromkeys(steps[:1] + steps[-1:])))
        marked = [cell and cell + escape(mark) for cell in cells]
        lines.append([escape(name), _seeds(used), _status(runs), *marked, steps, *costs, _devices(used)])
    return markdown(lines)


def _figures(groups: dict[str, list[Entry]], columns: list[Column]) -> dict:
    """{file: Figure}, without those that would show nothing."""
    used = {name: _used(runs) for name, runs in groups.items()}
    used = {name + (' *' if mark else ''): runs for name, (runs, mark) in used.items()}
    logs = {name: [run.lines for run in runs] for name, runs in used.items()}
    tests = set(plots.logged(logs, 'test/'))
    names = list(dict.fromkeys(c.metric for c in columns if c.metric in tests))[:6]
    players = plots.logged(logs, 'loss/')[:6]
    return {
        'training_curves.png': plots.training_curves(logs, names) if names else None,
        'losses.png': plots.losses(logs, players) if players else None,
        **{file: _frontier(used, *pair) for file, pair in FRONTIERS.items()},
    }


def _frontier(used: dict[str, list[Entry]], across: str, up: str):
    """The figure of two metrics that trade off; None if no run has both, or if their protocols do not compare."""
    every = [run for runs in used.values() for run in runs if across in run.metrics and up in run.metrics]
    if any(len({run.protocols.get(metric, '') for run in every}) > 1 for metric in (across, up)):
        return None
    points = {
        name: [{'metrics': r.metrics} for r in runs if all(plots.drawable(r.metrics.get(m)) for m in (across, up))]
        for name, runs in used.items()
    }
    return plots.frontier(points, across, up) if any(points.values()) else None


def _summary(run: Entry) -> dict:
    """An entry for report.json: all but its directory and its log; numbers that JSON lacks as their names."""
    values = {key: files.to_python(value) for key, value in vars(run).items() if key not in ('directory', 'lines')}
    return values | {'metrics': {name: files.to_python(value) for name, value in run.metrics.items()}}


def report(folders, out: str | Path, metrics=()) -> str:
    """Writes report.md, report.json and figures under `out`; runs that differ only in their seed share a row.

    Args:
      folders: run directories, or folders that hold some.
      out: where to write.
      metrics: names of the columns; default as in `choose_columns`.

    Returns:
      The table and what it leaves out, as markdown.

    Raises:
      RunError: a folder without runs, no run that can be read, an unknown metric, or `out` cannot be written; one line.
    """
    groups = {name: [read_run(d) for d in members] for name, members in group_runs(find_runs(folders)).items()}
    entries = [run for runs in groups.values() for run in runs]
    if all(run.damaged for run in entries):
        raise RunError(f'no run can be read: {_listed([f"{str(r.directory)!r} is {r.status}" for r in entries], str, 3)}')
    columns, left_out = choose_columns(groups, metrics)
    text = comparison_table(groups, columns)
    if '\\*' in text:
        text += '\n\\* No run is complete: the test metrics that were logged last.\n'
    text += _legend(columns)
    if left_out:
        text += f'\nLeft out: {_listed(left_out, escape)}; `--metrics` shows them.\n'
    summary = {name: {str(run.directory): _summary(run) for run in runs} for name, runs in groups.items()}
    described = {
        'columns': [column.title for column in columns],
        'protocols': {column.title: column.protocol for column in columns if column.protocol},
    }
    out = Path(out)
    try:
        (out / 'figures').mkdir(parents=True, exist_ok=True)
        drawn = []
        for file, figure in _figures(groups, columns).items():
            (out / 'figures' / file).unlink(missing_ok=True)  # one of an earlier report would belong to other runs
            if figure:
                plots.save(figure, out / 'figures' / file)
                drawn.append(file)
        files.write_json(out / 'report.json', {**described, 'left_out': left_out, 'groups': summary})
        files.write_text(out / 'report.md', text + ''.join(f'\n![{f}](figures/{f})\n' for f in drawn))
    except OSError as error:
        raise RunError(f'--out is {str(out)!r}, which cannot be written: {error.strerror}') from error
    return text
