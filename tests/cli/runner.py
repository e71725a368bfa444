"""gjax commands for tests: inside this process, which is enough for what they print and write, or as real processes."""

import contextlib
import io
import os
import subprocess
import sys
import warnings
from typing import NamedTuple
from unittest import mock

from gjax import cli

# Overrides that make a run of iaat/digits.py a matter of seconds.
TINY = {
    'data.name': 'digits',
    'train.total_epochs': '2',
    'train.steps_per_call': '5',
    'train.checkpoint_every_epochs': '1',
    'train.batch_size': '96',
    'train.eval_batch_size': '120',
    'net.widths': '(4, 8)',
    'net.hidden': '8',
    'evaluation.steps': '2',
    'evaluation.restarts': '1',
    'evaluation.quick_steps': '1',
    'evaluation.curve': '(0.1,)',
    'evaluation.curve_steps': '1',
    'evaluation.attacks': "('pgd',)",
    'evaluation.warnings': 'False',
}


class Done(NamedTuple):
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


def tiny_environment(**changes) -> dict:
    """The environment of a real process: one CPU device, no progress bar."""
    return os.environ | {'JAX_NUM_CPU_DEVICES': '1', 'GJAX_PROGRESS': '0'} | changes


def tiny_flags(**changes) -> list[str]:
    """TINY, with changes, as words of the command line."""
    return [f'--config.{key}={value}' for key, value in (TINY | changes).items()]


def real(*arguments, **changes) -> Done:
    """A command as a process of its own, with these changes of the environment."""
    command = [sys.executable, '-m', 'gjax', *map(str, arguments)]
    options = {'capture_output': True, 'text': True, 'timeout': 300, 'check': False}
    done = subprocess.run(command, env=tiny_environment(**changes), **options)
    return Done(done.returncode, done.stdout, done.stderr)


def gjax(*arguments, **changes) -> Done:
    """A command inside this process, on its eight devices; processes that it starts have one. Warnings are no errors."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, tiny_environment(**changes)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter('ignore')
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse: usage
            code = stop.code
    return Done(code, out.getvalue(), err.getvalue())


def train(workdir, config='iaat/digits.py:supervised', changes=None, run=gjax, **environment) -> Done:
    """gjax train with TINY and these changes."""
    return run('train', f'--config={config}', f'--workdir={workdir}', *tiny_flags(**(changes or {})), **environment)


def fails(done: Done, *words) -> None:
    """Asserts that a command failed with one line that holds these words."""
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.strip().splitlines() if line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith('gjax: error: ')
    for word in words:
        assert word in lines[0], lines[0]
