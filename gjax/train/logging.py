"""What a run leaves besides checkpoints: metrics.jsonl, run.json, atomic JSON files, a progress bar."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

import gjax


def write_text(path: Path, text: str) -> None:
    """Writes a whole file or nothing: a reader never sees half of it."""
    temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
    temporary.write_text(text)
    temporary.replace(path)


def write_json(path: Path, value) -> None:
    """`write_text` of indented JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + '\n')


def to_python(value):
    """Arrays as nested lists of Python numbers, non-finite ones as their names ('nan', 'inf')."""
    value = np.asarray(value).tolist()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def read_metrics(path: Path) -> list[dict]:
    """The lines of a metrics.jsonl; a torn last line is left out."""
    lines = []
    for line in Path(path).read_text().splitlines() if Path(path).is_file() else ():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


class MetricsLog:
    """Appends lines to metrics.jsonl; on resume, lines after the resumed step are dropped, so no step appears twice."""

    def __init__(self, path: Path, step: int):
        lines = [line for line in read_metrics(path) if line['step'] <= step]
        write_text(path, ''.join(json.dumps(line) + '\n' for line in lines))
        self._file = path.open('a')

    def write(self, step: int, **values) -> None:
        self._file.write(json.dumps({'step': step, **{k: to_python(v) for k, v in values.items()}}) + '\n')
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class NoLog:
    """The log of a process that does not write."""

    def write(self, step: int, **values) -> None:
        pass

    def close(self) -> None:
        pass


def _commit() -> str | None:
    """The commit of the checkout that gjax runs from, None for an installed package."""
    try:
        root = Path(gjax.__file__).parent.parent
        command = ['git', '-C', str(root), 'describe', '--always', '--dirty', '--abbrev=12']
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        inside = (root / '.git').exists()
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if inside and done.returncode == 0 else None


def provenance(parent: str = '') -> dict:
    """Versions, commit and devices, for run.json."""
    versions = {name: getattr(sys.modules.get(name), '__version__', None) for name in ('jax', 'flax', 'optax', 'numpy')}
    return {
        'versions': {'gjax': gjax.__version__, 'python': platform.python_version(), **versions},
        'commit': _commit(),
        'devices': [d.device_kind for d in jax.devices()],
        'platform': jax.default_backend(),
        'parent': parent,
        'started': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
    }


def progress(total: int, initial: int, description: str, unit: str = 'step', shown: bool = True):
    """A bar on standard error; quiet where it is no terminal: a line every 10 s at most. GJAX_PROGRESS=0 turns it off."""
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        mininterval=0.2 if sys.stderr.isatty() else 10.0,
        disable=not shown or os.environ.get('GJAX_PROGRESS') == '0',
        dynamic_ncols=True,
    )
