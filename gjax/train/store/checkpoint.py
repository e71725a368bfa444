"""Checkpoints: any pytree of arrays, whole, by step, with a digest; a damaged one is noticed and the one before is used."""

import contextlib
import hashlib
import logging
import os
import re
import shutil
import stat
import sys
import tempfile
import warnings
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from gjax.train import processes
from gjax.train.errors import RunError, RunWarning


def _is_key(leaf) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def to_arrays(state) -> dict[str, np.ndarray]:
    """The leaves as NumPy arrays by their path; random keys as their raw words."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    arrays = {jax.tree_util.keystr(path): jax.random.key_data(x) if _is_key(x) else x for path, x in leaves}
    return {name: np.asarray(jax.device_get(array)) for name, array in arrays.items()}


def from_arrays(arrays: dict[str, np.ndarray], like):
    """The inverse of `to_arrays`: a tree of the structure, types and shardings of `like`.

    Raises:
      ValueError: a leaf is missing, left over, or of another shape or dtype.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    if set(names) != set(arrays):
        raise ValueError(f'the checkpoint has other leaves: {sorted(set(names) ^ set(arrays))[:3]}')
    restored = []
    for name, (_, leaf) in zip(names, leaves, strict=True):
        array = arrays[name]
        target = jax.random.key_data(leaf) if _is_key(leaf) else leaf
        if array.shape != target.shape or array.dtype != target.dtype:
            raise ValueError(f'{name} is {array.dtype}{array.shape}; expected {target.dtype}{target.shape}')
        array = jax.device_put(array, target.sharding)
        restored.append(jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else array)
    return jax.tree_util.tree_unflatten(structure, restored)


def digest(arrays: dict[str, np.ndarray]) -> str:
    """sha256 over names, dtypes, shapes and bytes, in hex."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f'{name}|{array.dtype}|{array.shape}|'.encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _ignore_late_callbacks() -> None:
    """When one array of a checkpoint cannot be written, tensorstore tells the others' futures, whose event loop is gone by
    then, and Python prints a traceback for each. The write's own error is raised as always."""
    if getattr(sys.unraisablehook, 'ignores_late_callbacks', False):
        return
    shown = sys.unraisablehook

    def hook(unraisable):
        if not (isinstance(unraisable.exc_value, RuntimeError) and str(unraisable.exc_value) == 'Event loop is closed'):
            shown(unraisable)

    hook.ignores_late_callbacks = True
    sys.unraisablehook = hook
    # The same of reads: of a damaged checkpoint one error is raised, those of its other arrays are logged when collected.
    logging.getLogger('asyncio').addFilter(lambda record: 'OCDBT database' not in record.getMessage())


def _check_regular(step: Path) -> None:
    """ValueError if a checkpoint holds a pipe, a device or a socket, of which Orbax would read for ever."""
    for folder, _, names in os.walk(step):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # the run that writes here may delete it just now
                if not stat.S_ISREG(os.stat(os.path.join(folder, name)).st_mode):
                    raise ValueError(f'its {name!r} is no regular file')


def _opens(step: Path) -> bool:
    """Whether Orbax can open a folder that holds this checkpoint alone."""
    with tempfile.TemporaryDirectory() as view:
        Path(view, step.name).symlink_to(step)
        try:
            _check_regular(step)
            ocp.CheckpointManager(view, options=ocp.CheckpointManagerOptions(create=False, read_only=True)).close()
        except Exception:
            return False
    return True


def _options(keep: int, read_only: bool) -> ocp.CheckpointManagerOptions:
    """Every process is alone to Orbax, whose own barriers would hold all of them when one fails to write (disk full)."""
    alone = {}
    if processes.several():
        own = jax.process_index()
        options = ocp.options.MultiprocessingOptions(own, {own}, f'process{own}')
        alone = {'multiprocessing_options': options, 'enable_async_checkpointing': False}
    writing = {} if read_only else {'max_to_keep': keep, 'cleanup_tmp_directories': True}
    return ocp.CheckpointManagerOptions(create=False, read_only=read_only, **writing, **alone)


# What can be wrong with a checkpoint; of several processes that do not see the same, the greatest number counts.
_GONE, _DAMAGED, _OTHER = 1, 2, 3


