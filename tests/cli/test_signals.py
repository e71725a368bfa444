"""Signals to stop and the standard streams: few real processes, without JAX where start and end are all that matters."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from experiments.reliability.bench import CODES, launched
from gjax import signals
from tests.cli.runner import tiny_environment

BEGIN = 'import hashlib, os, sys; from gjax import signals, streams; streams.prepare(); signals.watch()\n'
# Compiled code that no signal interrupts, without Python's lock, as XLA's programs are.
BUSY = "os.write(1, b'ready'); hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)\n"


def _start(*command, ignored=(), **options):
    """A process that takes all signals but those to be ignored, whatever pytest does with them."""
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True, 'env': tiny_environment()} | options
    return subprocess.Popen(launched([sys.executable, *command], ignored=ignored), **pipes)


def _busy(code, **options):
    process = _start('-c', BEGIN + code, **options)
    assert os.read(process.stdout.fileno(), 5) == b'ready'
    return process


def _watches(process) -> bool:
    """Whether the process has called `signals.watch`: its main thread blocks SIGINT."""
    with open(f'/proc/{process.pid}/status', encoding='utf-8') as file:
        (mask,) = (int(line.split()[1], 16) for line in file if line.startswith('SigBlk'))
    return bool(mask >> (signal.SIGINT - 1) & 1)


def until_it_watches(process) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and not _watches(process):
        assert time.monotonic() < deadline


@pytest.mark.parametrize('number', CODES)
def test_a_signal_ends_a_process_in_compiled_code_at_once_with_one_line(number):
    process = _busy(BUSY)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (CODES[number], f'gjax: stopped by {number.name}\n')


def test_an_evaluation_says_that_it_waits_and_a_second_signal_ends_it():
    process = _busy(f"with signals.Hold() as hold:\n hold.tells('waits')\n {BUSY}")
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline() == 'gjax: SIGTERM waits\n'
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, 'gjax: stopped by SIGINT\n')


def test_what_is_held_ends_by_itself():
    process = _busy("with signals.Hold() as hold:\n os.write(1, b'ready'); hold.wait(60)\nos._exit(7 * hold.number)")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (7 * signal.SIGINT, '')


def test_nohup_keeps_its_word():
    process = _busy("os.write(1, b'ready'); sys.stdin.read()", ignored=[signal.SIGHUP], stdin=subprocess.PIPE)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate('', timeout=60)
    assert (process.returncode, err) == (0, '')


def test_a_full_standard_error_delays_no_end():
    read, write = os.pipe()
    try:
        os.write(write, b'.' * fcntl.fcntl(write, fcntl.F_GETPIPE_SZ))
        process = _busy(BUSY, stderr=write)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    finally:
        os.close(read)
        os.close(write)


def test_the_entry_point_imports_nothing_that_takes_long_before_it_begins():
    code = "import sys; import gjax.cli; print(*{'jax', 'numpy', 'argparse', 'json', 'pathlib'} & set(sys.modules))"
    process = _start('-S', '-c', code)
    assert process.communicate(timeout=60) == ('\n', '')


def test_a_command_ends_with_one_line_while_it_is_still_importing():
    process = _start('-m', 'gjax', 'eval', '--workdir=nowhere')
    until_it_watches(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, '', 'gjax: stopped by SIGINT\n')


def test_a_notebook_gets_its_own_handlers_back(capsys):
    before = [signal.getsignal(number) for number in signals.STOPS]
    with signals.Hold() as hold:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert (hold.number, hold.told) == (signal.SIGTERM, False)
    with signals.Hold() as hold:
        hold.tells('waits')
        signal.raise_signal(signal.SIGTERM)
        assert (hold.number, hold.told) == (signal.SIGTERM, True)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in signals.STOPS] == before
    assert capsys.readouterr().err == 'gjax: SIGTERM waits\n'
