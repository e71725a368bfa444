"""Does every fault of this folder to real runs and prints the table of README.md.

python -m experiments.reliability --update_readme        eighty minutes beside other work on two CPU cores
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from experiments.reliability import faults, outside, terminal
from experiments.reliability.bench import Bench, Outcome
from experiments.reliability.kills import kill_every_method


def outcomes(bench: Bench, kills: int):
    """Every fault, one after the other; those that need the right to mount only where there is one."""
    yield kill_every_method(bench.root / 'kills', kills, int(bench.rng.integers(2**31)))
    yield faults.signals(bench)
    yield terminal.signals_at_any_time(bench)
    yield terminal.streams(bench)
    yield faults.damaged_checkpoints(bench)
    yield outside.compiled_programs(bench)
    yield outside.extractor_weights(bench)
    yield outside.irregular_files(bench)
    yield outside.downloads(bench)
    if faults.can_mount():
        yield faults.full_disks(bench)
        yield faults.full_disk_of_two(bench)
        yield faults.read_only_workdir(bench)
    yield faults.file_size_limits(bench)
    yield faults.torn_logs(bench)
    yield faults.clock_going_backwards(bench)
    yield faults.second_process(bench)
    yield faults.lost_process(bench)
    yield faults.lost_data_worker(bench)


def table(results: list[Outcome]) -> str:
    """Markdown."""
    lines = ['| fault | tried | survived | lost | what happens |', '|---|---|---|---|---|']
    lines += [f'| {o.fault} | {o.tried} | {o.survived} | {o.lost} | {o.notes} |' for o in results]
    return '\n'.join(lines) + '\n'


def main() -> int:
    parser = argparse.ArgumentParser('python -m experiments.reliability', description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=100, help='how often runs are killed, of all methods in turn')
    parser.add_argument('--seed', type=int, default=0, help='of the random moments')
    parser.add_argument('--workdir', help='where the runs go; default a temporary folder')
    parser.add_argument('--update_readme', action='store_true', help="write the table into the checkout's README.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(Path(arguments.workdir or temporary), arguments.seed)
        results = []
        for outcome in outcomes(bench, arguments.kills):
            results.append(outcome)
            print(f'{outcome.fault}: {outcome.survived} of {outcome.tried} survived', file=sys.stderr, flush=True)
            for failure in outcome.failures:
                print(f'  {failure}', file=sys.stderr, flush=True)
        if arguments.workdir:
            text = json.dumps([{'fault': o.fault, 'tried': o.tried, 'failures': o.failures} for o in results], indent=2)
            Path(arguments.workdir, 'reliability.json').write_text(text + '\n', encoding='utf-8')
    print(table(results))
    if arguments.update_readme:
        from gjax.study.tables import update_between
        from gjax.train.config import experiments_dir

        update_between(experiments_dir().parent / 'README.md', 'reliability', table(results))
    return min(1, sum(outcome.lost for outcome in results))


if __name__ == '__main__':
    sys.exit(main())
