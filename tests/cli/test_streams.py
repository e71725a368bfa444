"""Standard streams that are full, closed, missing or of few characters; real processes, most of them without JAX."""

import os
import subprocess
import sys

import pytest

from experiments.reliability.bench import launched
from tests.cli.runner import tiny_environment, tiny_flags

BEGIN = 'import os, sys; from gjax import streams; streams.prepare()\n'
END = '\nsys.exit(streams.finish(0))'


def _run(*command, closed=(), **options):
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True, 'timeout': 300, 'check': False}
    environment = tiny_environment() | options.pop('env', {})
    return subprocess.run(launched([sys.executable, *command], closed=closed), env=environment, **(pipes | options))


def _says(code, **options):
    return _run('-c', BEGIN + code + END, **options)


def test_characters_that_the_terminal_lacks_are_escaped():
    code = "print('0.5 ± 0.1 \\udcff'); print('é', file=sys.stderr)"
    done = _says(code, env={'PYTHONIOENCODING': 'ascii'})
    assert (done.returncode, done.stdout, done.stderr) == (0, '0.5 \\xb1 0.1 \\udcff\n', '\\xe9\n')
    done = _says(code, env={'PYTHONIOENCODING': 'utf-8'})
    assert (done.stdout, done.stderr) == ('0.5 ± 0.1 \\udcff\n', 'é\n')


def test_a_full_standard_error_ends_nothing():
    with open('/dev/full', 'w', encoding='utf-8') as full:
        done = _says("print('a', file=sys.stderr, flush=True); print('b'); print('c', file=sys.stderr)", stderr=full)
        assert (done.returncode, done.stdout) == (0, 'b\n')


def test_a_full_standard_output_ends_nothing_and_is_told_at_the_end():
    with open('/dev/full', 'w', encoding='utf-8') as full:
        done = _says("print('a', flush=True); print('b', file=sys.stderr)", stdout=full)
    assert done.returncode == 1
    assert done.stderr == 'b\ngjax: error: standard output cannot be written: No space left on device\n'


def test_a_reader_that_has_gone_is_no_failure():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, 'w', encoding='utf-8') as gone:
        done = _run('-m', 'gjax', '--help', stdout=gone)
        assert (done.returncode, done.stderr) == (0, '')
        assert _run('-m', 'gjax', 'fly', stderr=gone).returncode == 2


def test_missing_descriptors_are_not_those_of_the_next_file(tmp_path):
    code = f"file = open({str(tmp_path / 'file')!r}, 'w'); assert file.fileno() > 2; print('a'); print('b', file=sys.stderr)"
    code += '\nassert sys.stdin.read() == ""; os.write(1, b"c"); os.write(2, b"d")'
    assert _says(code, closed=range(3), stdout=None, stderr=None).returncode == 0
    assert (tmp_path / 'file').read_text() == ''


@pytest.mark.slow
def test_a_run_without_a_standard_error_and_its_report_on_an_ascii_terminal(tmp_path):
    command = ['-m', 'gjax', 'train', '--config=iaat/digits.py:supervised', *tiny_flags()]
    shown = {'GJAX_PROGRESS': '1', 'PYTHONIOENCODING': 'ascii'}
    with open('/dev/full', 'w', encoding='utf-8') as full:
        done = _run(*command, '--config.seed=1', f'--workdir={tmp_path}/runs/é/seed1', stderr=full, env=shown)
    assert done.returncode == 0
    done = _run(*command, f'--workdir={tmp_path}/runs/é/seed0', stderr=None, closed=[2], env=shown)
    assert done.returncode == 0
    done = _run('-m', 'gjax', 'report', f'{tmp_path}/runs', f'--out={tmp_path}/out', env=shown)
    assert (done.returncode, done.stderr) == (0, '')
    assert '| \\xe9 | 2 | complete |' in done.stdout
    assert ' \\xb1 ' in done.stdout
    assert '| é | 2 | complete |' in (tmp_path / 'out' / 'report.md').read_text(encoding='utf-8')
