"""What a run leaves: whole files or none, a log without doubles, TensorBoard events that a reader of others understands."""

import contextlib
import json
import os

import numpy as np
import pytest

from gjax.train import progress
from gjax.train.errors import RunError
from gjax.train.store import files
from gjax.train.store.records import RunLog, read_metrics


def _steps(folder):
    return [line['step'] for line in read_metrics(folder / 'metrics.jsonl')]


def test_a_resumed_log_repeats_no_step_and_mends_a_torn_line(tmp_path):
    log = RunLog(tmp_path, 0)
    for step in (1, 2, 3):
        log.write(step, loss=np.float32(step))
    log.close()
    with (tmp_path / 'metrics.jsonl').open('a') as file:
        file.write('{"step": 4, "lo')
    log = RunLog(tmp_path, 2)
    assert _steps(tmp_path) == [1, 2]
    log.write(3, loss=3.5)
    log.close()
    assert [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()][-1] == {
        'step': 3,
        'loss': 3.5,
    }


@pytest.mark.parametrize(
    'line', ['5', '[1]', '{}', '{"step": "1"}', '{"step": 1.5}', '{"step": true}', 'null', '[' * 10_000]
)
def test_lines_of_another_form_end_the_log(tmp_path, line):
    (tmp_path / 'metrics.jsonl').write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    assert _steps(tmp_path) == [1]


def _scalars(folder):
    """{tag: {step: value}} as TensorBoard's own reader sees them."""
    pytest.importorskip('tensorboard', reason='the reader of another library: pip install tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), purge_orphaned_data=True)
    events.Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()['scalars']}


@pytest.mark.filterwarnings('ignore')
def test_tensorboard_reads_the_same_numbers_over_a_resume(tmp_path):
    log = RunLog(tmp_path, 0)
    for step in (1, 2, 3):
        log.write(step, {'examples_per_second': 100.0 + step}, loss=0.5 * step, histogram=np.arange(3), bad=np.nan)
    log.close()
    log = RunLog(tmp_path, 1)  # killed after a checkpoint at step 1
    log.write(2, loss=7.0)
    log.close()
    assert _scalars(tmp_path / 'tensorboard') == {
        'loss': {1: 0.5, 2: 7.0},
        'examples_per_second': {1: 101.0},
    }
    assert len(list((tmp_path / 'tensorboard').iterdir())) == 2


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('hours', [0, 1])
def test_tensorboard_keeps_order_when_the_clock_stands_or_goes_back(tmp_path, monkeypatch, hours):
    clock = [1.8e9]
    monkeypatch.setattr('time.time', lambda: clock[0])
    for first, last in ((1, 8), (6, 12), (10, 14)):  # each killed, and resumed where the next begins
        log = RunLog(tmp_path, first - 1)
        for step in range(first, last + 1):
            log.write(step, loss=100.0 * first + step)
        log.close()
        clock[0] -= 3600 * hours
    assert len(list((tmp_path / 'tensorboard').iterdir())) == 3
    expected = {step: (100.0 if step < 6 else 600.0 if step < 10 else 1000.0) + step for step in range(1, 15)}
    assert _scalars(tmp_path / 'tensorboard')['loss'] == expected


def test_a_file_is_whole_or_as_it_was(tmp_path):
    file = tmp_path / 'a.json'
    files.write_json(file, {'a': 1})
    with contextlib.suppress(KeyError), files.whole_file(file) as stream:
        stream.write(b'half')
        raise KeyError
    assert json.loads(file.read_text()) == {'a': 1}
    assert os.listdir(tmp_path) == ['a.json']
    with pytest.raises(RunError, match=r'a\.json/b cannot be written: Not a directory; what is saved stays'):
        files.write_text(file / 'b', '')


def test_what_a_killed_process_of_the_same_number_left_is_no_obstacle(tmp_path):
    (tmp_path / f'a.json.{os.getpid()}.tmp').write_text('half')  # in a container every first process is number 1
    files.write_json(tmp_path / 'a.json', {'a': 1})
    assert os.listdir(tmp_path) == ['a.json']


def test_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / 'precious').write_text('precious')
    (tmp_path / 'link').symlink_to('precious')
    files.write_text(tmp_path / 'link', 'new')
    assert (tmp_path / 'precious').read_text() == 'precious'
    assert (tmp_path / 'link').read_text() == 'new'


@pytest.mark.parametrize(('text', 'message'), [('{', 'is damaged and cannot be read'), ('[]', 'holds list, expected')])
def test_damaged_json_is_named(tmp_path, text, message):
    (tmp_path / 'run.json').write_text(text)
    with pytest.raises(RunError, match=rf'run\.json is damaged.*{message.removeprefix("is damaged")}'):
        files.read_json(tmp_path / 'run.json')
    with pytest.raises(RunError, match='not a file'):
        files.read_json(tmp_path)


def test_speed_leaves_out_the_call_that_compiles(monkeypatch):
    clock = iter([0.0, 10.0, 12.0, 14.0, 18.0, 20.0])  # the devices rest from 10 to 12, not at 14
    monkeypatch.setattr(logging.time, 'monotonic', lambda: next(clock))

    class Feed:
        waited = 0.0

    feed = Feed()

    def calls():
        feed.waited += 5
        yield 'state', 4, {}
        feed.waited += 0.5
        yield None, 8, {}
        yield 'state', 10, {}

    speed = progress.Speed(16, feed)
    timed = speed.timed(calls(), 0)
    next(timed)
    assert speed.measured() == {}
    assert [stop for _, stop, _ in timed] == [8, 10]
    assert speed.measured() == {'examples_per_second': 16.0, 'data_wait_share': round(0.5 / 6, 4)}
