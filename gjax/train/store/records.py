"""What a run leaves besides checkpoints: metrics.jsonl, TensorBoard events, results.json, run.json."""

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import jax

import gjax
from gjax.train.config import FORMAT
from gjax.train.errors import RunError
from gjax.train.store.files import read_json, to_python, write_text, writing


def read_results(directory: Path) -> dict:
    """The results.json of a run directory; RunError if it is damaged."""
    results = read_json(directory / 'results.json')
    metrics = results.get('metrics')
    if not (isinstance(metrics, dict) and all(isinstance(value, int | float) for value in metrics.values())):
        raise RunError(f'{directory / "results.json"} is damaged: its metrics are not numbers by name')
    return results


def read_metrics(path: Path) -> list[dict]:
    """The lines of a metrics.jsonl, up to the first torn one."""
    lines = []
    for text in Path(path).read_text(encoding='utf-8', errors='replace').splitlines() if Path(path).is_file() else ():
        try:
            line = json.loads(text)
            steps = line['step']
        except (ValueError, TypeError, KeyError, RecursionError):
            break
        if type(steps) is not int:
            break
        lines.append(line)
    return lines


def _tensorboard():
    """TensorBoardX's synchronous writer, event protocol and scalar summaries; without PyTorch, which it would load."""
    hide = 'torch' not in sys.modules
    if hide:
        sys.modules['torch'] = None
    try:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2
        from tensorboardX.summary import scalar
    finally:
        if hide:
            del sys.modules['torch']
    return EventsWriter, event_pb2, scalar


class RunLog:
    """metrics.jsonl, and the same numbers as TensorBoard events.

    On resume, lines after the resumed step are dropped (a torn last one too) and TensorBoard is told to drop its own, so no
    step appears twice. Timings, which differ between runs, go to TensorBoard alone, so that two runs' metrics.jsonl compare.
    """

    def __init__(self, workdir: Path, step: int):
        EventsWriter, event_pb2, scalar = _tensorboard()
        self._path, self._proto, self._scalar = workdir / 'metrics.jsonl', event_pb2, scalar
        lines = [line for line in read_metrics(self._path) if line['step'] <= step]
        write_text(self._path, ''.join(json.dumps(line) + '\n' for line in lines))
        with writing(self._path):
            self._file = self._path.open('a', encoding='utf-8')
        folder = workdir / 'tensorboard'
        with writing(folder):
            folder.mkdir(exist_ok=True)
            # TensorBoard reads files by name and the writer names them by the second: the number in front keeps them in
            # order, and apart, when the clock goes back or two starts fall into one second.
            numbers = [name.split('.')[1] for name in os.listdir(folder) if name.count('.') > 1]
            number = 1 + max((int(n) for n in numbers if n.isdecimal()), default=0)
            self._events = EventsWriter(str(folder / f'events.{number:06d}'))
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._events.write_event(event_pb2.Event(wall_time=time.time(), step=step + 1, session_log=start))

    def write(self, step: int, timings: dict | None = None, **values) -> None:
        line = {'step': step, **{k: to_python(v) for k, v in values.items()}}
        with writing(self._path):
            self._file.write(json.dumps(line) + '\n')
            self._file.flush()
        numbers = {**line, **(timings or {})}
        summaries = [self._scalar(k, v) for k, v in numbers.items() if k != 'step' and isinstance(v, int | float)]
        with writing(self._path.parent / 'tensorboard'):
            for summary in summaries:
                self._events.write_event(self._proto.Event(wall_time=time.time(), step=step, summary=summary))

    def sync(self) -> None:
        """Returns when all lines are on disk."""
        with writing(self._path):
            os.fsync(self._file.fileno())
            self._events.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what could not be flushed has been reported
            self._file.close()
        with contextlib.suppress(OSError, ValueError):
            self._events.close()


class NoLog:
    """The log of a process that does not write."""

    def write(self, step: int, timings: dict | None = None, **values) -> None:
        pass

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass


def _commit() -> str | None:
    """The commit of the checkout that gjax runs from, None for an installed package."""
    try:
        root = Path(gjax.__file__).parent.parent
        command = ['git', '-C', str(root), 'describe', '--always', '--dirty', '--abbrev=12']
        if not (root / '.git').exists():
            return None
        done = subprocess.run(command, capture_output=True, encoding='utf-8', errors='replace', timeout=10, check=False)
    except FileNotFoundError:
        return _read_commit(root / '.git')
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else _read_commit(root / '.git')


def _read_commit(folder: Path) -> str | None:
    """The commit in a .git folder, marked '-unchecked', where git itself will not look (it is missing, or the checkout is
    another user's, whose hooks it would run).
    """
    try:
        if folder.is_file():  # of a worktree or a submodule, whose path is relative
            folder = folder.parent / folder.read_text(encoding='utf-8').strip().removeprefix('gitdir: ')
        head = (folder / 'HEAD').read_text(encoding='utf-8').strip()
        if head.startswith('ref: '):
            shared = folder / 'commondir'
            shared = folder / shared.read_text(encoding='utf-8').strip() if shared.is_file() else folder
            name = head.removeprefix('ref: ')
            if (shared / name).is_file():
                head = (shared / name).read_text(encoding='utf-8').strip()
            else:
                lines = [line.split() for line in (shared / 'packed-refs').read_text(encoding='utf-8').splitlines()]
                head = next(line[0] for line in lines if line[1:] == [name])
    except (OSError, ValueError, StopIteration):
        return None
    return f'{head[:12]}-unchecked' if head.isalnum() else None


def provenance(parent: str = '') -> dict:
    """Versions, commit and devices, for run.json."""
    versions = {name: getattr(sys.modules.get(name), '__version__', None) for name in ('jax', 'flax', 'optax', 'numpy')}
    return {
        'versions': {'gjax': gjax.__version__, 'python': platform.python_version(), **versions},
        'commit': _commit(),
        'devices': [d.device_kind for d in jax.devices()],
        'platform': jax.default_backend(),
        'parent': parent,
        'format': FORMAT,
        'started': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
    }
