"""Faults done to real runs: kills, signals, full and read-only disks, damaged files, a clock that goes back.

Each function does one kind of fault some number of times and returns an `Outcome`. A fault is survived if the run ends as
promised (exit code, one line) and the same command then finishes with the very results.json and metrics.jsonl of a run
that nothing disturbed.
"""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from experiments.reliability.bench import CODES, TEXT, Bench, Outcome, last_line, one_line, size_of

STREAMED = ('--config.data.streaming=true', '--config.data.workers=1')


def signals(bench: Bench, times: int = 2) -> Outcome:
    """SIGINT, SIGTERM and SIGHUP at random moments of training, to the run or (Ctrl-C, scancel) to its data workers too."""
    failures = []
    for number, extra in itertools.product(CODES, ((), STREAMED)):
        for i in range(times):
            workdir = bench.root / f'{number.name}{len(extra)}{i}'
            process = bench.start(workdir, *extra, start_new_session=True)
            bench.until_it_trains(process, workdir)
            time.sleep(bench.rng.uniform(0.0, 0.2))
            if extra:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            _, stderr = process.communicate(timeout=120)
            if process.returncode != CODES[number] or 'saved; the same command resumes' not in stderr:
                failures.append(f'{number.name}: exit code {process.returncode}: {last_line(stderr)}')
            elif failure := bench.judge(workdir, *extra):
                failures.append(f'{number.name}: {failure}')
    notes = 'to the run, or to its data workers too; saved after the calls under way, exit codes 130, 143 and 129'
    return Outcome('SIGINT, SIGTERM, SIGHUP', 6 * times, tuple(failures), notes)


