"""The log of a run, without doubles, and TensorBoard events that a reader of others understands."""

import json
import subprocess

import numpy as np
import pytest

from gjax.train.store import records
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


@pytest.mark.parametrize('packed', [False, True])
def test_the_commit_of_a_checkout_that_git_will_not_look_at(tmp_path, monkeypatch, packed):
    def git(*words):
        identity = ['-c', 'user.name=x', '-c', 'user.email=x@y']
        return subprocess.run(['git', '-C', tmp_path, *identity, *words], check=True, capture_output=True, text=True).stdout

    git('init', '-q')
    git('commit', '-q', '--allow-empty', '-m', 'first')
    if packed:
        git('pack-refs', '--all')
    (tmp_path / 'gjax').mkdir()
    monkeypatch.setattr(records.gjax, '__file__', str(tmp_path / 'gjax/__init__.py'))
    commit = git('rev-parse', 'HEAD').strip()[:12]
    assert records._commit() == commit

    def refuses(command, **options):
        return subprocess.CompletedProcess(command, 128, '', 'fatal: detected dubious ownership in repository')

    monkeypatch.setattr(records.subprocess, 'run', refuses)
    assert records._commit() == f'{commit}-unchecked'
    monkeypatch.undo()
    git('worktree', 'add', '-q', tmp_path / 'tree')
    (tmp_path / 'tree/gjax').mkdir()
    monkeypatch.setattr(records.gjax, '__file__', str(tmp_path / 'tree/gjax/__init__.py'))
    monkeypatch.setattr(records.subprocess, 'run', refuses)
    assert records._commit() == f'{commit}-unchecked'
