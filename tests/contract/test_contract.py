"""What every method must do: step, improve, agree on 1 and 8 devices, resume and repeat bit for bit.

One test is the whole battery of a case, since it reads all from one training (`tests.contract.battery`). Each check is a
function here; all of them run, and the test names those that fail.
"""

import jax
import numpy as np
import pytest

from gjax.train.store.checkpoint import Checkpointer, to_arrays
from tests.contract.battery import COMPARED, SAVED, Battery, train, with_seed
from tests.contract.cases import BATTERY


def _assert_same(found: dict, expected: dict):
    """Every array, bit for bit."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def _assert_close(found: dict, expected: dict):
    """Every number and array, to 1e-5."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


def state_types_are_stable(battery, folder):
    before, after = battery.first, battery.whole.states[1]
    assert after.step == 1
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(after.params)} == {np.dtype('float32')}


def every_player_is_logged_and_finite(battery, folder):
    metrics = battery.whole.metrics
    for player in battery.first.params:
        for name in ('loss', 'grad_norm', 'update_norm'):
            assert len(metrics[f'{name}/{player}']) == battery.run.num_steps
    for name, values in metrics.items():
        assert np.isfinite(values).all(), name


def it_learns_the_toy(battery, folder):
    run, state = battery.run, battery.whole.states[battery.run.num_steps]
    battery.case.learns(run, state, run.measure(battery.first), run.measure(state))


def one_seed_repeats_bit_for_bit_and_another_differs(battery, folder):
    again = train(battery.run, battery.run.init(), (SAVED,))
    _assert_same(again.arrays[SAVED], battery.whole.arrays[SAVED])
    other = with_seed(battery.run, battery.config, 1)
    begun = other.init()
    differs = [(value != to_arrays(battery.first)[name]).any() for name, value in to_arrays(begun).items()]
    assert any(differs)
    # Of the same first state, so that only the order of the examples and their augmentation differ: at every step.
    other = train(other, battery.begin(battery.run), (SAVED,))
    losses = [name for name in other.metrics if name.startswith('loss/')]
    assert np.any([other.metrics[name] != battery.whole.metrics[name][:SAVED] for name in losses], axis=0).all()


def it_resumes_bit_for_bit(battery, folder):
    with Checkpointer(folder) as checkpoints:
        checkpoints.save(SAVED, battery.whole.states[SAVED])
        checkpoints.wait()
        state, step = checkpoints.restore_latest(battery.run.template)
    resumed = train(battery.run, state, (COMPARED,), start=step)
    _assert_same(resumed.arrays[COMPARED], battery.whole.arrays[COMPARED])
    for name, values in resumed.metrics.items():
        np.testing.assert_array_equal(values, battery.whole.metrics[name][SAVED:COMPARED], err_msg=name)


def one_device_equals_eight(battery, folder):
    """Metrics of every step, what the method remembers, and what all evaluators find."""
    run, alone = battery.run, battery.alone
    single = train(alone, battery.begin(alone), (COMPARED,))
    _assert_close(single.metrics, {name: values[:COMPARED] for name, values in battery.whole.metrics.items()})
    states = battery.whole.states[COMPARED], single.states[COMPARED]
    eight, one = (to_arrays(state.memory) for state in states)
    _assert_close(one, eight)
    for when in ('log', 'end'):
        _assert_close(alone.measure(states[1], when), run.measure(states[0], when))


CHECKS = (
    state_types_are_stable,
    every_player_is_logged_and_finite,
    it_learns_the_toy,
    one_seed_repeats_bit_for_bit_and_another_differs,
    it_resumes_bit_for_bit,
    one_device_equals_eight,
)


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=[pytest.mark.slow] * case.slow) for name, case in sorted(BATTERY.items())]
)
def test_battery(name, toy_data, tmp_path):
    battery, failures = Battery(name, toy_data), []
    for check in CHECKS:
        try:
            check(battery, tmp_path)
        except Exception as error:
            error.add_note(f'in {check.__name__} of {name}')
            failures.append(error)
    if failures:
        raise ExceptionGroup(f'{len(failures)} checks of {name} fail', failures)
