"""What every method must do: step, improve, agree on 1 and 8 devices, resume and repeat bit for bit."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from gjax.train import config as configs
from gjax.train.loop import train_and_evaluate
from gjax.train.run import Run
from gjax.train.store.checkpoint import Checkpointer, to_arrays
from gjax.train.store.records import read_metrics
from tests.contract.cases import ADAPTATION, CASES, FLOWS, GENERATIVE, L2, VARIANTS, tiny_config


@pytest.fixture(params=[pytest.param(case, marks=pytest.mark.slow) if case in VARIANTS else case for case in sorted(CASES)])
def case(request):
    return request.param


def _train(run, steps):
    """The state after `steps`, and every metric as an array over them."""
    collected = []
    with contextlib.closing(run.advance(run.init(), 0, (steps,))) as calls:
        for new, step, metrics in calls:
            state, collected = new, [*collected, metrics]
            if step == steps:
                break
    return state, {name: np.concatenate([m[name] for m in collected]) for name in collected[0]}


def test_one_device_equals_eight(case, toy_data, meshes):
    """In the l2 ball: linf attacks take signs, and a gradient of pure rounding noise then moves a pixel by a whole step."""
    config = tiny_config(case, toy_data, **L2)
    runs = {n: Run(config, mesh) for n, mesh in meshes.items()}
    states, metrics = zip(*(_train(run, 7) for run in runs.values()), strict=True)
    for name in metrics[0]:
        np.testing.assert_allclose(metrics[1][name], metrics[0][name], rtol=1e-5, atol=1e-5, err_msg=name)
    memories = [to_arrays(state.memory) for state in states]
    for name, value in memories[0].items():
        np.testing.assert_allclose(memories[1][name], value, atol=1e-5, err_msg=name)
    results = [run.evaluate(state, final=True) for run, state in zip(runs.values(), states, strict=True)]
    for name, value in results[0].items():
        np.testing.assert_allclose(results[1][name], value, atol=1e-5, err_msg=name)


def test_state_types_are_stable_and_every_player_is_logged(case, toy_data):
    run = Run(tiny_config(case, toy_data))
    before = run.init()
    after, metrics = _train(run, 1)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
    for player, params in after.params.items():
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype('float32')}
        for name in ('loss', 'grad_norm', 'update_norm'):
            assert np.isfinite(metrics[f'{name}/{player}']).all()
    assert after.step == 1


def _contrast(images):
    """Right half minus left half of toy images: about 0.43 in the one class, -0.43 in the other."""
    return np.asarray(images[:, :, 4:].mean(axis=(1, 2, 3)) - images[:, :, :4].mean(axis=(1, 2, 3)))


def test_it_learns_the_toy(case, toy_data):
    adam = {'optimizer__name': 'adam', 'optimizer__learning_rate': 0.01, 'optimizer__b1': 0.5}
    steps, options = (200, adam) if 'gan' in case else (100, adam) if case in (*ADAPTATION, *FLOWS) else (60, {})
    run = Run(tiny_config(case, toy_data, train__total_steps=steps, **options))
    state, _ = _train(run, steps)
    results = run.evaluate(state)
    if 'gan' in case:
        contrast = _contrast(run.method.generate(state, 64, rng=jax.random.key(0)))
        assert np.abs(contrast).mean() > 0.15
        assert (contrast > 0).any()
        assert (contrast < 0).any()
    elif case in ADAPTATION:
        assert min(results['source_accuracy'], results['target_accuracy']) >= 0.9
    elif case in FLOWS:
        assert results['bits_per_dim'] < run.evaluate(run.init())['bits_per_dim'] - 0.1
        assert results['bits_per_dim'] < results['attacked_bits_per_dim']
    elif case in GENERATIVE:
        assert results['loss'] < 0.9 * run.evaluate(run.init())['loss']
    else:
        assert results['clean_accuracy'] >= 0.95
        assert results['robust_accuracy'] <= results['clean_accuracy']


# A process that kill -9 ends after step 6, once the checkpoint of step 4 is on disk.
_KILLED = """
import os, pathlib, signal, sys, time
from gjax.train import config, loop
train = loop.Run.train

def die(run, state, source, count):
    if int(state.step) >= 6:
        while not pathlib.Path(sys.argv[1], 'checkpoints', '4').exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return train(run, state, source, count)

loop.Run.train = die
loop.train_and_evaluate(config.from_json(sys.stdin.read()), sys.argv[1])
"""


# Of the cases that are not slow, those whose state holds the most.
REMEMBERING = ('iaat', 'gan', 'lottery_tickets')


@pytest.mark.parametrize(
    'case', [case if case in REMEMBERING else pytest.param(case, marks=pytest.mark.slow) for case in sorted(CASES)]
)
def test_a_killed_run_resumes_bit_for_bit(case, toy_data, tmp_path):
    config = tiny_config(case, toy_data)
    whole = train_and_evaluate(config, tmp_path / 'whole')
    command = [sys.executable, '-c', _KILLED, str(tmp_path / 'killed')]
    process = subprocess.run(
        command, input=configs.to_json(config), capture_output=True, text=True, timeout=300, env=os.environ, check=False
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    resumed = train_and_evaluate(config, tmp_path / 'killed')
    assert json.loads((tmp_path / 'killed/run.json').read_text())['resumed_at'] == 4
    assert resumed == whole
    run = Run(config)
    states = []
    for name in ('whole', 'killed'):
        checkpoints = Checkpointer(tmp_path / name / 'checkpoints')
        states.append(to_arrays(checkpoints.restore_latest(run.init())[0]))
        checkpoints.close()
    for key, value in states[0].items():
        np.testing.assert_array_equal(states[1][key], value, err_msg=key)
    logs = [read_metrics(tmp_path / name / 'metrics.jsonl') for name in ('whole', 'killed')]
    assert logs[0] == logs[1]


def test_one_seed_is_one_result_and_another_seed_another(case, toy_data):
    first, again, other = (to_arrays(_train(Run(tiny_config(case, toy_data, seed=seed)), 4)[0]) for seed in (0, 0, 1))
    for key, value in first.items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)
    assert any((other[key] != value).any() for key, value in first.items())
