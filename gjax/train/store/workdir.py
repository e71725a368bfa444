"""A run directory belongs to one config, and to one run at a time."""

import contextlib
import fcntl
import json
import os
import warnings
from pathlib import Path

from gjax.data.fingerprint import difference
from gjax.train import config as configs
from gjax.train import processes
from gjax.train.errors import RunError, RunWarning
from gjax.train.store import files

DATA_FILE = 'data.json'  # the fingerprints of a run's data sets
MACHINE_KEYS = ('data.dir', 'data.workers')  # where and with what a run is done, not what it is: free to change


def check_same_config(config, workdir: Path) -> None:
    """Raises RunError, naming the first key that differs, if the workdir holds a run of another config."""
    file = Path(workdir) / 'config.json'
    if not file.exists():
        return
    new = configs.flatten(json.loads(configs.to_json(configs.copy(config))))  # paths as those of the old one are written
    old = configs.flatten(_completed(file))
    keys = (old.keys() | new.keys()).difference(MACHINE_KEYS)
    for key in sorted(keys, key=lambda key: (key != 'method.name', key)):  # another method has other keys, too
        if old.get(key) != new.get(key):
            raise RunError(
                f'{workdir} holds a run with config.{key}={old.get(key)!r}, not {new.get(key)!r}; '
                'use another --workdir, or the same config to resume'
            )


def _completed(file: Path) -> dict:
    """The content of a config.json; keys that gjax did not have when it was written are at their defaults."""
    stored = files.read_json(file)
    try:
        return json.loads(configs.to_json(configs.from_json(json.dumps(stored))))
    except ValueError:  # damaged, or of a gjax with other keys: the first difference is named
        return stored


def check_same_data(fingerprints: dict, workdir: Path, *, names: tuple[str, ...] = (), accept: bool = False) -> None:
    """Raises RunError if the run in a directory saw other data under the name of a set than there is now, or other sets.

    Args:
      fingerprints: {set: `gjax.data.fingerprint.fingerprint`}, of now.
      workdir: a run directory; runs of older versions of gjax recorded nothing and pass.
      names: the sets that the run's config names, in their order: a `*` in it may stand for others than it did. () asks
        nothing, as of another stage's run.
      accept: warn where the data is other; other sets are refused all the same.
    """
    file = Path(workdir) / DATA_FILE
    if not file.exists():
        return
    content = files.read_json(file)
    recorded, then = content.get('sets', {}), content.get('names', [])
    if not isinstance(then, list):
        raise RunError(f'{file} is damaged: its names are {then!r:.80}')
    if names and then and list(names) != then:
        raise RunError(
            f'{workdir} began with the sets {", ".join(map(str, then))}; its config now names {", ".join(names)}: bring '
            'back the sets of then, or use another --workdir'
        )
    for name in fingerprints.keys() & recorded.keys():
        try:
            changed = difference(recorded[name], fingerprints[name])
        except (KeyError, TypeError, AttributeError) as error:
            raise RunError(f'{file} is damaged: its entry of {name!r} is no fingerprint') from error
        if changed and accept:
            warnings.warn(f'{workdir} began with other data: of {name}, {changed}', RunWarning, stacklevel=2)
        elif changed:
            raise RunError(
                f'{workdir} began with other data: of {name}, {changed}; bring back the data of then, use another --workdir '
                'or, to go on with what there is now, --accept_changed_data'
            )


def record_data(fingerprints: dict, names: tuple[str, ...], workdir: Path) -> None:
    """Writes the fingerprints of a run's sets, in process 0; those of data that was accepted replace the old ones.

    names: the sets that the run's config names, in their order.
    """
    if processes.is_main() and fingerprints:
        files.write_json(Path(workdir) / DATA_FILE, {'sets': fingerprints, 'names': list(names)})


@contextlib.contextmanager
def open_workdir(config, workdir: Path):
    """Creates the workdir with its config.json, or checks that it holds this very config; then keeps other runs out.

    The lock is the system's, on the file `lock`: it goes when the process does, however it ends.

    Raises:
      RunError: the workdir cannot be written, holds another config or links, or is in use.
    """
    workdir, lock = Path(workdir), None
    check_same_config(config, workdir)
    check_links(workdir)
    if processes.is_main():
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            lock = os.open(workdir / 'lock', os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise RunError(f'--workdir is {str(workdir)!r}, which cannot be written: {error.strerror}') from error
        try:
            with contextlib.suppress(OSError):  # some network file systems have no locks
                _lock(lock, workdir)
            for left in workdir.glob(f'.*{files.TEMPORARY}'):  # by a process that was killed while it wrote
                left.unlink()
            if not (workdir / 'config.json').exists():
                files.write_text(workdir / 'config.json', configs.to_json(config))
        except BaseException:
            os.close(lock)
            raise
    try:
        processes.barrier('workdir')
        yield
    finally:
        if lock is not None:
            os.close(lock)


def check_links(workdir: Path) -> None:
    """RunError if something that a run writes to is a link and would lead it out of its directory."""
    for entry in (*workdir.glob('*'), *workdir.glob('checkpoints/*')):
        if entry.is_symlink():
            raise RunError(f'{entry} is a link; a run writes only inside its own directory: put a file or folder there')


def _lock(descriptor: int, workdir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(f'{workdir} is in use by another gjax process; wait for it, or use another --workdir') from None
