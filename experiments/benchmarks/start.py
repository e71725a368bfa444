"""How long a user waits: for `gjax --help`, and for the first training step of the mini main job, without and with what an
earlier run has compiled.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from experiments.benchmarks import measure
from gjax.train import config as configs
from gjax.train.errors import RunError

JOB = 'iaat/digits.py:iaat'
LIMIT = 600.0  # seconds until a first step is given up


def add_options(parser) -> None:
    parser.add_argument('--repetitions', type=int, default=3, help='starts of each')


def _environment(cache: Path) -> dict:
    """With gjax's own caches in this folder, programs that XLA has compiled among them."""
    inherited = {key: value for key, value in os.environ.items() if key != 'JAX_COMPILATION_CACHE_DIR'}
    return inherited | {'GJAX_CACHE': str(cache), 'GJAX_PROGRESS': '0'}


def help_seconds(cache: Path) -> float:
    """Of `gjax --help`, from the start of the process to its end."""
    started = time.monotonic()
    command = [sys.executable, '-m', 'gjax', '--help']
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=_environment(cache))
    return time.monotonic() - started


def first_step_seconds(cache: Path, job: str = JOB) -> float:
    """From the start of the process to the first line of a run's log, after one training step; then it is killed.

    Raises:
      RunError: it ended without one, or took longer than LIMIT.
    """
    with tempfile.TemporaryDirectory() as folder:
        log, started = Path(folder, 'run', 'metrics.jsonl'), time.monotonic()
        command = [sys.executable, '-m', 'gjax', 'train', f'--config={configs.experiments_dir() / job}']
        command += [f'--workdir={folder}/run', '--config.train.steps_per_call=1']
        output = Path(folder, 'output')
        with output.open('w', encoding='utf-8') as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=_environment(cache))
        try:
            while not (log.exists() and log.stat().st_size):
                if process.poll() is not None or time.monotonic() - started > LIMIT:
                    last = output.read_text(encoding='utf-8').strip().splitlines()[-1:]
                    raise RunError(f'{job} made no first step: {" ".join(last)[:300]}')
                time.sleep(0.01)
            return time.monotonic() - started
        finally:
            process.kill()
            process.wait()


def results(repetitions: int, job: str = JOB) -> dict:
    """Seconds of every repetition: 'help', 'cold' (an empty cache each time) and 'warm'."""
    machine, found = measure.machine(), {'help': [], 'cold': [], 'warm': []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repetitions):
            print(f'start: repetition {number + 1} of {repetitions}', file=sys.stderr, flush=True)
            cache = Path(folder, str(number))
            found['help'].append(help_seconds(cache))
            found['cold'].append(first_step_seconds(cache, job))
            found['warm'].append(first_step_seconds(cache, job))
    return {'machine': machine, 'job': job, 'seconds': found}


def run(arguments) -> dict:
    if arguments.repetitions < 1:
        raise RunError(f'--repetitions is {arguments.repetitions}; allowed: at least 1')
    return results(arguments.repetitions)


def text(results: dict) -> str:
    """Markdown."""
    titles = {
        'help': '`gjax --help`',
        'cold': f'first step of {results["job"]}, nothing compiled before',
        'warm': 'the same again',
    }
    rows = [[titles[name], measure.shown(values, 2)] for name, values in results['seconds'].items()]
    count = len(results['seconds']['help'])
    line = f'{measure.machine_line(results["machine"])}\nMedian (least - most) of {count} starts, from the process on.\n\n'
    return line + measure.table(['what', 'seconds'], rows)
