"""`gjax sweep`: one config over a grid of values, run here or written as commands for a cluster."""

import hashlib
import itertools
import re
import shlex
import unicodedata
from pathlib import Path

from gjax.study.jobs import Job, run_jobs
from gjax.study.report import report
from gjax.study.tables import printable
from gjax.train.errors import Interrupted, RunError


def split_values(text: str) -> list[str]:
    """The values of 'a,b,(1, 2)': split at commas outside brackets and quotes."""
    values, depth, quote, start = [], 0, '', 0
    for i, letter in enumerate(text):
        if quote:
            quote = '' if letter == quote else quote
        elif letter in '\'"':
            quote = letter
        elif letter in '([{':
            depth += 1
        elif letter in ')]}':
            depth = max(0, depth - 1)
        elif letter == ',' and depth == 0:
            values.append(text[start:i])
            start = i + 1
    return [value.strip() for value in (*values, text[start:])]


def parse_over(words: list[str]) -> dict[str, list[str]]:
    """{'seed': ['0', '1'], ...} from ['seed=0,1', 'config.net.hidden=8,16', ...]; RunError for anything else."""
    grid = {}
    for word in words:
        key, equals, text = word.removeprefix('config.').partition('=')
        values = split_values(text)
        if not (key and equals and all(values)):
            raise RunError(f'--over is {word!r}; allowed: KEY=VALUE,VALUE,...')
        if key in grid or len(set(values)) < len(values):
            raise RunError(f'--over is {word!r}; allowed: each key and each value once')
        grid[key] = values
    return grid


def _folder(key: str, value: str) -> str:
    """One folder name for KEY=VALUE: never a path of several parts; values that lose letters get a digest."""
    name = f'{key.rsplit(".", 1)[-1]}={value}'
    plain = re.sub(r'[^A-Za-z0-9._=+-]+', '-', name).strip('-')
    if plain == name and len(name) <= 60:
        return name
    return f'{plain[:60]}-{hashlib.sha256(value.encode()).hexdigest()[:8]}'


def plan(spec: str, overrides: dict, grid: dict[str, list[str]], workdir: Path) -> list[Job]:
    """A job for every combination, the last key varying fastest, in workdir/KEY=VALUE/...; all loaded once, so that mistakes
    show before anything runs."""
    names = [key.rsplit('.', 1)[-1] for key in grid]
    jobs = []
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        parts = [
            _folder(key if names.count(key.rsplit('.', 1)[-1]) == 1 else key.replace('.', '_'), value)
            for key, value in chosen.items()
        ]
        jobs.append(Job(spec, overrides | chosen, workdir.joinpath(*parts)))
    for job in jobs:
        job.check()
    return jobs


def commands(jobs: list[Job], encoding: str = 'utf-8') -> str:
    """One shell command a line, for the unfinished jobs.

    Args:
      jobs: of `plan`.
      encoding: of what they are printed to.

    Raises:
      RunError: an argument holds a control character, which might end the line, or what the encoding lacks.
    """
    lines = [['gjax', *job.flags()] for job in jobs if not job.finished]
    for word in dict.fromkeys(word for line in lines for word in line):
        wrong = [c for c in word if unicodedata.category(c) in ('Cc', 'Zl', 'Zp') or c != _written(c, encoding)]
        if wrong:
            shown = printable(word)
            raise RunError(f'--print cannot write {shown} for its {wrong[0]!a}; allowed: printable characters of {encoding}')
    return ''.join(shlex.join(line) + '\n' for line in lines)


def _written(letter: str, encoding: str) -> str:
    """The letter as it is read again from a file of this encoding."""
    return letter.encode(encoding, 'replace').decode(encoding)


def sweep(jobs: list[Job], workdir: Path, at_a_time: int) -> str:
    """Runs what is missing, then writes report.md, report.json and figures under workdir/report; returns the table.

    Raises:
      RunError: some runs failed; the report is written of the others.
    """
    failure = None
    try:
        run_jobs(jobs, at_a_time)
    except Interrupted:
        raise
    except RunError as error:
        failure = error
    begun = [job.directory for job in jobs if (job.directory / 'config.json').is_file()]
    table = report(begun, workdir / 'report') if begun else ''
    if failure is not None:
        raise RunError(f'{failure}; table of the runs: {workdir / "report" / "report.md"}') from failure
    return table
