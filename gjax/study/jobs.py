"""Several runs on this machine: one after the other in this process, or several at a time in processes of their own."""

import dataclasses
import os
import subprocess
import sys
import traceback
from pathlib import Path

from gjax import methods, signals
from gjax.train import config as configs
from gjax.train import progress
from gjax.train.errors import Interrupted, RunError
from gjax.train.store import files, records
from gjax.train.store.workdir import check_links, check_same_config


@dataclasses.dataclass(frozen=True)
class Job:
    """One run: its config file (with argument), the overrides, its run directory."""

    spec: str
    overrides: dict
    directory: Path

    @property
    def finished(self) -> bool:
        return (self.directory / 'results.json').exists()

    def check(self) -> None:
        """Raises RunError now if the config cannot be loaded or the directory holds another one."""
        config = configs.load(self.spec, self.overrides)
        try:
            methods.check(config)
        except ValueError as error:
            raise RunError(f'--config={self.spec}: {error}') from error
        check_same_config(config, self.directory)

    def flags(self) -> list[str]:
        """The arguments of `gjax` that do this job."""
        changed = [f'--config.{key}={value}' for key, value in self.overrides.items()]
        return ['train', f'--config={self.spec}', f'--workdir={self.directory}', *changed]

    def fraction(self) -> float:
        """The share of its work that is done, from its log: training is 80 % of it, the final evaluation the rest."""
        if self.finished:
            return 1.0
        lines = records.read_metrics(self.directory / 'metrics.jsonl')
        progress = lines[-1].get('progress', 0.0) if lines else 0.0
        return 0.8 * progress if isinstance(progress, int | float) else 0.0


def run_jobs(jobs: list[Job], at_a_time: int) -> None:
    """Runs or resumes the jobs that are not finished.

    One that fails stops no other: the rest go on, and the error at the end names them all. Processes of their own write
    their output to output.log in their directory.

    Raises:
      RunError: some failed.
      Interrupted: SIGINT, SIGTERM or SIGHUP came; running jobs were told to save.
    """
    jobs = [job for job in jobs if not job.finished]
    for job in jobs:
        check_links(job.directory)
    failures = _run_here(jobs) if at_a_time == 1 or len(jobs) == 1 else _run_apart(jobs, at_a_time)
    if failures:
        listed = '; '.join(f'{job.directory}: {reason}' for job, reason in failures[:5])
        more = f'; and {len(failures) - 5} more' if len(failures) > 5 else ''
        raise RunError(f'{len(failures)} of {len(jobs)} runs failed, finished ones are kept: {listed}{more}')


def _run_here(jobs) -> list[tuple[Job, str]]:
    from gjax.train.loop import train_and_evaluate

    failures = []
    for job in jobs:
        try:
            train_and_evaluate(configs.load(job.spec, job.overrides), job.directory)
            print(job.directory, flush=True)
        except Interrupted:
            raise
        except Exception as error:
            if not isinstance(error, RunError | ValueError):  # a mistake of ours
                traceback.print_exc()
            failures.append((job, ' '.join(f'{type(error).__name__}: {error}'.split())[:300]))
    return failures


def _run_apart(jobs, at_a_time: int) -> list[tuple[Job, str]]:
    waiting, running, failures, hold = list(jobs), {}, [], signals.Hold()
    bar = progress.progress(100, 0, f'{len(jobs)} runs, {at_a_time} at a time', unit='%')
    try:
        with hold:
            while (waiting or running) and not hold.number:
                while waiting and len(running) < at_a_time:
                    job = waiting.pop(0)
                    running[_start(job)] = job
                hold.wait(0.3)
                for process in [p for p in running if p.poll() is not None]:
                    job = running.pop(process)
                    if process.returncode:
                        text = (job.directory / 'output.log').read_text(encoding='utf-8', errors='replace')
                        last = text.strip().splitlines()[-1:]
                        failures.append((job, f'exit code {process.returncode}: {" ".join(last)}'))
                done = 100 * sum(job.fraction() for job in jobs) / len(jobs)
                bar.update(round(done) - bar.n)
    finally:
        bar.close()
        for process in running:
            process.terminate()
        for process in running:  # each saves first; a second signal ends the wait
            process.wait()
    if hold.number:
        text = 'stopped: finished runs are kept, the others told to save; the same command resumes'
        raise Interrupted(text, 128 + hold.number)
    return failures


def _start(job: Job) -> subprocess.Popen:
    """A process that does the job, and writes what it says to output.log in its directory."""
    with files.writing(job.directory):
        job.directory.mkdir(parents=True, exist_ok=True)
        with open(job.directory / 'output.log', 'a', encoding='utf-8') as output:
            command = [sys.executable, '-m', 'gjax', *job.flags()]
            environment = os.environ | {'GJAX_PROGRESS': '0'}
            return subprocess.Popen(command, stdout=output, stderr=output, env=environment)
