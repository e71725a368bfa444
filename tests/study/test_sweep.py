"""Sweeps: the grid, the folders, the commands for a cluster; the running itself is tested through the command line."""

import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from gjax import arguments, data
from gjax.study import jobs, sweep
from gjax.train import config as configs
from gjax.train.errors import Interrupted, RunError
from tests.data.trees import write

CONFIG = 'iaat/digits.py:trades'


def test_values_are_split_outside_brackets_and_quotes():
    assert sweep.split_values('1,2') == ['1', '2']
    assert sweep.split_values('(8,16), (4,)') == ['(8,16)', '(4,)']
    assert sweep.split_values('npz:a,"b,c"') == ['npz:a', '"b,c"']
    assert sweep.parse_over(['seed=0,1', 'config.net.widths=(4,),(8,8)']) == {
        'seed': ['0', '1'],
        'net.widths': ['(4,)', '(8,8)'],
    }


@pytest.mark.parametrize('words', [['seed'], ['=1'], ['seed='], ['seed=1,,2'], ['seed=1,1'], ['seed=1', 'config.seed=2']])
def test_mistakes(words):
    with pytest.raises(RunError, match='--over is '):
        sweep.parse_over(words)


def test_every_combination_has_its_folder():
    grid = {'seed': ['0', '1'], 'method.lam': ['3', '6'], 'net.widths': ['(4,)']}
    jobs = sweep.plan(CONFIG, {'train.total_epochs': '1'}, grid, Path('runs'))
    assert [job.directory.as_posix().rsplit('/', 1)[0] for job in jobs] == [
        f'runs/seed={seed}/lam={lam}' for seed in (0, 1) for lam in (3, 6)
    ]
    assert len({job.directory for job in jobs}) == 4
    assert jobs[1].overrides == {'train.total_epochs': '1', 'seed': '0', 'method.lam': '6', 'net.widths': '(4,)'}


def test_every_domain_of_a_folder_is_left_out_in_turn(tmp_path):
    write(tmp_path, 'pacs/art/dog/*2', 'pacs/photo/dog/*2', 'pacs/sketch/dog/*2')
    overrides = {'data.sources': f'folder:{tmp_path}/pacs/*'}
    jobs = sweep.plan(CONFIG, overrides, sweep.parse_over(['data.unseen=art,photo,sketch']), Path('runs'))
    sets = {job.directory.name: data.set_names(configs.load(job.spec, job.overrides).data) for job in jobs}
    assert sets == {
        'unseen=art': (('photo', 'sketch'), '', ('art',)),
        'unseen=photo': (('art', 'sketch'), '', ('photo',)),
        'unseen=sketch': (('art', 'photo'), '', ('sketch',)),
    }


def test_names_that_would_leave_the_folder_or_meet_are_told_apart():
    names = [sweep._folder('data.name', value) for value in ('npz:../a', 'npz:..-a', '..', 'a' * 300, 'a' * 299)]
    assert len(set(names)) == len(names)
    for name in names:
        assert '/' not in name
        assert name not in ('.', '..')
        assert len(name) < 80
    jobs = sweep.plan(CONFIG, {}, {'net.name': ['small_cnn'], 'data.name': ['digits']}, Path('runs'))
    assert jobs[0].directory == Path('runs/net_name=small_cnn/data_name=digits')


def test_a_wrong_value_anywhere_in_the_grid_runs_nothing(tmp_path):
    with pytest.raises(RunError, match=r"config\.method\.lam is 'many'"):
        sweep.plan(CONFIG, {}, {'method.lam': ['3', 'many']}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_printed_commands_are_the_jobs(tmp_path):
    jobs = sweep.plan(CONFIG, {}, {'seed': ['0', '1', '2'], 'net.widths': ['(4, 8)']}, tmp_path / 'a b')
    jobs[1].directory.mkdir(parents=True)
    (jobs[1].directory / 'results.json').write_text('{}')  # finished: nothing to do
    text = sweep.commands(jobs)
    assert text.endswith('\n')
    lines = [shlex.split(line) for line in text.splitlines()]
    assert [line[0] for line in lines] == ['gjax', 'gjax']
    for line, job in zip(lines, (jobs[0], jobs[2]), strict=True):
        overrides, words = arguments.take_overrides(line[1:], arguments.make_parser())
        asked = arguments.make_parser().parse_args(words)
        assert (asked.config, asked.workdir) == (CONFIG, str(job.directory))
        assert overrides == job.overrides


@pytest.mark.parametrize(
    ('name', 'encoding'), [('a\nb', 'utf-8'), ('a\x85b', 'utf-8'), ('a\udcff', 'utf-8'), ('é', 'ascii')]
)
def test_a_command_that_would_not_be_one_line_is_refused_in_one(tmp_path, name, encoding):
    jobs = sweep.plan(CONFIG, {}, {'seed': ['0']}, tmp_path / name)
    with pytest.raises(RunError, match='--print cannot write --workdir=') as caught:
        sweep.commands(jobs, encoding)
    assert str(caught.value).isprintable()
    jobs = sweep.plan(CONFIG, {'data.dir': name}, {'seed': ['0']}, tmp_path)
    with pytest.raises(RunError, match=r'--print cannot write --config\.data\.dir='):
        sweep.commands(jobs, encoding)
    assert 'é' in sweep.commands(sweep.plan(CONFIG, {}, {}, tmp_path / 'é'))


def test_a_signal_ends_every_process_that_a_sweep_has_started(tmp_path, monkeypatch):
    started = []

    def start(job):
        started.append(subprocess.Popen(['sleep', '600']))
        if len(started) == 2:
            signal.raise_signal(signal.SIGHUP)  # before the sweep knows of the second one
        return started[-1]

    monkeypatch.setattr(jobs, '_start', start)
    planned = sweep.plan(CONFIG, {}, {'seed': ['0', '1', '2']}, tmp_path)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and a sweep goes on ignoring it
    try:
        with pytest.raises(Interrupted, match='the others told to save') as stopped:
            jobs.run_jobs(planned, 2)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert stopped.value.exit_code == 129
    assert [process.returncode for process in started] == [-signal.SIGTERM] * 2
