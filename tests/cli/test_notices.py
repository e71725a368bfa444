"""Warnings on the command line, inside this process: one line each, once, and it says whose they are."""

import json
import warnings

import pytest

from gjax import cli
from gjax.train import loop
from gjax.train.errors import RunWarning
from gjax.train.store.workdir import check_same_data


@pytest.fixture
def told(monkeypatch, capsys):
    """(function) -> the lines on standard error of a command that calls this function."""

    def command(function):
        monkeypatch.setitem(cli.COMMANDS, 'list', lambda arguments, overrides: function())
        with warnings.catch_warnings():
            warnings.resetwarnings()
            before = warnings.showwarning
            assert cli.main(['list']) == 0
            assert warnings.showwarning is before
        return capsys.readouterr().err.splitlines()

    return command


def test_a_warning_of_gjax_is_its_text_on_one_line_and_comes_once(told):
    def warn():
        for _ in range(2):
            warnings.warn('the run\nended \x1b[31m early', RunWarning, stacklevel=1)
            warnings.warn('another', RunWarning, stacklevel=1)

    assert told(warn) == ['gjax: warning: the run ended \\x1b[31m early', 'gjax: warning: another']


@pytest.mark.parametrize(
    ('file', 'origin'),
    [
        ('/venv/lib/python3.11/site-packages/optax/_src/base.py', 'optax'),
        ('/usr/lib/python3/dist-packages/six.py', 'six'),
        ('/home/user/mine.py', '/home/user/mine.py'),
    ],
)
def test_another_librarys_warning_ends_with_its_name_and_kind(told, file, origin):
    def warn():
        warnings.warn_explicit('old\n  name', FutureWarning, file, 7)

    assert told(warn) == [f'gjax: warning: old name ({origin}: FutureWarning)']


def test_what_pythons_filters_ignore_is_not_told(told):
    def warn():
        warnings.simplefilter('ignore', FutureWarning)
        warnings.warn('old name', FutureWarning, stacklevel=1)

    assert told(warn) == []


def test_accepted_data_is_told_on_the_one_line(tmp_path, monkeypatch, capsys):
    """By the very function that warns of it, in `gjax eval`."""
    then, now = ({'fields': {}, 'classes': 2, 'splits': {'train': {'count': n, 'digest': ''}}} for n in (80, 78))
    (tmp_path / 'data.json').write_text(json.dumps({'sets': {'source': then}}), encoding='utf-8')

    def evaluate_run(workdir, overrides, *, accept_changed_data, registers):
        check_same_data({'source': now}, workdir, accept=accept_changed_data)
        return {'step': 2}

    monkeypatch.setattr(loop, 'evaluate_run', evaluate_run)
    with warnings.catch_warnings():
        warnings.resetwarnings()
        assert cli.main(['eval', f'--workdir={tmp_path}', '--accept_changed_data']) == 0
    printed = capsys.readouterr()
    assert printed.err == (f'gjax: warning: {tmp_path} began with other data: of source, train has 78 examples; it had 80\n')
    assert json.loads(printed.out) == {'step': 2}
