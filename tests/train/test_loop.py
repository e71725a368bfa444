"""The loop's parts: the compiled step sees the batches of the pure functions, whatever the length of a call."""

import contextlib
import dataclasses
import logging
import threading

import jax
import numpy as np
import pytest

from gjax import data
from gjax.train import config as configs
from gjax.train.devices import check_divisible, data_mesh
from gjax.train.errors import RunError
from gjax.train.loop import train_and_evaluate
from gjax.train.run import Run, _stops


@pytest.fixture(scope='module')
def run():
    changes = {'data.name': 'digits', 'train.batch_size': 80, 'train.total_epochs': 2, 'train.steps_per_call': 7}
    changes |= {'net.widths': (4,), 'net.hidden': 4, 'data.flip': True, 'data.padding': 2}
    return Run(configs.load('iaat/digits.py:supervised', changes))


def _until(run, stop, cuts=()):
    """The state after `stop` steps and the metrics of every step; calls also end at `cuts`."""
    losses = []
    with contextlib.closing(run.advance(run.init(), 0, (*cuts, stop))) as calls:
        for state, step, metrics in calls:
            losses += metrics['loss/classifier'].tolist()
            if step == stop:
                return state, losses


SMALL = {'data.name': 'digits', 'train.batch_size': 80, 'net.widths': (4,), 'net.hidden': 4}


class _Waiting:
    """Records whose whole split is read after an event; to wait for it in vain fails."""

    def __init__(self, records, event):
        self._records, self._event = records, event

    def __len__(self):
        return len(self._records)

    def known_labels(self):
        return None

    def read(self, rows):
        if len(rows) >= len(self) and not self._event.wait(120):
            raise data.DataError('read too early')
        return self._records.read(rows)


def _waiting(monkeypatch, split, event):
    """Has that split of all sets wait for the event."""
    load = data.open_sets

    def waiting(*arguments):
        sets = load(*arguments).items()
        return {name: dataclasses.replace(own, **{split: _Waiting(getattr(own, split), event)}) for name, own in sets}

    monkeypatch.setattr(data, 'open_sets', waiting)


def test_the_loop_is_compiled_while_the_set_is_read(monkeypatch):
    compiled, ahead = threading.Event(), Run._compile_ahead
    _waiting(monkeypatch, 'train', compiled)

    def then_read(run, source):
        ahead(run, source)
        compiled.set()

    monkeypatch.setattr(Run, '_compile_ahead', then_read)
    Run(configs.load('iaat/digits.py:supervised', SMALL)).prepare()
    assert compiled.is_set()


@pytest.mark.parametrize('split', ['train', 'test'])
def test_what_cannot_be_read_is_told_before_anything_is_written(monkeypatch, tmp_path, split):
    never = threading.Event()
    monkeypatch.setattr(never, 'wait', lambda seconds: False)
    _waiting(monkeypatch, split, never)
    for _ in range(2):
        with pytest.raises(data.DataError, match='read too early'):
            train_and_evaluate(configs.load('iaat/digits.py:supervised', SMALL), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('config', ['iaat/digits.py:supervised', 'generate_to_adapt/digits.py:dann,mnist5k_to_digits'])
def test_the_first_call_finds_the_loop_compiled(config, caplog):
    changes = SMALL if 'iaat' in config else {'net.widths': (2, 2), 'net.hidden': (4,), 'train.steps_per_call': 2}
    run = Run(configs.load(config, changes))
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        run.prepare()
        with contextlib.closing(run.advance(run.init(), 0)) as calls:
            next(calls)
    assert sum('XLA compilation of jit(call)' in record.getMessage() for record in caplog.records) == 1


def test_a_call_of_any_length_takes_the_same_steps(run):
    steps = run.info.steps_per_epoch + 3  # across an epoch's end
    assert _until(run, steps)[1] == _until(run, steps, range(steps))[1]


def test_the_next_call_runs_before_the_metrics_of_one_are_fetched(run, monkeypatch):
    calls, train, resting = [], run.train, []
    monkeypatch.setattr(run, 'train', lambda *arguments: calls.append(1) or train(*arguments))
    seen = []
    with contextlib.closing(run.advance(run.init(), 0, (8,), rest=lambda: bool(resting))) as advance:
        for state, step, metrics in advance:
            seen.append((step, len(calls), state is not None, len(metrics['loss/classifier'])))
            if state is not None:
                assert int(state.step) == step
            resting[:] = [1] * (step == 14)  # while the call to 21 runs
            if step == 28:
                break
    # calls end at multiples of 7 and at the cut
    assert seen == [
        (7, 2, False, 7),
        (8, 2, True, 1),
        (14, 4, False, 6),
        (21, 4, True, 7),
        (28, 6, False, 7),
    ]


def test_steps_use_the_batches_of_batch_index(run):
    step = run.info.steps_per_epoch + 1
    state, _ = _until(run, step)
    train = run.datasets['source'].train.columns
    index = data.batch_index(run.pools[''].rng, step, run.info.num_examples, 80)
    batch = data.gather(train, index)
    rng = jax.random.fold_in(run.augment_rng, step)
    batch['image'] = data.augment(batch['image'], rng=rng, padding=2, mirror=True)
    _, expected = jax.jit(run.method.step)(state, batch)
    with run.feed.chunks(step, [1]) as sources:
        _, metrics = run.train(state, next(sources), 1)
    np.testing.assert_allclose(metrics['loss/classifier'][0], expected['loss/classifier'], rtol=1e-5)


def test_evaluation_pads_the_last_batch_without_counting_it(run):
    state = run.init()
    whole = run.measure(state)['clean_accuracy']
    size, test = run.config.train.eval_batch_size, run.datasets['source'].test
    assert len(test) % size
    logits = run.method.logits(state, data.gather(test.columns, np.arange(360))['image'])
    assert whole == pytest.approx((np.asarray(logits).argmax(axis=1) == test.labels).mean())


def test_stops_fall_on_every_cadence():
    assert list(_stops(0, (6, 0, 8), (), 20)) == [6, 8, 12, 16, 18, 20]
    assert list(_stops(12, (6, 0, 8), (3, 13, 30), 20)) == [13, 16, 18, 20]


def test_a_state_too_large_for_a_device_is_refused_before_it_is_made():
    changes = {'data.name': 'digits', 'net.hidden': 2**31}
    with pytest.raises(RunError, match=r'config\.net makes .* GiB of parameters and optimiser state; allowed: '):
        Run(configs.load('iaat/digits.py:supervised', changes))


def test_divisibility():
    mesh = data_mesh()
    check_divisible('x', 16, mesh)
    for size in (12, 0, -8):
        with pytest.raises(RunError, match=f'x is {size}; allowed: positive multiples of 8'):
            check_divisible('x', size, mesh)


def test_metrics_of_a_call_are_told_before_the_next_ones_data_fail(run, monkeypatch):
    chunks = run.feed.chunks

    @contextlib.contextmanager
    def one(start, counts, busy):
        def sources():
            with chunks(start, counts, busy) as whole:
                yield next(whole)
            raise data.DataError('a data worker failed')

        yield sources()

    monkeypatch.setattr(run.feed, 'chunks', one)
    calls = run.advance(run.init(), 0)
    assert next(calls)[1] == 7
    with pytest.raises(data.DataError):
        next(calls)
