"""A run that kill -9 ends goes on from its newest checkpoint, in a new process, and ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from gjax.train import config as configs
from gjax.train.loop import train_and_evaluate
from gjax.train.run import Run
from gjax.train.store.checkpoint import Checkpointer, to_arrays
from gjax.train.store.records import read_metrics
from tests.contract.cases import KINDS, L2, REMEMBERING, tiny_config

# A process that ends itself by kill -9 after step 6. The checkpoint of step 4 is on disk by then, for saving waits.
_KILLED = """
import os, signal, sys
from gjax.train import config, loop
train, save = loop.Run.train, loop.Checkpointer.save

def save_and_wait(checkpoints, step, state):
    save(checkpoints, step, state)
    checkpoints.wait()

def die(run, state, source, count):
    if int(state.step) >= 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return train(run, state, source, count)

loop.Run.train, loop.Checkpointer.save = die, save_and_wait
loop.train_and_evaluate(config.from_json(sys.stdin.read()), sys.argv[1])
"""


@pytest.mark.parametrize(
    'case', [case if case in REMEMBERING else pytest.param(case, marks=pytest.mark.slow) for case in KINDS]
)
def test_a_killed_run_resumes_bit_for_bit(case, finished, toy_data, tmp_path):
    config, whole, killed = tiny_config(case, toy_data, **L2), finished(case, 8), tmp_path / 'killed'
    command = [sys.executable, '-c', _KILLED, str(killed)]
    process = subprocess.run(
        command, input=configs.to_json(config), capture_output=True, text=True, timeout=300, env=os.environ, check=False
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    resumed = train_and_evaluate(config, killed)
    assert json.loads((killed / 'run.json').read_text())['resumed_at'] == 4
    assert resumed == json.loads((whole / 'results.json').read_text())
    run, states = Run(config), []
    for directory in (whole, killed):
        with Checkpointer(directory / 'checkpoints', read_only=True) as checkpoints:
            states.append(to_arrays(checkpoints.restore_latest(run.template)[0]))
    for key, value in states[0].items():
        np.testing.assert_array_equal(states[1][key], value, err_msg=key)
    assert read_metrics(killed / 'metrics.jsonl') == read_metrics(whole / 'metrics.jsonl')
