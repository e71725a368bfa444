"""What a run leaves besides checkpoints: metrics.jsonl, TensorBoard events, run.json, whole files, a progress bar."""

import contextlib
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
from gjax.train.errors import RunError


@contextlib.contextmanager
def writing(path: Path):
    """Turns an error of the system while `path` is written (disk full, read-only, too large) into a RunError, one line."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f'{path} cannot be written: {error.strerror or error}; what is saved stays, and once that is mended the same '
            'command goes on'
        ) from error


@contextlib.contextmanager
def whole_file(path: Path):
    """A binary stream whose content becomes the file `path` when all of it is on disk; a reader never sees half of it.

    A link at `path` is replaced, not followed.

    Raises:
      RunError: it cannot be written; what was at `path` is still there.
    """
    temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
    with writing(path):
        try:
            temporary.unlink(missing_ok=True)  # of a process of this number that was killed: the first of a container is 1
            with temporary.open('xb') as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Writes a whole file or nothing."""
    with whole_file(path) as stream:
        stream.write(text.encode())


def write_json(path: Path, value) -> None:
    """`write_text` of indented JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + '\n')


def read_json(path: Path) -> dict:
    """The JSON object in a file of a run directory; RunError, one line, if it is something else."""
    try:
        if not path.is_file():  # a pipe would wait for ever
            raise OSError('not a file')
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f'{path} is damaged and cannot be read ({" ".join(str(error).split())[:120]})') from error
    if not isinstance(value, dict):
        raise RunError(f'{path} is damaged: it holds {type(value).__name__}, expected a JSON object')
    return value


def to_python(value):
    """Arrays as nested lists of Python numbers, non-finite ones as their names ('nan', 'inf')."""
    value = np.asarray(value).tolist()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def read_results(directory: Path) -> dict:
    """The results.json of a run directory; RunError if it is damaged."""
    results = read_json(directory / 'results.json')
    metrics = results.get('metrics')
    if not (isinstance(metrics, dict) and all(isinstance(value, int | float) for value in metrics.values())):
        raise RunError(f'{directory / "results.json"} is damaged: its metrics are not numbers by name')
    return results


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in an .npz file of a run directory, never unpickled; RunError if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:
        raise RunError(f'{path} is damaged and cannot be read ({" ".join(str(error).split())[:120]})') from error


def read_metrics(path: Path) -> list[dict]:
    """The lines of a metrics.jsonl, up to the first torn one."""
    lines = []
    for text in Path(path).read_text(errors='replace').splitlines() if Path(path).is_file() else ():
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
    step appears twice. `write` may take numbers that belong to this process's clock alone: those go to TensorBoard only.
    """

    def __init__(self, workdir: Path, step: int):
        EventsWriter, event_pb2, scalar = _tensorboard()
        self._path, self._proto, self._scalar = workdir / 'metrics.jsonl', event_pb2, scalar
        lines = [line for line in read_metrics(self._path) if line['step'] <= step]
        write_text(self._path, ''.join(json.dumps(line) + '\n' for line in lines))
        with writing(self._path):
            self._file = self._path.open('a')
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


class Speed:
    """How fast a run trains in this process, and how much of that it waits for data; not counting the call that compiles."""

    def __init__(self, batch_size: int, feed):
        self._batch_size, self._feed = batch_size, feed
        self._steps = self._seconds = self._waited = 0
        self._first = True

    def timed(self, calls, step: int):
        """Passes on the (state, step, metrics) of `Run.advance`; time that the devices rest does not count."""
        calls, started = iter(calls), time.monotonic()
        while True:
            waited = self._feed.waited
            try:
                state, stop, metrics = next(calls)
            except StopIteration:
                return
            now = time.monotonic()
            if not self._first:
                self._steps += stop - step
                self._seconds += now - started
                self._waited += self._feed.waited - waited
            self._first, step, started = False, stop, now
            yield state, stop, metrics
            if state is not None:
                started = time.monotonic()

    def measured(self) -> dict[str, float]:
        """{'examples_per_second', 'data_wait_share'}; empty before the second call."""
        if not self._seconds:
            return {}
        rate = self._steps * self._batch_size / self._seconds
        return {'examples_per_second': round(rate, 1), 'data_wait_share': round(self._waited / self._seconds, 4)}


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


def show(bar, losses: dict, timings: dict) -> None:
    """Puts the losses, examples/s and (if any) the share of time spent waiting for data beside a progress bar."""
    shown = {name.split('/')[0]: f'{value:.3f}' for name, value in losses.items() if name.startswith('loss')}
    if timings:
        shown['examples/s'] = f'{timings["examples_per_second"]:.0f}'
        if timings['data_wait_share'] >= 0.01:
            shown['waits for data'] = f'{timings["data_wait_share"]:.0%}'
    bar.set_postfix(shown, refresh=False)
