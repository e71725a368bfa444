"""Measures one suite and prints its tables.

python -m experiments.benchmarks --suite=data --peer=torch --update_readme        about six minutes on two CPU cores
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

# Each a module here with add_options(parser), run(arguments) -> results, and text(results) -> Markdown.
SUITES = ('data', 'masks', 'steps', 'attacks', 'start', 'growth')
README = Path(__file__).parent / 'README.md'
FRONT = README.parents[2] / 'README.md'  # gets the suite's `summary(results)`, if it has one


def publish(suite: str, results: dict, text: str, out: Path, readme: Path | None = None) -> None:
    """Writes SUITE.json and SUITE.md to `out`, and the text between the markers `benchmark SUITE` of a readme."""
    from gjax.study.tables import update_between
    from gjax.train.store import files

    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / f'{suite}.json', results)
    files.write_text(out / f'{suite}.md', text)
    if readme:
        update_between(readme, f'benchmark {suite}', text)


def main(argv: list[str] | None = None) -> int:
    common = argparse.ArgumentParser('python -m experiments.benchmarks', add_help=False)
    common.add_argument('--suite', default='', help=f'one of: {", ".join(SUITES)}')
    common.add_argument('--out', default='runs/benchmarks', metavar='DIR', help='where SUITE.json and SUITE.md go')
    common.add_argument('--update_readme', action='store_true', help='write the tables into README.md beside this command')
    suite = common.parse_known_args(argv)[0].suite
    if suite not in SUITES:
        print(f'benchmarks: error: --suite is {suite!r}; known: {", ".join(SUITES)}', file=sys.stderr)
        return 1
    module = importlib.import_module(f'experiments.benchmarks.{suite}')
    parser = argparse.ArgumentParser(common.prog, description=module.__doc__.splitlines()[0], parents=[common])
    module.add_options(parser)
    arguments = parser.parse_args(argv)

    from gjax.data.dataset import DataError
    from gjax.study.tables import update_between
    from gjax.train.errors import RunError

    try:
        results = module.run(arguments)
        text = module.text(results)
        print(text)
        publish(suite, results, text, Path(arguments.out), README if arguments.update_readme else None)
        if arguments.update_readme and hasattr(module, 'summary'):
            update_between(FRONT, f'benchmark {suite}', module.summary(results))
    except (RunError, DataError, OSError) as error:
        print(f'benchmarks: error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # a peer needs memory of the same GPU
    sys.exit(main())