class Checkpointer:
    """The checkpoints of one run, under `directory`; the newest `keep` stay. With `read_only` nothing there changes.

    Several processes hold the same arrays: process 0 writes them, all read, and all call the same methods.
    """

    def __init__(self, directory: Path, keep: int = 2, read_only: bool = False):
        # Orbax logs a page of tracebacks for every error that it also raises.
        logging.getLogger('absl').setLevel(logging.CRITICAL + 1)
        _ignore_late_callbacks()
        self._directory, self._view = Path(directory).absolute(), None
        self._read_only, self._writes = read_only, processes.is_main() and not read_only
        self._options = _options(keep, not self._writes)
        if self._writes:
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RunError(f'{self._directory} cannot be written: {error.strerror}') from error
        elif not read_only:
            processes.barrier('checkpoints opened')  # by process 0, which sets damaged ones aside
        try:
            self._manager = self._open_live() if read_only else self._open(self._directory)
        except Exception as error:
            self._manager = self._open_without_damaged(error)
        if self._writes:
            processes.barrier('checkpoints opened')

    def _open(self, directory: Path):
        """Orbax's manager, which reads metadata of every checkpoint in the folder."""
        for step in directory.glob('*'):
            if step.name.isdigit():
                _check_regular(step)
        return ocp.CheckpointManager(directory, options=self._options, item_names=('state', 'meta'))

    def _open_live(self):
        """Opens the folder; again for as long as the run that writes it changes it meanwhile."""
        while True:
            before = self._listed()
            try:
                return self._open(self._directory)
            except Exception:
                if self._listed() == before:
                    raise

    def _listed(self) -> set[str]:
        return {path.name for path in self._directory.glob('*') if path.name.isdigit()}

    def _open_without_damaged(self, error: Exception):
        """Orbax reads every checkpoint's metadata when it opens a folder, and fails for all where it fails for one."""
        steps = sorted(self._listed())
        good = [step for step in steps if _opens(self._directory / step)]
        if len(good) == len(steps):
            raise RunError(f'{self._directory} cannot be opened: {" ".join(str(error).split())[:160]}') from error
        if not good:
            raise RunError(f'no checkpoint in {self._directory} can be read{self._advice}') from error
        damaged = sorted(set(steps).difference(good))
        warnings.warn(
            f'checkpoint {", ".join(damaged)} is damaged and not used: unreadable metadata', RunWarning, stacklevel=3
        )
        if not self._writes:  # open a folder of links to the good ones
            self._view = tempfile.TemporaryDirectory()
            for step in good:
                Path(self._view.name, step).symlink_to(self._directory / step)
            return self._open(Path(self._view.name))
        for step in damaged:
            self._set_aside(int(step))
        return self._open(self._directory)

    @property
    def _advice(self) -> str:
        return '' if self._read_only else '; move that folder away to start again'

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state) -> None:
        """Writes the state, in the background of a single process; a step that has a checkpoint is left as it is.

        Raises:
          RunError: this or the write before cannot be done (disk full); the older checkpoints are untouched.
        """
        if not processes.several():
            self._save(step, state)
            return
        failure = None
        if self._writes:
            try:
                self._save(step, state)
                self.wait()
            except RunError as error:
                failure = error
        if processes.agree(int(failure is not None)):
            raise failure or RunError(f'process 0 cannot write a checkpoint in {self._directory}: its line says why')
        if not self._writes:
            self._manager.reload()

    def _save(self, step: int, state) -> None:
        if step in self._manager.all_steps():
            return
        arrays = to_arrays(state)
        meta = {'step': step, 'sha256': digest(arrays)}
        args = ocp.args.Composite(state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave(meta))
        with self._writing():
            self._manager.save(step, args=args, force=True)

    def wait(self) -> None:
        """Returns when every write is on disk; RunError as in `save`."""
        with self._writing():
            self._manager.wait_until_finished()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Ends the background work; what failed there has been raised by `save` or `wait`, or follows another error."""
        with contextlib.suppress(Exception):
            self._manager.close()
        if self._view is not None:
            self._view.cleanup()

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            code = re.search(r"os_error_code='(\d+)'", str(error)) or re.search(r'\[Errno (\d+)\]', str(error))
            reason = os.strerror(int(code[1])) if code else ' '.join(str(error).split())[:160]
            steps = [step for step in self.steps() if (self._directory / str(step)).is_dir()]
            good = f'the last good one is step {steps[-1]}, from which' if steps else 'there is none yet, but'
            raise RunError(
                f'a checkpoint cannot be written in {self._directory}: {reason}; {good} the same command goes on once that '
                'is mended'
            ) from error

    def _restore(self, step: int, args):
        """What Orbax reads of a checkpoint; ValueError as `_check_regular`."""
        _check_regular(self._directory / str(step))
        return self._manager.restore(step, args=args)

    def _read(self, step: int, like):
        expected = {name: np.zeros(a.shape, a.dtype) for name, a in to_arrays(like).items()}
        args = ocp.args.Composite(state=ocp.args.StandardRestore(expected), meta=ocp.args.JsonRestore())
        restored = self._restore(step, args)
        if digest(restored.state) != restored.meta['sha256']:
            raise ValueError('its bytes do not match its digest')
        return from_arrays(restored.state, like)

    def _try(self, step: int, like) -> tuple:
        """(state, 0, '') of a checkpoint, or (None, what is wrong with it, why)."""
        before = self._listed()
        try:
            return self._read(step, like), 0, ''
        except MemoryError:
            raise
        except Exception as error:
            if 'RESOURCE_EXHAUSTED' in str(error):  # the device is full, the checkpoint is not to blame
                raise
            if self._read_only and (str(step) not in before or self._listed() != before):
                return None, _GONE, 'the run that writes it has deleted it'
            if other := self._misfit(step, like):
                return None, _OTHER, other
            return None, _DAMAGED, ' '.join(str(error).split())[:160]

    def _misfit(self, step: int, like) -> str:
        """Why a whole checkpoint does not fit the state `like`; '' if it is not whole."""
        try:
            args = ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # Orbax wants to be told the form, which is in question
                restored = self._restore(step, args)
            arrays = {name: np.asarray(array) for name, array in restored.state.items()}
            if digest(arrays) != restored.meta['sha256']:
                return ''
        except Exception:
            return ''
        try:
            from_arrays(arrays, like)
        except ValueError as error:
            return ' '.join(str(error).split())[:160]
        return ''

    def restore_latest(self, like):
        """(state, step) of the newest checkpoint that every process can read, or None if there never was one.

        Newer ones that are damaged are reported by a warning and (unless read_only) renamed to N.damaged: the run will write
        those steps again. With read_only the run may go on meanwhile: what it deletes is looked for among its newer ones.

        Args:
          like: a state of the same structure, on the wanted devices, or a function that gives one if there is a checkpoint.

        Raises:
          RunError: there are checkpoints and none can be read, or the newest is whole and of a state of another form.
        """
        steps, damaged = self.steps(), []
        # Several processes may see different files (a shared file system lags): they agree on each step, and on failure.
        while (step := processes.agree(max(set(steps).difference(damaged), default=-1))) >= 0:
            like = like() if callable(like) else like
            state, fault, reason = self._try(step, like)
            fault = processes.agree(fault)
            if fault == _GONE:
                self._manager.reload()
                steps = self.steps()
                continue
            if fault == _OTHER:
                raise RunError(
                    f'checkpoint {step} in {self._directory} is whole and of another run: {reason}; use another '
                    '--workdir, or the config and the data of that run'
                )
            if fault == _DAMAGED:
                warnings.warn(f'checkpoint {step} is damaged and not used: {reason}', RunWarning, stacklevel=2)
                damaged.append(step)
                continue
            if damaged and not self._read_only:
                for bad in damaged if self._writes else ():
                    self._set_aside(bad)
                processes.barrier('damaged checkpoints set aside')
                self._manager.reload()
            return state, step
        if damaged:
            raise RunError(f'no checkpoint in {self._directory} can be read{self._advice}')
        return None

    def _set_aside(self, step: int) -> None:
        aside = self._directory / f'{step}.damaged'
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            (self._directory / str(step)).rename(aside)
