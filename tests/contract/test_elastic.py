"""A run on 2 or 4 processes is the run of one; checkpoints go on with other numbers of devices and fewer processes.

All this belongs to the engine, so it runs on one case of each kind of state and feed (`KINDS`).
"""

import json
import os
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from gjax.train.chain import Chain
from gjax.train.devices import data_mesh
from gjax.train.loop import train_and_evaluate
from gjax.train.run import Run
from gjax.train.store.records import read_metrics
from tests.contract.cases import KINDS, L2, ONE_ROLE_AND_TWO, chain_config, tiny_config
from tests.contract.several import CHAIN, examples_of_steps


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


def _check(case, directory, finished, toy_data, tmp_path, streaming=False):
    """A run of several processes is that of one, saw the same examples, and goes on in one process on one device."""
    one, mesh = finished(case, 1), data_mesh(jax.devices()[:1])
    _assert_same_run(directory / case, one)
    examples = examples_of_steps(Run(tiny_config(case, toy_data, **L2), mesh))
    np.testing.assert_array_equal(np.load(directory / case / 'examples_of_steps.npy'), examples)
    config = tiny_config(case, toy_data, data__streaming=streaming, **L2)
    _resume_from_the_middle(directory / case, tmp_path / 'alone', config, mesh)
    _assert_same_run(tmp_path / 'alone', one)


@pytest.fixture
def two(toy_data, once):
    return once('two', lambda out: _several(2, toy_data, out, False, KINDS))


@pytest.mark.slow
@pytest.mark.parametrize('case', KINDS)
def test_two_processes_are_one_and_their_checkpoint_goes_on_in_one(case, two, finished, toy_data, tmp_path):
    _check(case, two, finished, toy_data, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('case', ONE_ROLE_AND_TWO)
def test_two_processes_that_stream_are_one_that_does_not(case, finished, toy_data, tmp_path):
    _several(2, toy_data, tmp_path, True, [case])
    _check(case, tmp_path, finished, toy_data, tmp_path, streaming=True)


@pytest.mark.slow
def test_a_pipeline_on_two_processes_is_that_on_one_and_goes_on_in_one(toy_data, tmp_path):
    """The second stage begins, in both processes, from the checkpoint that both wrote in the first."""
    config, mesh = chain_config(toy_data), data_mesh(jax.devices()[:1])
    _several(2, toy_data, tmp_path, False, [CHAIN])
    whole = train_and_evaluate(config, tmp_path / 'one', mesh=mesh)
    stages = [stage.name for stage in Chain(config, mesh).main.method.stages()]
    assert stages[:2] == ['dense', 'round01']
    results = json.loads((tmp_path / CHAIN / 'results.json').read_text(encoding='utf-8'))
    assert results['metrics'] == pytest.approx(whole['metrics'], rel=1e-5, abs=1e-5)
    for name in stages:
        _assert_same_run(tmp_path / CHAIN / name, tmp_path / 'one' / name)
        record = json.loads((tmp_path / CHAIN / name / 'run.json').read_text(encoding='utf-8'))
        assert len(record['devices']) == 2
    shutil.copytree(tmp_path / CHAIN, tmp_path / 'again')
    shutil.rmtree(tmp_path / 'again' / stages[-1])
    (tmp_path / 'again/results.json').unlink()
    again = train_and_evaluate(config, tmp_path / 'again', mesh=mesh)
    assert again['metrics'] == pytest.approx(whole['metrics'], rel=1e-5, abs=1e-5)
    _assert_same_run(tmp_path / 'again' / stages[-1], tmp_path / 'one' / stages[-1])


@pytest.fixture
def four(toy_data, once):
    return once('four', lambda out: _several(4, toy_data, out, False, KINDS))


@pytest.mark.slow
@pytest.mark.parametrize('case', KINDS)
def test_four_processes_are_one_and_their_checkpoint_goes_on_in_one(case, four, finished, toy_data, tmp_path):
    _check(case, four, finished, toy_data, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('case', KINDS)
def test_a_checkpoint_of_eight_devices_goes_on_with_1_2_4_and_8(case, finished, toy_data, tmp_path):
    config, whole = tiny_config(case, toy_data, **L2), finished(case, 8)
    for n in (1, 2, 4, 8):
        _resume_from_the_middle(whole, tmp_path / str(n), config, data_mesh(jax.devices()[:n]))
        _assert_same_run(tmp_path / str(n), whole)
    for file in ('results.json', 'metrics.jsonl'):
        assert (tmp_path / '8' / file).read_text() == (whole / file).read_text()
