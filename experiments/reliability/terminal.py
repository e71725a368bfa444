"""What a terminal or a cluster does to real runs: signals at any moment, standard streams full, missing or unread."""

import contextlib
import os
import signal
import subprocess

from experiments.reliability.bench import CODES, Bench, Outcome, last_line
from gjax.train.store.records import read_metrics


def signals_at_any_time(bench: Bench, times: int = 21) -> Outcome:
    """One signal each, at a random moment: while a run starts, while it trains and in its final evaluation, in turn.

    It must end with one line, the signal's exit code and no output, or be done by then. The run goes on to the next signal;
    after three it is resumed to its end and compared.
    """
    failures, saved = [], 0
    for attempt in range(times):
        workdir, phase = bench.root / f'any{attempt // 3}', attempt % 3
        number = list(CODES)[int(bench.rng.integers(3))]
        process = bench.start(workdir)
        if bench.until(process, lambda p=process: _blocks_signals(p)):
            if phase == 1:
                bench.until_it_trains(process, workdir)
            elif phase == 2:
                bench.until(process, lambda w=workdir: _trained(w))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(bench.rng.uniform(0.0, (4.0, 0.3, 0.5)[phase]))
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
        saved += 'saved; the same command resumes' in err
        good = process.returncode == CODES[number] and not out and err.startswith('gjax: ') and err.count('\n') == 1
        if not good and not (process.returncode == 0 and (workdir / 'results.json').is_file()):
            failures.append(f'{number.name} number {attempt}: exit code {process.returncode}: {last_line(err)}')
        if (phase == 2 or attempt == times - 1) and (failure := bench.judge(workdir)):
            failures.append(f'{number.name} number {attempt}: {failure}')
    notes = f'from the first line to the last, {saved} times with something to save: one line, exit codes 130, 143 and 129'
    return Outcome('SIGINT, SIGTERM, SIGHUP at random moments', times, tuple(failures), notes)


def _blocks_signals(process) -> bool:
    """Whether the process is past Python's own start: its main thread leaves SIGINT to another one."""
    with open(f'/proc/{process.pid}/status', encoding='utf-8') as file:
        masks = [int(line.split()[1], 16) for line in file if line.startswith('SigBlk')]
    return any(mask >> (signal.SIGINT - 1) & 1 for mask in masks)


def _trained(workdir) -> bool:
    log = workdir / 'metrics.jsonl'
    lines = read_metrics(log) if log.exists() else []
    return bool(lines) and lines[-1]['progress'] == 1


def streams(bench: Bench) -> Outcome:
    """A standard error that is full, missing, or whose reader has gone; a standard output with the same fate."""
    failures = []
    for name, number, code in (
        ('a full standard error', 2, 0),
        ('a missing standard error', 2, 0),
        ('a standard error that nobody reads', 2, 0),
        ('a full standard output', 1, 1),
        ('a missing standard output', 1, 0),
        ('a standard output that nobody reads', 1, 0),
    ):
        workdir = bench.root / name.replace(' ', '_')
        with open('/dev/full', 'w', encoding='utf-8') as full, _unread() as unread:
            broken = {'a full': full, 'a missing': None}.get(' '.join(name.split()[:2]), unread)
            options = {('stdout', 'stderr')[number - 1]: broken, 'closed': (number,) if broken is None else ()}
            process = bench.start(workdir, shown=True, **options)
            process.communicate(timeout=600)
        if process.returncode != code:
            failures.append(f'{name}: exit code {process.returncode}')
        elif failure := bench.differs(workdir):
            failures.append(f'{name}: {failure}')
    notes = (
        'full, missing or without a reader: the run is that of others; only a full standard output is told, by exit code 1'
    )
    return Outcome('standard output, standard error', 6, tuple(failures), notes)


@contextlib.contextmanager
def _unread():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, 'w', encoding='utf-8') as stream:
        yield stream
