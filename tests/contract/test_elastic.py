"""Every method on 2 processes, and one of each kind on 4, is the run of one; checkpoints go on with other devices and
fewer processes."""

import json
import os
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from gjax.train.devices import data_mesh
from gjax.train.loop import train_and_evaluate
from gjax.train.run import Run
from gjax.train.store.records import read_metrics
from tests.contract.cases import CASES, L2, tiny_config
from tests.contract.several import examples_of_steps


def _several(count, data, out, streaming, cases):
    """Runs `cases` on `count` real processes with one CPU device each."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{probe.getsockname()[1]}'
    environment = os.environ | {'JAX_NUM_CPU_DEVICES': '1'}
    command = [sys.executable, '-m', 'tests.contract.several', address, str(count)]
    rest = [data, str(out), str(streaming), *cases]
    running = [
        subprocess.Popen(
            [*command, str(i), *rest], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
        )
        for i in range(count)
    ]
    try:
        errors = [process.communicate(timeout=120 + 30 * count * len(cases))[1] for process in running]  # all compile
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * count, errors


@pytest.fixture(scope='session')
def one(toy_data, once):
    """(case) -> the directory of its run by one process on one device, trained once."""
    mesh = data_mesh(jax.devices()[:1])

    def directory(case):
        return once(f'one_{case}', lambda out: train_and_evaluate(tiny_config(case, toy_data, **L2), out, mesh=mesh))

    return directory


def _assert_same_run(directory, expected):
    """Same results, and the same log step by step, to 1e-5."""
    results = [json.loads((d / 'results.json').read_text()) for d in (directory, expected)]
    assert {k: v for k, v in results[0].items() if k != 'metrics'} == {k: v for k, v in results[1].items() if k != 'metrics'}
    assert results[0]['metrics'] == pytest.approx(results[1]['metrics'], rel=1e-5, abs=1e-5)
    logs = [read_metrics(d / 'metrics.jsonl') for d in (directory, expected)]
    assert [line['step'] for line in logs[0]] == [line['step'] for line in logs[1]]
    for line, again in zip(*logs, strict=True):
        assert line.keys() == again.keys()
        for name, value in again.items():
            np.testing.assert_allclose(line[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


def _resume_from_the_middle(source, target, config, mesh):
    """Resumes a copy of a finished run from its last checkpoint but one on other devices."""
    shutil.copytree(source, target)
    (target / 'results.json').unlink()
    *_, before, last = sorted(int(folder.name) for folder in (target / 'checkpoints').glob('[0-9]*'))
    shutil.rmtree(target / 'checkpoints' / str(last))
    train_and_evaluate(config, target, mesh=mesh)
    assert json.loads((target / 'run.json').read_text())['resumed_at'] == before


def _check(case, directory, one, toy_data, tmp_path, streaming=False):
    _assert_same_run(directory / case, one(case))
    config, mesh = tiny_config(case, toy_data, data__streaming=streaming, **L2), data_mesh(jax.devices()[:1])
    examples = examples_of_steps(Run(tiny_config(case, toy_data, **L2), mesh))
    np.testing.assert_array_equal(np.load(directory / case / 'examples_of_steps.npy'), examples)
    _resume_from_the_middle(directory / case, tmp_path / 'alone', config, mesh)
    _assert_same_run(tmp_path / 'alone', one(case))


QUICK = ('iaat',)
MARKED = [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in sorted(CASES)]


@pytest.fixture
def two(case, toy_data, once):
    cases = QUICK if case in QUICK else sorted(set(CASES).difference(QUICK))
    return once(f'two_with_{cases[0]}', lambda out: _several(2, toy_data, out, False, cases))


@pytest.mark.parametrize('case', MARKED)
def test_two_processes_are_one_and_their_checkpoint_goes_on_in_one(case, two, one, toy_data, tmp_path):
    _check(case, two, one, toy_data, tmp_path)


@pytest.mark.slow
def test_two_processes_that_stream_are_one_that_does_not(one, toy_data, tmp_path):
    _several(2, toy_data, tmp_path, True, ['iaat'])
    _check('iaat', tmp_path, one, toy_data, tmp_path, streaming=True)


# One of each kind of state and feed; every process compiles every program, so that all cases would take half an hour.
FOUR = ('flow_robustness', 'gan', 'generate_to_adapt', 'iaat', 'lottery_tickets')


@pytest.fixture
def four(toy_data, once):
    return once('four', lambda out: _several(4, toy_data, out, False, FOUR))


@pytest.mark.slow
@pytest.mark.parametrize('case', FOUR)
def test_four_processes_are_one_and_their_checkpoint_goes_on_in_one(case, four, one, toy_data, tmp_path):
    _check(case, four, one, toy_data, tmp_path)


@pytest.mark.parametrize('case', MARKED)
def test_a_checkpoint_of_eight_devices_goes_on_with_1_2_4_and_8(case, toy_data, tmp_path):
    config = tiny_config(case, toy_data, **L2)
    meshes = {n: data_mesh(jax.devices()[:n]) for n in (1, 2, 4, 8)}
    whole = train_and_evaluate(config, tmp_path / 'whole', mesh=meshes[8])
    for n, mesh in meshes.items():
        _resume_from_the_middle(tmp_path / 'whole', tmp_path / str(n), config, mesh)
        _assert_same_run(tmp_path / str(n), tmp_path / 'whole')
    assert json.loads((tmp_path / '8' / 'results.json').read_text()) == whole
    assert (tmp_path / '8' / 'metrics.jsonl').read_text() == (tmp_path / 'whole' / 'metrics.jsonl').read_text()
