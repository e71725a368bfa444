"""kill -9 at random moments of runs of every method; each run then goes on to its end, which no kill may change."""

import contextlib
import signal
import subprocess
from pathlib import Path

from experiments.reliability.bench import Bench, Outcome, half_written, last_line

# Runs of seconds, of steps enough to be killed among, in which half of the time is saving.
SETTINGS = {'train.total_steps': 200, 'train.checkpoint_every_steps': 9, 'train.eval_every_steps': 100}
_FILE = """from pathlib import Path
from gjax.train import config

def get_config():
    found = config.from_json(Path(__file__).with_suffix('.json').read_text(encoding='utf-8'))
    found.unlock()
    return found
"""


def every_case() -> tuple[str, ...]:
    """The tiny configs of the tests' contract: every method, some in several variants."""
    from tests.contract.cases import CASES

    return tuple(CASES)


def bench_of(case: str, root: Path, seed: int) -> Bench:
    """A bench for the tiny config of a contract case on the tests' toy data."""
    from gjax.train import config as configs
    from tests.contract.cases import BATTERY, tiny_config
    from tests.toy import write_toy

    folder = root / case
    folder.mkdir(parents=True)
    write_toy(folder)
    config = tiny_config(case, f'npz:{folder}/toy.npz')
    configs.override(config, BATTERY[case].training | SETTINGS)
    (folder / 'tiny.py').write_text(_FILE, encoding='utf-8')
    (folder / 'tiny.json').write_text(configs.to_json(config), encoding='utf-8')
    quick = {'XLA_FLAGS': '--xla_backend_optimization_level=0'}  # most of the time is compilation
    return Bench(folder, seed, config=str(folder / 'tiny.py'), base={}, environment=quick)


def kill_every_method(root: Path, kills: int = 100, seed: int = 0, cases: tuple[str, ...] = ()) -> Outcome:
    """kill -9 of runs of all cases in turn, each case's kills one after the other in one run.

    Args:
      root: where the runs go.
      kills: how many in all.
      seed: of the random moments.
      cases: of the contract; default all.
    """
    cases, done, saving, failures = cases or every_case(), 0, 0, []
    for number, case in enumerate(cases[:kills]):
        own = kills // len(cases) + (number < kills % len(cases))
        bench = bench_of(case, root, seed + number)
        killed, half, failure = kill_at_random_moments(bench, own, first=number)
        done, saving = done + killed, saving + half
        failures += [f'{case}: {failure}'] if failure else []
    runs = f'runs of {min(kills, len(cases))} tiny configs' + (
        ', of every method' if set(every_case()) <= set(cases[:kills]) else ''
    )
    notes = f'{runs}; {saving} times with a half-written checkpoint; resumed each time: results, log and state bit-identical'
    return Outcome('kill -9 at random moments, during saves too', done, tuple(failures[:done]), notes)


def kill_at_random_moments(bench: Bench, kills: int, first: int = 0) -> tuple[int, int, str]:
    """Kills one run again and again, which the same command resumes each time, and compares its end.

    A quarter of the kills come while the process starts, a quarter while it trains, half while it saves, in turn; `first` is
    where in this turn it begins. A run that is done before it can be killed is compared, and another begun.

    Returns:
      (kills, how many of them left a half-written checkpoint, '' or the first failure).
    """
    done, saving, runs = 0, 0, 0
    while done < kills and runs <= kills:
        workdir = bench.root / f'killed{runs}'
        process, moment = bench.start(workdir), (first + done) % 4
        if moment == 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(bench.rng.uniform(0.5, 6.0))
        elif bench.until_it_trains(process, workdir):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(bench.rng.uniform(0.0, 0.3))
            if moment > 1:
                bench.until(process, lambda w=workdir: half_written(w))
        process.kill()
        _, stderr = process.communicate()
        if process.returncode == 0:
            if failure := bench.differs(workdir):
                return done, saving, f'a run that was not killed: {failure}'
            runs += 1
            continue
        done += 1
        saving += half_written(workdir)
        if process.returncode != -signal.SIGKILL:
            return done, saving, f'kill {done}: it ended by itself with {process.returncode}: {last_line(stderr)}'
    if done < kills:
        return done, saving, f'its runs ended before they could be killed {kills} times'
    failure = bench.judge(bench.root / f'killed{runs}')
    return done, saving, f'after {done} kills: {failure}' if failure else ''
