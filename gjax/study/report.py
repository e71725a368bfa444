"""`gjax report`: any runs side by side, whatever their method and however far they are, in one table with figures."""

import collections
import dataclasses
import html
import itertools
import json
import math
import os
import re
from pathlib import Path

import numpy as np

from gjax.study import plots
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.store import files
from gjax.train.store.workdir import MACHINE_KEYS

_DAMAGED = (RunError, OSError, ValueError, RecursionError)
_MARKUP = re.compile(r'[\\|`*~$\[\]]|(?<![^\W_])_|_(?![^\W_])')  # GitHub lets snake_case be
_COSTS = {'seconds': 'wall time (s)', 'examples_per_second': 'examples/s', 'data_wait_share': 'share waiting for data'}
# Metrics that compare only under one protocol: one extractor, one number of samples.
DISTANCES = ('frechet_distance', 'reconstruction_frechet_distance', 'inception_score')


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a run directory says; a damaged one has a status and nothing else.

    status: 'complete', '40 %', 'not started' or 'damaged: FILE'. metrics: those of results.json or, where the run is not
    finished, the test metrics that it logged last. lines: of metrics.jsonl.
    """

    directory: Path
    status: str
    seed: int | None = None
    step: int = 0
    seconds: float | None = None
    examples_per_second: float | None = None
    data_wait_share: float | None = None
    devices: tuple[str, ...] = ()
    protocol: str = ''
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    lines: tuple[dict, ...] = ()

    @property
    def damaged(self) -> bool:
        return self.status.startswith('damaged')


def find_runs(folders) -> list[Path]:
    """Every directory at or below the folders that holds a config.json, each once; RunError for a folder without any."""
    found: dict[Path, Path] = {}
    for folder in folders:
        below = sorted(Path(root) for root, _, files in os.walk(folder) if 'config.json' in files)
        if not below:
            raise RunError(f'{str(folder)!r} holds no finished run and none that has begun (no config.json)')
        for directory in below:
            found.setdefault(directory.resolve(), directory)
    return list(found.values())


def _check(good: bool) -> None:
    if not good:
        raise ValueError('not what gjax writes')


def _number(value) -> float | None:
    """A number of a JSON file ('nan' and 'inf' are names of such) as a float; None for everything else."""
    if isinstance(value, bool) or not (isinstance(value, int | float) or value in ('nan', 'inf', '-inf')):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _numbers(values: dict, prefix: str = '') -> dict[str, float]:
    """The numbers under keys that start with the prefix, by the rest of the key."""
    found = {key.removeprefix(prefix): _number(value) for key, value in values.items() if key.startswith(prefix)}
    return {key: value for key, value in found.items() if value is not None}


def _is_count(value) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _read(path: Path) -> dict:
    _check(path.is_file())  # a pipe would wait for ever
    return files.read_json(path)


def _config(path: Path) -> dict[str, str]:
    """config.json as dotted keys, with values as Python writes them."""
    config = _read(path)
    _check(type(config.get('seed')) is int and abs(config['seed']) < 2**63)
    return {key: repr(value) for key, value in configs.flatten(config).items() if key not in MACHINE_KEYS}


def _record(path: Path) -> dict:
    """What the table needs of run.json; {} before the first checkpoint."""
    if not path.exists():
        return {}
    record = _read(path)
    devices = record.get('devices', [])
    _check(isinstance(devices, list) and all(isinstance(device, str) for device in devices))
    present = {key: record[key] for key in _COSTS if record.get(key) is not None}
    numbers = _numbers(present)
    _check(numbers.keys() == present.keys())
    return {'devices': tuple(devices), **numbers}


def _log(path: Path) -> tuple[dict, ...]:
    """The lines of metrics.jsonl, none before the first; of a live run the last one may be torn and is left out."""
    if not path.exists():
        return ()
    _check(path.is_file())
    texts, lines = path.read_text().splitlines(), []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except ValueError:
            _check(number == len(texts))
            break
        _check(isinstance(line, dict) and _is_count(line.get('step')))
        progress = _number(line.get('progress'))
        _check(progress is not None and 0 <= progress <= 1)
        lines.append(line)
    return tuple(lines)


def _results(path: Path) -> dict:
    """Step and metrics of results.json; {} for an unfinished run."""
    if not path.exists():
        return {}
    results = _read(path)
    _check(_is_count(results.get('step')) and isinstance(results.get('metrics'), dict))
    _check(isinstance(results.get('protocol', ''), str))
    return {
        'step': results['step'],
        'metrics': _numbers(results['metrics']),
        'protocol': results.get('protocol', ''),
    }


def read_run(directory: Path) -> Entry:
    """The run in a directory, whatever lies there."""
    readers = {'config.json': _config, 'run.json': _record, 'metrics.jsonl': _log, 'results.json': _results}
    parts = []
    for file, read in readers.items():
        try:
            parts.append(read(directory / file))
        except _DAMAGED:
            return Entry(directory, f'damaged: {file}')
    config, record, lines, results = parts
    if results:
        status = 'complete'
    elif lines:
        last: dict[str, float] = {}
        for line in lines:
            last |= _numbers(line, 'test/')
        results = {'step': lines[-1]['step'], 'metrics': last}
        status = f'{100 * lines[-1]["progress"]:.0f} %'
    else:
        status = 'not started'
    return Entry(directory, status, seed=int(config['seed']), lines=lines, **record, **results)


def _tell_apart(base: str, own: dict, other: dict) -> str:
    """The name `base` with the first three settings that are not those of another run of that name."""
    differing = [k for k in sorted(own.keys() | other.keys()) if k != 'seed' and own.get(k) != other.get(k)]
    values = {k: plots.printable(own.get(k, 'None').strip('"\''), 24) for k in differing[:3]}
    return f'{base} ({", ".join(f"{k}={v}" for k, v in values.items())})' if values else base


def group_runs(directories: list[Path]) -> dict[str, list[Path]]:
    """Runs whose configs differ only in the seed, together, named by their folder and, at need, what sets them apart.

    A run whose config cannot be read is a group of its own. The names are printable and of limited length.
    """
    groups: dict[tuple, list[Path]] = {}
    settings = {}
    for directory in directories:
        try:
            config = _config(directory / 'config.json')
            key = tuple(sorted((k, v) for k, v in config.items() if k != 'seed'))
        except _DAMAGED:
            config, key = None, (directory,)
        groups.setdefault(key, []).append(directory)
        settings[key] = config
    named: dict[str, list[Path]] = {}
    first: dict[str, dict] = {}
    for key, members in groups.items():
        folder, own = members[0].resolve(), settings[key]
        if own is None:
            name = f'{folder.parent.name}/{folder.name}'
        else:
            base = (folder.parent if members[0].name.startswith('seed') else folder).name
            name = _tell_apart(base, own, first.setdefault(base, own))
        name = plots.printable(name)
        numbered = (f'{name} #{i}' for i in itertools.count(2))
        named[next(n for n in itertools.chain([name], numbered) if n not in named)] = members
    return named


def escape(text: str) -> str:
    """A name from anywhere as the text of one cell of a markdown table: nothing in it is markup, a link or a new line."""
    return _MARKUP.sub(r'\\\g<0>', html.escape(plots.printable(text), quote=False))


def _used(runs: list[Entry]) -> tuple[list[Entry], str]:
    """The runs of a group whose numbers count, the complete ones, and ''; where none is, all intact ones and '*'."""
    complete = [run for run in runs if run.status == 'complete']
    return (complete, '') if complete else ([run for run in runs if not run.damaged], '*')


def check_protocols(runs) -> tuple[list[str], list[str]]:
    """(protocols, the metrics that depend on them) of runs given as (protocol, metrics): where there are several protocols,
    those metrics do not compare."""
    found, dependent = [], set()
    for protocol, metrics in runs:
        if own := {name for name in metrics if name.split('/')[-1] in DISTANCES}:
            found += (protocol or 'an unknown extractor').split('; ')  # a chain's stages may differ
            dependent |= own
    return sorted(set(found)), sorted(dependent)


def choose_columns(groups: dict[str, list[Entry]], metrics=()) -> tuple[list[str], list[str]]:
    """The metrics to show and those left out.

    Args:
      groups: runs by group.
      metrics: names; default the ten that most groups have, without families of more than three that differ in a number.

    Raises:
      RunError: no run has a metric of that name, or runs measured it by different extractors or numbers of samples.
    """
    used = [run for runs in groups.values() for run in _used(runs)[0]]
    counts = collections.Counter(m for runs in groups.values() for m in {m for r in _used(runs)[0] for m in r.metrics})
    known = sorted(counts, key=lambda metric: (-counts[metric], metric))
    for metric in metrics:
        if metric not in counts:
            raise RunError(
                f'there is no metric {plots.printable(metric)!r}; known: {_listed(known, plots.printable) or "none"}'
            )
    protocols, measured = check_protocols([(run.protocol, run.metrics) for run in used])
    for metric in measured if len(protocols) > 1 else ():
        if metric in metrics:
            raise RunError(
                f'{plots.printable(metric)} does not compare: it was measured as {_listed(protocols, plots.printable, 4)}; '
                'allowed: runs of one extractor and one number of samples'
            )
        known.remove(metric)
    if metrics:
        return list(dict.fromkeys(metrics)), []
    family = {metric: re.sub(r'[0-9]+(\.[0-9]+)?', '#', metric) for metric in known}
    sizes = collections.Counter(family.values())
    columns = [metric for metric in known if sizes[family[metric]] <= 3][:10]
    return columns, [metric for metric in sorted(counts) if metric not in columns]


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


def comparison_table(groups: dict[str, list[Entry]], columns: list[str]) -> str:
    """Markdown: a row a group, with its seeds, status, metrics and what it cost.

    Means are over the complete runs; where there is none, over what the others logged last, marked with *.
    """
    percent = {column: column.endswith('accuracy') for column in columns}
    titles = [escape(column) + (' (%)' if percent[column] else '') for column in columns]
    lines = [['run', 'seeds', 'status', *titles, 'steps', *_COSTS.values(), 'devices']]
    lines += [['---'] * len(lines[0])]
    for name, runs in groups.items():
        used, mark = _used(runs)
        cells = [_cell([r.metrics[c] for r in used if c in r.metrics], percent[c]) for c in columns]
        costs = [_cell([getattr(r, key) for r in used if getattr(r, key) is not None]) for key in _COSTS]
        steps = sorted({run.step for run in used})
        steps = ' to '.join(map(str, dict.fromkeys(steps[:1] + steps[-1:])))
        marked = [cell and cell + escape(mark) for cell in cells]
        lines.append([escape(name), _seeds(used), _status(runs), *marked, steps, *costs, _devices(used)])
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def _figures(groups: dict[str, list[Entry]], columns: list[str]) -> dict:
    """{file: Figure}, without those that would show nothing."""
    used = {name: _used(runs) for name, runs in groups.items()}
    used = {name + (' *' if mark else ''): runs for name, (runs, mark) in used.items()}
    logs = {name: [run.lines for run in runs] for name, runs in used.items()}
    tests = set(plots.logged(logs, 'test/'))
    names, players = [c for c in columns if c in tests][:6], plots.logged(logs, 'loss/')[:6]
    both = ('clean_accuracy', 'robust_accuracy')
    points = {
        name: [{'metrics': r.metrics} for r in runs if all(plots.drawable(r.metrics.get(m)) for m in both)]
        for name, runs in used.items()
    }
    return {
        'training_curves.png': plots.training_curves(logs, names) if names else None,
        'losses.png': plots.losses(logs, players) if players else None,
        'frontier.png': plots.frontier(points) if any(points.values()) else None,
    }


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
    if left_out:
        text += f'\nLeft out: {_listed(left_out, escape)}; `--metrics` shows them.\n'
    summary = {name: {str(run.directory): _summary(run) for run in runs} for name, runs in groups.items()}
    out = Path(out)
    try:
        (out / 'figures').mkdir(parents=True, exist_ok=True)
        drawn = []
        for file, figure in _figures(groups, columns).items():
            (out / 'figures' / file).unlink(missing_ok=True)  # one of an earlier report would belong to other runs
            if figure:
                plots.save(figure, out / 'figures' / file)
                drawn.append(file)
        files.write_json(out / 'report.json', {'columns': columns, 'left_out': left_out, 'groups': summary})
        files.write_text(out / 'report.md', text + ''.join(f'\n![{f}](figures/{f})\n' for f in drawn))
    except OSError as error:
        raise RunError(f'--out is {str(out)!r}, which cannot be written: {error.strerror}') from error
    return text
