"""A run that nothing disturbs, the same command for others, and what must hold of them after a fault."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

CONFIG = 'iaat/digits.py:iaat'
SETTINGS = {
    'data.name': 'digits',
    'train.batch_size': 96,
    'train.eval_batch_size': 120,
    'train.total_epochs': 20,
    'train.steps_per_call': 7,
    'train.checkpoint_every_steps': 7,
    'train.eval_every_epochs': 5,
    'method.warmup_epochs': 2,
    'method.attack_steps': 2,
    'net.widths': '(4, 8)',
    'net.hidden': 8,
    'evaluation.steps': 2,
    'evaluation.restarts': 1,
    'evaluation.quick_steps': 1,
    'evaluation.curve': '(0.1,)',
    'evaluation.curve_steps': 1,
    'evaluation.attacks': "('pgd',)",
    'evaluation.warnings': False,
}
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}  # with which a run that they stop ends
TEXT = {'encoding': 'utf-8', 'errors': 'replace'}  # how what a process of gjax says is read


_LAUNCHER = """
import os, signal, sys
closed, ignored = ([int(number) for number in text.split(',') if number] for text in sys.argv[1:3])
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
for number in closed:
    os.close(number)
os.execv(sys.argv[3], sys.argv[3:])
"""


def launched(command: list[str], *, closed=(), ignored=()) -> list[str]:
    """The command, begun without these descriptors, with these of SIGHUP, SIGINT and SIGTERM ignored and the others not.

    A shell script that is put in the background ignores SIGINT, nohup SIGHUP, and what they start inherits that. (Popen's
    preexec_fn would fork this process, which JAX's threads forbid.)
    """
    return [sys.executable, '-c', _LAUNCHER, *(','.join(str(int(n)) for n in each) for each in (closed, ignored)), *command]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How often a fault was tried and survived; `notes` says what it did, `failures` what went wrong, one line each."""

    fault: str
    tried: int
    failures: tuple[str, ...]
    notes: str

    @property
    def lost(self) -> int:
        return len(self.failures)

    @property
    def survived(self) -> int:
        return self.tried - self.lost


class Bench:
    """A folder of runs of one config, the undisturbed one among them, and the random moments of the faults.

    settings: overrides of the config, beside those of `base`, by default SETTINGS.
    environment: variables of the processes, beside this one's.
    """

    def __init__(
        self,
        root: Path,
        seed: int = 0,
        settings: dict | None = None,
        *,
        config: str = CONFIG,
        base: dict | None = None,
        environment: dict | None = None,
    ):
        self.root, self.rng, self.config = Path(root), np.random.default_rng(seed), config
        self.settings = (SETTINGS if base is None else base) | (settings or {})
        self.root.mkdir(parents=True, exist_ok=True)
        # One device, as the run that it is compared with; what is compiled once is compiled for all.
        self.environment = {'JAX_NUM_CPU_DEVICES': '1', 'GJAX_PROGRESS': '0'}
        self.environment |= {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.1'}
        self.environment = {'JAX_COMPILATION_CACHE_DIR': str(self.root / 'jax_cache')} | os.environ | self.environment
        self.environment |= environment or {}
        self.whole = self.undisturbed()

    def command(self, workdir: Path, *extra: str) -> list[str]:
        flags = [f'--config.{key}={value}' for key, value in self.settings.items()]
        return [sys.executable, '-m', 'gjax', 'train', f'--config={self.config}', f'--workdir={workdir}', *flags, *extra]

    def start(self, workdir: Path, *extra: str, shown: bool = False, closed=(), **options) -> subprocess.Popen:
        """The command as a process; shown: with its progress bar; closed: without these descriptors. options: of Popen, in
        place of pipes too.
        """
        pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, **TEXT}
        environment = self.environment | {'GJAX_PROGRESS': str(int(shown))}
        command = launched(self.command(workdir, *extra), closed=closed)
        return subprocess.Popen(command, env=environment, **(pipes | options))

    def finish(self, workdir: Path, *extra: str) -> subprocess.CompletedProcess:
        """The same command, to its end."""
        process = self.start(workdir, *extra)
        out, err = process.communicate(timeout=600)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start_several(self, workdir: Path, count: int) -> list[subprocess.Popen]:
        """The processes of one run, on this machine."""
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            address = f'127.0.0.1:{probe.getsockname()[1]}'
        flags = [f'--coordinator_address={address}', f'--num_processes={count}']
        return [self.start(workdir, *flags, f'--process_id={i}') for i in range(count)]

    def finish_several(self, running, seconds: float) -> list[subprocess.CompletedProcess]:
        """How each ended; one that has not in that time is killed, and its return code is None."""
        ends = []
        deadline = time.monotonic() + seconds
        for process in running:
            try:
                out, err = process.communicate(timeout=max(1.0, deadline - time.monotonic()))
                code = process.returncode
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                code = None
            ends.append(subprocess.CompletedProcess(process.args, code, out, err))
        return ends

    def undisturbed(self, *extra: str) -> Path:
        """The same command with nothing done to it, run once: other programs (streamed data, say) may round otherwise."""
        workdir = self.root / '-'.join(['whole', *(flag.rpartition('.')[2] for flag in extra)])
        if not (workdir / 'results.json').is_file():
            done = self.finish(workdir, *extra)
            if done.returncode:
                raise RuntimeError(f'the undisturbed run failed: {done.stderr}')
        return workdir

    def differs(self, workdir: Path, *extra: str) -> str:
        """'' if this run left what the undisturbed one left, else what differs."""
        whole = self.undisturbed(*extra)
        for name in ('results.json', 'metrics.jsonl'):
            file = workdir / name
            if not file.is_file() or file.read_bytes() != (whole / name).read_bytes():
                return f'{name} is not that of the undisturbed run'
        if _digest_of_checkpoint(workdir) != _digest_of_checkpoint(whole):
            return 'the last state is not that of the undisturbed run'
        return ''

    def judge(self, workdir: Path, *extra: str) -> str:
        """Runs the same command to its end; '' if all is as it would have been."""
        done = self.finish(workdir, *extra)
        if done.returncode:
            return f'the same command ended with {done.returncode}: {last_line(done.stderr)}'
        return self.differs(workdir, *extra)

    def until_it_trains(self, process, workdir: Path) -> bool:
        """Waits until the process has logged a step of its own; False if it ended before."""
        log = workdir / 'metrics.jsonl'
        before = log.stat().st_ino if log.exists() else -1  # a run that starts or resumes writes the log anew
        if not self.until(process, lambda: log.exists() and log.stat().st_ino != before):
            return False
        size = size_of(log)
        return self.until(process, lambda: size_of(log) > size)

    def until(self, process, condition, seconds: float = 120.0) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True


def size_of(file: Path) -> int:
    return file.stat().st_size if file.exists() else -1


def last_line(text: str) -> str:
    return ' '.join(text.strip().splitlines()[-1:])[:300]


def one_line(done) -> str:
    """'' if a process failed with code 1 and one line that says why, else what it did instead."""
    lines = done.stderr.strip().splitlines()
    if done.returncode == 1 and len(lines) == 1 and lines[0].startswith('gjax: error: '):
        return ''
    return f'exit code {done.returncode} and {len(lines)} lines: {last_line(done.stderr)}'


def _digest_of_checkpoint(workdir: Path) -> tuple[int, str]:
    """The step of the newest checkpoint and the digest of its state; (-1, '') if there is none."""
    steps = [int(path.name) for path in (workdir / 'checkpoints').glob('[0-9]*') if path.name.isdigit()]
    if not steps:
        return -1, ''
    metadata = workdir / 'checkpoints' / str(max(steps)) / 'meta' / 'metadata'
    return max(steps), json.loads(metadata.read_text(encoding='utf-8'))['sha256']


def half_written(workdir: Path) -> bool:
    """Whether a checkpoint that never was finished lies there."""
    return any((workdir / 'checkpoints').glob('*.orbax-checkpoint-tmp*'))
