"""What a run leaves: whole files or none, and the one line for a damaged one."""

import contextlib
import json
import os

import pytest

from gjax.train.errors import RunError
from gjax.train.store import files


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
