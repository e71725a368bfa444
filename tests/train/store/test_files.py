"""What a run leaves: whole files or none, and the one line for a damaged one."""

import contextlib
import json
import os
import stat
import zipfile

import pytest

from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.store import files
from gjax.train.store.workdir import open_workdir


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
    (tmp_path / f'.a.json.{os.getpid()}{files.TEMPORARY}').write_text(
        'half'
    )  # in a container every first process is number 1
    files.write_json(tmp_path / 'a.json', {'a': 1})
    assert os.listdir(tmp_path) == ['a.json']


def test_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / 'precious').write_text('precious')
    (tmp_path / 'link').symlink_to('precious')
    files.write_text(tmp_path / 'link', 'new')
    assert (tmp_path / 'precious').read_text() == 'precious'
    assert (tmp_path / 'link').read_text() == 'new'


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(RunError, match='pipe cannot be written: No such device or address'):  # nobody reads it
        files.write_text(tmp_path / 'pipe', 'told')
    reader = os.open(tmp_path / 'pipe', os.O_RDONLY | os.O_NONBLOCK)
    files.write_text(tmp_path / 'pipe', 'told')
    assert os.read(reader, 10) == b'told'
    os.close(reader)
    assert stat.S_ISFIFO((tmp_path / 'pipe').stat().st_mode)
    with pytest.raises(RunError, match=r'pipe is damaged and cannot be read \(not a file\)'):
        files.read_arrays(tmp_path / 'pipe')
    with pytest.raises(RunError, match='there is no such file'):
        files.read_arrays(tmp_path / 'nothing')


def test_members_that_are_no_arrays_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.npz', 'w') as archive:
        archive.writestr('notes.txt', 'text')
    with pytest.raises(RunError, match=r"a\.npz is damaged and cannot be read \(its member 'notes\.txt' is no array\)"):
        files.read_arrays(tmp_path / 'a.npz')


def test_only_its_own_unfinished_files_are_swept(tmp_path):
    config = configs.load('iaat/digits.py')
    (tmp_path / 'run').mkdir()
    for name in ('notes.tmp', f'.run.json.7{files.TEMPORARY}'):
        (tmp_path / 'run' / name).write_text('x')
    with open_workdir(config, tmp_path / 'run'):
        pass
    assert sorted(os.listdir(tmp_path / 'run')) == ['config.json', 'lock', 'notes.tmp']


@pytest.mark.parametrize(('text', 'message'), [('{', 'is damaged and cannot be read'), ('[]', 'holds list, expected')])
def test_damaged_json_is_named(tmp_path, text, message):
    (tmp_path / 'run.json').write_text(text)
    with pytest.raises(RunError, match=rf'run\.json is damaged.*{message.removeprefix("is damaged")}'):
        files.read_json(tmp_path / 'run.json')
    with pytest.raises(RunError, match='not a file'):
        files.read_json(tmp_path)
