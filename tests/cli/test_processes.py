"""Real processes on this machine: a signal stops all, flags and launchers are understood (tests/contract has the rest)."""

import json
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest

from gjax.train import processes
from gjax.train.errors import RunError
from gjax.train.store.records import read_metrics
from tests.cli.runner import gjax, tiny_environment, tiny_flags

CONFIG = 'iaat/digits.py:iaat'
# In the l2 ball, where rounding stays rounding (tests/contract).
L2 = {'method.attack_norm': 'l2', 'method.eps': '1.0', 'method.gamma': '0.2', 'method.min_step': '0.2'}
L2 |= {'evaluation.norm': 'l2', 'evaluation.eps': '1.0', 'evaluation.step_size': '0.5', 'evaluation.curve': '(0.5,)'}
CHANGES = {'method.warmup_epochs': '0', 'train.total_epochs': '1', 'optimizer.learning_rate': '0.01'} | L2


def _start(workdir, count, changes, own=None):
    """`count` processes of one run, one CPU device each; own: changes of single processes, by number."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{probe.getsockname()[1]}'
    command = [sys.executable, '-m', 'gjax', 'train', f'--config={CONFIG}', f'--workdir={workdir}']
    flags = [tiny_flags(**(changes | (own or {}).get(i, {}))) for i in range(count)]
    several = [f'--coordinator_address={address}', f'--num_processes={count}']
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True, 'env': tiny_environment()}
    return [subprocess.Popen([*command, *flags[i], *several, f'--process_id={i}'], **pipes) for i in range(count)]


def _finish(running, timeout=240):
    try:
        pairs = [process.communicate(timeout=timeout) for process in running]
        own = [''.join(line for line in out.splitlines(True) if not line.startswith('[Gloo]')) for out, _ in pairs]
        return [(out, err, process.returncode) for out, (_, err), process in zip(own, pairs, running, strict=True)]
    finally:
        for process in running:
            process.kill()


def _until(condition, seconds=200):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_signal_to_one_of_two_processes_stops_both_saved(tmp_path):
    changes = CHANGES | {'train.total_epochs': '400', 'train.checkpoint_every_epochs': '1000'}
    running = _start(tmp_path / 'run', 2, changes)
    _until((tmp_path / 'run' / 'metrics.jsonl').exists)
    running[1].send_signal(signal.SIGTERM)
    for _, err, code in _finish(running):
        assert code == 143, err
        assert 'SIGTERM at step' in err
        assert 'saved; the same command resumes' in err
    (saved,) = (int(p.name) for p in (tmp_path / 'run' / 'checkpoints').iterdir() if p.name.isdigit())
    assert saved == read_metrics(tmp_path / 'run' / 'metrics.jsonl')[-1]['step']


@pytest.mark.slow
def test_one_that_cannot_start_ends_the_others(tmp_path):
    """Its config is wrong: the others, which wait for it, end within a minute."""
    running = _start(tmp_path / 'run', 2, CHANGES, {1: {'train.total_epochs': 'many'}})
    (_, err, code), (_, own, own_code) = _finish(running, timeout=90)
    assert own_code == 1, own
    assert "config.train.total_epochs is 'many'" in own
    assert code not in (0, None), err


@pytest.mark.slow
def test_a_signal_while_two_processes_start_stops_both_saved(tmp_path):
    running = _start(tmp_path / 'run', 2, CHANGES | {'train.total_epochs': '400'})
    _until((tmp_path / 'run' / 'config.json').exists)  # joined, and not yet training
    running[1].send_signal(signal.SIGINT)
    for _, err, code in _finish(running, timeout=90):
        assert code == 130, err


@pytest.mark.slow
def test_autoattack_in_two_processes_finds_what_one_finds(tmp_path):
    changes = {'method.warmup_epochs': '0', 'evaluation.eps': '0.1', 'evaluation.steps': '10', 'evaluation.curve': '()'}
    changes |= {'evaluation.attacks': "('pgd', 'autoattack')"}
    for _, err, code in _finish(_start(tmp_path / 'run', 2, changes), timeout=400):
        assert code == 0, err
    two = json.loads((tmp_path / 'run' / 'results.json').read_text())['metrics']
    assert 0 <= two['robust_accuracy'] <= two['robust_accuracy_pgd'] < two['clean_accuracy']
    assert two['robust_accuracy_pgd'] > 0  # so that AutoAttack had images to attack
    one = json.loads(gjax('eval', f'--workdir={tmp_path / "run"}').stdout)['metrics']
    for name in ('clean_accuracy', 'robust_accuracy', 'robust_accuracy_pgd'):
        assert two[name] == pytest.approx(one[name], abs=1.5 / 360)  # other shares of a batch round differently


def test_flags_of_several_processes_are_checked(tmp_path):
    for flags, words in (
        (['--num_processes=2'], '--coordinator_address and --process_id missing'),
        (['--num_processes=2', '--process_id=2', '--coordinator_address=a:1'], '--process_id is 2 of --num_processes 2'),
        (
            ['--num_processes=2', '--process_id=0', '--coordinator_address=a'],
            "--coordinator_address is 'a'; allowed: HOST:PORT",
        ),
    ):
        with pytest.raises(RunError, match=words):
            processes.start(**{flag[2:].split('=')[0]: _value(flag) for flag in flags})


@pytest.fixture
def joined(monkeypatch):
    """What JAX is asked for, in place of joining."""
    asked = {}
    monkeypatch.setattr(jax.distributed, 'initialize', lambda **arguments: asked.update(arguments))
    monkeypatch.delenv('JAX_COORDINATOR_BIND_ADDRESS', raising=False)
    return asked


@pytest.mark.parametrize('address', ['127.0.0.1:1', 'localhost:1', '0.0.0.0:1'])
def test_the_coordinator_listens_where_it_is_found(joined, address):
    processes.start(address, 2, 0)
    assert joined['coordinator_bind_address'] == address
    processes.start(address, 2, 0, '127.0.0.1:2')
    assert joined['coordinator_bind_address'] == '127.0.0.1:2'
    processes.start(address, 2, 1)
    assert joined['coordinator_bind_address'] is None


def test_a_coordinator_behind_another_address_is_told_where_to_listen(joined, monkeypatch):
    with pytest.warns(UserWarning, match='listens on all interfaces: 192.0.2.77 .* --coordinator_bind_address=HOST:PORT'):
        processes.start('192.0.2.77:1', 2, 0)  # an address of no machine
    assert joined['coordinator_bind_address'] is None
    processes.start('192.0.2.77:1', 2, 0, '10.0.0.1:1')
    assert joined['coordinator_bind_address'] == '10.0.0.1:1'
    with pytest.raises(RunError, match="--coordinator_bind_address is 'a'; allowed: HOST:PORT"):
        processes.start('127.0.0.1:1', 2, 0, 'a')
    with pytest.raises(RunError, match=r'--coordinator_bind_address is .*; allowed: with --coordinator_address'):
        processes.start(coordinator_bind_address='127.0.0.1:1')
    monkeypatch.setenv('JAX_COORDINATOR_BIND_ADDRESS', '10.0.0.2:1')
    processes.start('192.0.2.77:1', 2, 0)
    assert joined['coordinator_bind_address'] is None  # JAX's own


def test_a_name_that_is_loopback_here_alone_is_not_where_others_come(monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('127.0.1.1', 0))]  # Debian's /etc/hosts
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *_, **__: found)
    assert not processes.is_here('my-machine')
    assert processes.is_here('127.0.1.1')
    assert processes.is_here('localhost')


def _value(flag):
    value = flag.partition('=')[2]
    return int(value) if value.isdigit() else value


def test_launchers_are_recognised(tmp_path):
    for environment, found in (
        ({}, False),
        ({'SLURM_NTASKS': '4', 'SLURM_PROCID': '0', 'SLURM_STEP_NODELIST': 'n[1-4]'}, True),
        ({'SLURM_NTASKS': '1', 'SLURM_PROCID': '0', 'SLURM_STEP_NODELIST': 'n1'}, False),
        ({'SLURM_JOB_ID': '7'}, False),
        ({'OMPI_COMM_WORLD_SIZE': '2'}, True),
        ({'KUBERNETES_SERVICE_HOST': '10.0.0.1'}, False),
        ({'TPU_WORKER_HOSTNAMES': 'a,b'}, True),
    ):
        assert processes.launched(environment) is found
    assert not processes.has_tpu(tmp_path)
