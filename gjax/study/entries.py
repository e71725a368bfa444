"""What run directories say, whatever lies in them: found below folders, read without trust, grouped by their settings."""

import dataclasses
import itertools
import json
import math
import os
from pathlib import Path

from gjax.study.tables import printable
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.store import files
from gjax.train.store.workdir import MACHINE_KEYS

_DAMAGED = (RunError, OSError, ValueError, RecursionError)
COSTS = {'seconds': 'wall time (s)', 'examples_per_second': 'examples/s', 'data_wait_share': 'share waiting for data'}


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a run directory says; a damaged one has a status and nothing else."""

    directory: Path
    status: str  # 'complete', '40 %', 'not started' or 'damaged: FILE'
    seed: int | None = None
    step: int = 0
    seconds: float | None = None
    examples_per_second: float | None = None
    data_wait_share: float | None = None
    devices: tuple[str, ...] = ()
    protocol: str = ''  # how the metrics were measured, parts joined by '; '
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)  # until a run is finished: those logged last
    protocols: dict[str, str] = dataclasses.field(default_factory=dict)  # of single metrics, see `protocols_of`
    lines: tuple[dict, ...] = ()  # of metrics.jsonl

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
    present = {key: record[key] for key in COSTS if record.get(key) is not None}
    numbers = _numbers(present)
    _check(numbers.keys() == present.keys())
    return {'devices': tuple(devices), **numbers}


def _log(path: Path) -> tuple[dict, ...]:
    """The lines of metrics.jsonl, none before the first; of a live run the last one may be torn and is left out."""
    if not path.exists():
        return ()
    _check(path.is_file())
    texts, lines = path.read_text(encoding='utf-8').splitlines(), []
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
    _check(isinstance(results.get('protocols', {}), dict))
    _check(all(isinstance(text, str) for text in results.get('protocols', {}).values()))
    return {
        'step': results['step'],
        'metrics': _numbers(results['metrics']),
        'protocol': results.get('protocol', ''),
        'protocols': protocols_of(results),
    }


# Which part of 'protocol', by its beginning or end, says how a metric was measured: for results.json of older versions of
# gjax, which had no 'protocols'. Metrics by a part of their name.
_OLDER = (
    (('frechet_distance', 'inception_score'), lambda part: part.endswith(' samples'), 'an unknown extractor'),
    (('robust_accuracy', 'accuracy_at_'), lambda part: part.startswith('worst case'), ''),
    (('attacked_bits', 'attacked_adds', 'noise_'), lambda part: part.startswith('likelihood attack'), ''),
    (('ood_',), lambda part: part.startswith('other sets'), ''),
    (('domain_accuracy', 'proxy_a_distance'), lambda part: part.startswith('domains told apart'), ''),
)


def protocols_of(results: dict) -> dict[str, str]:
    """{metric: how it was measured} of a results.json, as far as it says; numbers of one metric compare only if that is the
    same.
    """
    if 'protocols' in results:
        return results['protocols']
    found, parts = {}, results.get('protocol', '').split('; ')
    for metric in results['metrics']:
        for names, belongs, otherwise in _OLDER:
            if any(name in metric for name in names):
                found[metric] = '; '.join(part for part in parts if belongs(part)) or otherwise
                break
    return {metric: text for metric, text in found.items() if text}


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
    values = {k: printable(own.get(k, 'None').strip('"\''), 24) for k in differing[:3]}
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
        name = printable(name)
        numbered = (f'{name} #{i}' for i in itertools.count(2))
        named[next(n for n in itertools.chain([name], numbered) if n not in named)] = members
    return named
