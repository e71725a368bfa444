"""The loop's parts: the compiled step sees the batches of the pure functions, whatever the length of a call."""

import jax
import numpy as np
import pytest

from gjax import data
from gjax.train import config as configs
from gjax.train.devices import check_divisible, data_mesh
from gjax.train.errors import RunError
from gjax.train.loop import Run, _check_memory, _next_stop


@pytest.fixture(scope='module')
def run():
    changes = {'data.name': 'digits', 'train.batch_size': 80, 'train.total_epochs': 2, 'train.steps_per_call': 7}
    changes |= {'net.widths': (4,), 'net.hidden': 4, 'data.flip': True, 'data.padding': 2}
    return Run(configs.load('iaat/digits.py:supervised', changes))


def test_a_call_of_any_length_takes_the_same_steps(run):
    steps = run.info.steps_per_epoch + 3  # across an epoch's end
    trails = []
    for length in (1, 7):
        state, losses, step = run.init(), [], 0
        while step < steps:
            count = min(length, steps - step)
            state, metrics = run.train(state, count)
            losses += metrics['loss/classifier'].tolist()
            step += count
        trails.append(losses)
    assert trails[0] == trails[1]


def test_steps_use_the_batches_of_batch_index(run):
    order_rng, augment_rng = jax.random.split(run.data_rng)
    state, step = run.init(), run.info.steps_per_epoch + 1
    for _ in range(step):
        state, _ = run.train(state, 1)
    index = data.batch_index(order_rng, step, run.info.num_examples, 80)
    batch = data.gather(run.train_data, index)
    rng = jax.random.fold_in(augment_rng, step)
    batch['image'] = data.augment(batch['image'], rng=rng, padding=2, mirror=True)
    _, expected = jax.jit(run.method.step)(state, batch)
    _, metrics = run.train(state, 1)
    np.testing.assert_allclose(metrics['loss/classifier'][0], expected['loss/classifier'], rtol=1e-5)


def test_evaluation_pads_the_last_batch_without_counting_it(run):
    state = run.init()
    whole = run.evaluate(state)['clean_accuracy']
    size = run.config.train.eval_batch_size
    assert len(data.load('digits').test) % size
    logits = run.method.logits(state, data.gather(run.test_data, np.arange(360))['image'])
    right = np.asarray(logits).argmax(axis=1) == np.asarray(run.test_data.labels)
    assert whole == pytest.approx(right.mean())


def test_stops_fall_on_every_cadence():
    stops, step = [], 0
    while step < 20:
        step = _next_stop(step, (6, 0, 8), 20)
        stops.append(step)
    assert stops == [6, 8, 12, 16, 18, 20]


def test_a_set_too_large_for_a_device_is_refused_before_it_is_copied(monkeypatch):
    from types import SimpleNamespace

    small = SimpleNamespace(memory_stats=lambda: {'bytes_limit': 2**20})
    unknown = SimpleNamespace(memory_stats=lambda: None)
    digits = data.load('digits')
    _check_memory('digits', digits, SimpleNamespace(local_devices=[unknown]))
    with pytest.raises(RunError, match=r"data\.name is 'digits', which takes 0\.0 GiB on every device; allowed: half"):
        _check_memory('digits', digits, SimpleNamespace(local_devices=[unknown, small]))


def test_divisibility():
    mesh = data_mesh()
    check_divisible('x', 16, mesh)
    for size in (12, 0, -8):
        with pytest.raises(RunError, match=f'x is {size}; allowed: positive multiples of 8'):
            check_divisible('x', size, mesh)
