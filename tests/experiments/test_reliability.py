"""Faults done to real runs (experiments/reliability), each survived every time."""

import shutil

import pytest

from experiments.reliability import faults, outside, terminal
from experiments.reliability.__main__ import table
from experiments.reliability.bench import Bench, Outcome
from experiments.reliability.kills import every_case, kill_every_method
from gjax.methods import METHODS
from tests.contract.cases import CASES, KINDS

mounts = pytest.mark.skipif(not faults.can_mount(), reason='needs the right to mount a file system')


@pytest.fixture(scope='session')  # xdist's workers leave this module and come back: a module's would be made anew
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp('bench'), settings={'train.total_epochs': 6})


@pytest.mark.parametrize(
    ('fault', 'options', 'tried'),
    [
        pytest.param(faults.signals, {'times': 1}, 6, marks=pytest.mark.slow),
        (terminal.signals_at_any_time, {'times': 6}, 6),
        (terminal.streams, {}, 6),
        (faults.damaged_checkpoints, {}, 40),
        pytest.param(faults.full_disks, {'kilobytes': (16, 160)}, 2, marks=[mounts, pytest.mark.slow]),
        pytest.param(faults.full_disk_of_two, {'kilobytes': (120, 180)}, 2, marks=[mounts, pytest.mark.slow]),
        pytest.param(faults.read_only_workdir, {}, 2, marks=mounts),
        (outside.compiled_programs, {}, 4),
        (outside.extractor_weights, {}, 3),
        (outside.irregular_files, {}, 17),
        (outside.downloads, {}, 26),
        (faults.file_size_limits, {'limits': (4000,)}, 1),
        pytest.param(faults.torn_logs, {'times': 1}, 1, marks=pytest.mark.slow),
        pytest.param(faults.clock_going_backwards, {}, 1, marks=pytest.mark.slow),
        (faults.second_process, {}, 1),
        pytest.param(faults.lost_process, {}, 1, marks=pytest.mark.slow),
        pytest.param(faults.lost_data_worker, {}, 1, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, '__name__', ''),
)
@pytest.mark.slow
def test_it_is_survived(bench, fault, options, tried):
    outcome = fault(bench, **options)
    assert not outcome.failures
    assert outcome.tried >= tried


@pytest.mark.slow
def test_killed_runs_are_the_undisturbed_ones(tmp_path):
    """Of each kind of state once, so that all moments are."""
    outcome = kill_every_method(tmp_path, len(KINDS), cases=KINDS)
    assert not outcome.failures
    assert outcome.tried == len(KINDS)
    assert 'of every method' not in outcome.notes


def test_every_method_is_killed():
    assert {CASES[case]['name'] for case in every_case()} >= set(METHODS)


def test_the_table_counts_what_was_lost():
    lost = Outcome('fault', 3, ('one line',), 'what happens')
    assert (lost.survived, lost.lost) == (2, 1)
    assert '| fault | 3 | 2 | 1 | what happens |' in table([lost])


@pytest.mark.slow
def test_a_run_that_differs_is_noticed(bench):
    """The judge itself can fail."""
    other = bench.root / 'other'
    shutil.copytree(bench.whole, other)
    assert bench.differs(other) == ''
    content = (other / 'metrics.jsonl').read_text()
    (other / 'metrics.jsonl').write_text(content.replace('"step": 7', '"step": 8', 1))
    assert bench.differs(other) == 'metrics.jsonl is not that of the undisturbed run'
    (other / 'metrics.jsonl').write_text(content)
    shutil.rmtree(max((other / 'checkpoints').glob('[0-9]*'), key=lambda path: int(path.name)))
    assert bench.differs(other) == 'the last state is not that of the undisturbed run'