DAMAGES = {
    'truncated': lambda file: file.write_bytes(file.read_bytes()[: size_of(file) // 2]),
    'emptied': lambda file: file.write_bytes(b''),
    'deleted': lambda file: file.unlink(),
    'replaced': lambda file: file.write_text('[1]', encoding='utf-8'),
    'one bit flipped': lambda file: file.write_bytes(_flipped(file.read_bytes())),
}


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :] if content else b'\0'


def damaged_checkpoints(bench: Bench) -> Outcome:
    """Every file of the newest checkpoint truncated, emptied, deleted, replaced, with a bit flipped: never a wrong state."""
    from gjax.train import config as configs
    from gjax.train.run import Run
    from gjax.train.store.checkpoint import Checkpointer, digest, to_arrays

    like = Run(configs.read(bench.whole / 'config.json')).init()
    pristine = bench.whole / 'checkpoints'

    def restore(folder):
        with contextlib.closing(Checkpointer(folder)) as checkpoints:
            state, step = checkpoints.restore_latest(like)
        return step, digest(to_arrays(state))

    newest, older = sorted((int(p.name) for p in pristine.iterdir() if p.name.isdigit()), reverse=True)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        right = {newest: restore(pristine)[1]}
        without = bench.root / 'without_newest'
        shutil.copytree(pristine, without)
        shutil.rmtree(without / str(newest))
        right[older] = restore(without)[1]
        tried, fell_back, failures = 0, 0, []
        for file in sorted(p.relative_to(pristine) for p in (pristine / str(newest)).rglob('*') if p.is_file()):
            for name, damage in DAMAGES.items():
                copy = bench.root / 'damaged'
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(pristine, copy)
                damage(copy / file)
                tried += 1
                try:
                    step, found = restore(copy)
                except Exception as error:
                    failures.append(f'{file} {name}: {error}')
                    continue
                fell_back += step == older
                if found != right[step]:
                    failures.append(f'{file} {name}: a wrong state')
    notes = f'each file of the newest one: {fell_back} times the one before was used, else the damage did not matter'
    return Outcome(
        'checkpoint with a file truncated, emptied, deleted, replaced, a bit flipped', tried, tuple(failures), notes
    )


def can_mount() -> bool:
    """Whether this process may mount file systems (a root with that right)."""
    return os.geteuid() == 0 and shutil.which('mount') is not None and _try_mount()


def _try_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', folder], capture_output=True, check=False)
        if done.returncode == 0:
            subprocess.run(['umount', folder], check=True)
        return done.returncode == 0


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int):
    """A file system of that size at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={kilobytes}k', 'none', folder], check=True)
    try:
        yield
    finally:
        subprocess.run(['umount', '--lazy', folder], check=True)


def full_disks(bench: Bench, kilobytes=(16, 100, 160, 250)) -> Outcome:
    """A disk that fills up, at the start, in the first save, later: one line, and it goes on when there is room."""
    failures = []
    for size in kilobytes:
        disk = bench.root / f'disk{size}'
        with small_disk(disk, size):
            done = bench.finish(disk / 'run')
            failure = one_line(done) or ('' if 'No space left' in done.stderr else f'it said: {last_line(done.stderr)}')
            if not failure:
                subprocess.run(['mount', '-o', 'remount,size=64m', disk], check=True)
                failure = bench.judge(disk / 'run')
        failures += [f'{size} KB: {failure}'] if failure else []
    notes = f'file systems of {", ".join(map(str, kilobytes))} KB: one line, resumed when enlarged'
    return Outcome('disk full', len(kilobytes), tuple(failures), notes)


def full_disk_of_two(bench: Bench, kilobytes=(16, 120, 150, 180, 200)) -> Outcome:
    """A disk that fills up under two processes: process 0 says so in one line, the other ends too, and both resume."""
    failures = []
    for size in kilobytes:
        disk = bench.root / f'disk_of_two{size}'
        with small_disk(disk, size):
            ends = bench.finish_several(bench.start_several(disk / 'run', 2), 90)
            failure = '' if all(end.returncode for end in ends) else 'a process went on, or hung'
            said = ends[0].stderr
            failure = failure or ('' if 'No space left on device' in said else f'it said: {last_line(said)}')
            if not failure:
                subprocess.run(['mount', '-o', 'remount,size=64m', disk], check=True)
                ends = bench.finish_several(bench.start_several(disk / 'run', 2), 300)
                if any(end.returncode != 0 for end in ends):
                    failure = f'the same commands ended with {last_line(ends[0].stderr)}'
        failures += [f'{size} KB: {failure}'] if failure else []
    notes = f'file systems of {", ".join(map(str, kilobytes))} KB: one line, both end, both resume when enlarged'
    return Outcome('disk full under two processes', len(kilobytes), tuple(failures), notes)


_LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


def file_size_limits(bench: Bench, limits=(200, 4000, 12000)) -> Outcome:
    """The system refuses to let a file grow (as a quota does): one line, and the run goes on when it may."""
    failures = []
    for limit in limits:
        workdir = bench.root / f'limit{limit}'

        command = [sys.executable, '-c', _LIMITED, str(limit), *bench.command(workdir)]
        done = subprocess.run(command, env=bench.environment, capture_output=True, check=False, timeout=300, **TEXT)
        failure = one_line(done) or ('' if 'too large' in done.stderr else f'it said: {last_line(done.stderr)}')
        failure = failure or bench.judge(workdir)
        failures += [f'{limit} bytes: {failure}'] if failure else []
    return Outcome('writes refused (file size limit)', len(limits), tuple(failures), 'one line, resumed without the limit')


def read_only_workdir(bench: Bench) -> Outcome:
    """A workdir that cannot be written: refused in one line, nothing changed."""
    folder = bench.root / 'read_only'
    with small_disk(folder, 4096):
        shutil.copytree(bench.whole, folder / 'run')
        (folder / 'run' / 'results.json').unlink()
        subprocess.run(['mount', '-o', 'remount,ro', folder], check=True)
        failures = [one_line(bench.finish(folder / name)) for name in ('run', 'new')]
    return Outcome('read-only workdir', 2, tuple(filter(None, failures)), 'an old run and a new one: refused in one line')


def second_process(bench: Bench) -> Outcome:
    """Two processes started on one workdir: the second is refused, the first does not notice."""
    workdir = bench.root / 'twice'
    first = bench.start(workdir)
    bench.until_it_trains(first, workdir)
    second = bench.finish(workdir)
    _, stderr = first.communicate(timeout=300)
    failure = one_line(second) or ('' if 'is in use by another gjax process' in second.stderr else last_line(second.stderr))
    failure = failure or (f'the first: {last_line(stderr)}' if first.returncode else bench.differs(workdir))
    return Outcome('two runs on one workdir', 1, (failure,) if failure else (), 'the second is refused')


_BACKWARDS = """
import sys, time
started = time.monotonic()
time.time = lambda: 1.8e9 - 3600 * (time.monotonic() - started)
time.time_ns = lambda: int(1e9 * time.time())
from gjax.cli import main
sys.exit(main(sys.argv[1:]))
"""


def clock_going_backwards(bench: Bench) -> Outcome:
    """The wall clock loses an hour a second, over a kill and a resume."""
    workdir = bench.root / 'backwards'
    command = [sys.executable, '-c', _BACKWARDS, *bench.command(workdir)[3:]]
    process = subprocess.Popen(command, env=bench.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    bench.until_it_trains(process, workdir)
    bench.until(process, lambda: any((workdir / 'checkpoints').glob('[0-9]*/commit_success.txt')))
    process.kill()
    process.wait()
    done = subprocess.run(command, env=bench.environment, capture_output=True, check=False, timeout=300, **TEXT)
    failure = f'exit code {done.returncode}: {last_line(done.stderr)}' if done.returncode else bench.differs(workdir)
    return Outcome('clock going backwards', 1, (failure,) if failure else (), 'an hour a second, over a kill and a resume')


def torn_logs(bench: Bench, times: int = 4) -> Outcome:
    """metrics.jsonl cut anywhere in or after its last line: repaired, no step twice."""
    failures = []
    for i in range(times):
        workdir = bench.root / f'torn{i}'
        process = bench.start(workdir)
        bench.until_it_trains(process, workdir)
        bench.until(process, lambda w=workdir: len(list((w / 'checkpoints').glob('[0-9]*/commit_success.txt'))) > 1)
        process.kill()
        process.communicate()
        log = workdir / 'metrics.jsonl'
        content = log.read_bytes()
        log.write_bytes(content + json.dumps({'step': 10**6}).encode()[: 1 + int(bench.rng.integers(12))])
        if failure := bench.judge(workdir):
            failures.append(failure)
    return Outcome('metrics.jsonl with a torn last line', times, tuple(failures), 'repaired, no step twice')


def lost_process(bench: Bench) -> Outcome:
    """kill -9 of one of two processes of a run: the other ends within 60 s with one clear line, and a restart resumes."""
    workdir, failures = bench.root / 'lost', []
    first, second = bench.start_several(workdir, 2)
    bench.until_it_trains(first, workdir)
    bench.until(first, lambda: any((workdir / 'checkpoints').glob('[0-9]*/commit_success.txt')))
    second.kill()
    killed = time.monotonic()
    end, _ = bench.finish_several((first, second), 120)
    seconds = time.monotonic() - killed
    # Ours, from a failed collective operation, or JAX's own, when it notices first.
    clear = ('another process of this run failed or is gone; the same command resumes', 'another task died')
    if end.returncode in (0, None) or seconds > 60 or not any(words in end.stderr for words in clear):
        failures.append(f'the other ended after {seconds:.0f} s with {end.returncode}: {last_line(end.stderr)}')
    ends = bench.finish_several(bench.start_several(workdir, 2), 600)
    if any(end.returncode != 0 for end in ends):
        failures.append(f'the restart failed: {last_line(ends[0].stderr)}')
    elif json.loads((workdir / 'run.json').read_text(encoding='utf-8'))['resumed_at'] == 0:
        failures.append('the restart began anew')
    notes = 'the other ends within a minute, the same commands resume'
    return Outcome('one of two processes lost (kill -9)', 1, tuple(failures[:1]), notes)


def lost_data_worker(bench: Bench) -> Outcome:
    """kill -9 of a process that decodes a streamed set: the run ends with one line and resumes."""
    import psutil

    workdir = bench.root / 'worker'
    process = bench.start(workdir, *STREAMED)
    bench.until_it_trains(process, workdir)
    bench.until(process, lambda: any((workdir / 'checkpoints').glob('[0-9]*/commit_success.txt')))
    for child in psutil.Process(process.pid).children():
        if 'spawn_main' in ' '.join(child.cmdline()):
            child.kill()
    _, stderr = process.communicate(timeout=120)
    said = process.returncode == 1 and 'gjax: error: a data worker failed' in stderr and 'Traceback' not in stderr
    failure = '' if said else f'exit code {process.returncode}: {last_line(stderr)}'
    failure = failure or bench.judge(workdir, *STREAMED)
    return Outcome(
        'a data worker lost (kill -9)', 1, (failure,) if failure else (), 'the run says so and ends; then resumed'
    )
