"""Downloads are whole or absent, whatever a server does; what an archive holds is read within bounds."""

import fcntl
import hashlib
import io
import os
import tarfile
import zipfile

import pytest

from experiments.reliability.server import KINDS, PAGE, serving, whole_file
from gjax import data
from gjax.data import downloads
from gjax.data.downloads import File, fetch


@pytest.fixture
def server():
    with serving() as own:
        yield own


def _from(server, name, folder, md5=''):
    return fetch(File(name, md5=md5), folder, mirror=server.url)


@pytest.mark.parametrize('length', ['announced', None])
@pytest.mark.parametrize('name', KINDS)
def test_a_whole_file_is_kept(server, tmp_path, name, length):
    content = whole_file(name)
    server.files[name] = (len(content) if length else None, content)
    path = _from(server, name, tmp_path / 'new', hashlib.md5(content).hexdigest())
    assert path.read_bytes() == content
    assert os.listdir(tmp_path / 'new') == [name]
    server.files.clear()  # what is there is not asked for again
    assert _from(server, name, tmp_path / 'new') == path


@pytest.mark.parametrize('name', KINDS)
@pytest.mark.parametrize(
    ('fault', 'message'),
    [
        ('short', r'[\d,]+ of [\d,]+ bytes came'),
        ('short without a length', r'what came begins with .* and is no whole \.\w+ file: '),
        ('broken chunks', 'IncompleteRead'),
        ('a page', r"what came begins with b'<!DOCTYPE html>.*' and is no whole \.\w+ file: "),
        ('another file', 'what came has the MD5 sum .*; the published file has abc'),
        ('nothing', 'HTTP Error 404'),
    ],
)
def test_what_is_not_whole_is_absent(server, tmp_path, name, fault, message):
    content, md5 = whole_file(name), ''
    cut = content[: len(content) // 3]
    if fault == 'short':
        server.files[name] = (len(content), content[:-1])
    elif fault == 'short without a length':
        server.files[name] = (None, cut)
    elif fault == 'broken chunks':
        server.files[name] = ('chunks', cut)
    elif fault == 'a page':
        server.files[name] = (len(PAGE), PAGE)
    elif fault == 'another file':
        server.files[name], md5 = (None, content), 'abc'
    with pytest.raises(
        data.DataError, match=rf'{name} cannot be downloaded from http://.* \(.*{message}.*\); put it into .* --mirror'
    ) as caught:
        _from(server, name, tmp_path, md5)
    assert str(caught.value).isprintable()
    assert os.listdir(tmp_path) == []


def test_what_killed_downloads_left_is_removed_and_nothing_else(server, tmp_path):
    kept = ('a.zip.partial', 'a.zip.x1.partial', 'b.zip.1.partial', 'a.zip.1.partial.txt', 'aXzip.1.partial')
    for name in (*kept, 'a.zip.1.partial', f'a.zip.{os.getpid()}.partial', 'a.zip.2.partial'):
        (tmp_path / name).write_bytes(b'x')
    (tmp_path / 'a.zip.3.partial').symlink_to(tmp_path / 'b.zip.1.partial')
    os.mkfifo(tmp_path / 'a.zip.4.partial')
    content = whole_file('a.zip')
    server.files['a.zip'] = (len(content), content)
    with open(tmp_path / 'a.zip.2.partial', 'rb') as living:  # another process downloads it now
        fcntl.flock(living, fcntl.LOCK_EX)
        _from(server, 'a.zip', tmp_path)
    expected = {*kept, 'a.zip', *(f'a.zip.{i}.partial' for i in (2, 3, 4))}
    assert set(os.listdir(tmp_path)) == expected
    _from(server, 'a.zip', tmp_path)  # also where nothing has to be downloaded
    assert set(os.listdir(tmp_path)) == expected - {'a.zip.2.partial'}


def test_what_is_no_regular_file_is_neither_opened_nor_replaced(tmp_path):
    os.mkfifo(tmp_path / 'a.zip')
    with pytest.raises(data.DataError, match=r'a\.zip is no regular file; allowed: the published file, or nothing'):
        fetch(File('a.zip', 'http://127.0.0.1:9/a.zip'), tmp_path)
    assert (tmp_path / 'a.zip').is_fifo()


def _tar(path, *files):
    with tarfile.open(path, 'w:gz') as archive:
        for member, content in files:
            archive.addfile(member, io.BytesIO(content))


def _member(name, size=0, kind=tarfile.REGTYPE, link=''):
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, link
    return member


def test_a_member_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, 'MEMBER_BYTES', 1000)
    _tar(tmp_path / 'a.tgz', (_member('a', 1001), bytes(1001)), (_member('b', 1000), bytes(1000)))
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a', bytes(1001))
        archive.writestr('b', bytes(1000))
    for file in ('a.tgz', 'a.zip'):
        with downloads.members(tmp_path / file) as readers:
            assert list(readers) == ['a', 'b']
            assert readers['b']() == bytes(1000)
            with pytest.raises(data.DataError, match=rf'{file}: a takes 1,001 bytes; allowed: 1,000'):
                readers['a']()
    with pytest.raises(data.DataError, match='x takes 1,001 bytes'):  # whatever its header says
        downloads.read_member(io.BytesIO(bytes(5000)), 'x', 10)


def test_a_header_that_lies_of_a_size_gains_nothing(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a', bytes(5000))
    content = (tmp_path / 'a.zip').read_bytes()
    (tmp_path / 'a.zip').write_bytes(content.replace((5000).to_bytes(4, 'little'), (10).to_bytes(4, 'little')))
    with (
        downloads.members(tmp_path / 'a.zip') as readers,
        pytest.raises(data.DataError, match=r'a\.zip: a cannot be read: '),
    ):
        readers['a']()


def test_members_of_other_kinds_and_twice(tmp_path):
    _tar(
        tmp_path / 'a.tgz',
        (_member('pipe', kind=tarfile.FIFOTYPE), b''),
        (_member('device', kind=tarfile.CHRTYPE), b''),
        (_member('gone', kind=tarfile.SYMTYPE, link='nothing'), b''),
        (_member('loop', kind=tarfile.SYMTYPE, link='loop'), b''),
        (_member('out', kind=tarfile.SYMTYPE, link='/etc/hostname'), b''),
    )
    with downloads.members(tmp_path / 'a.tgz') as readers:
        for name, message in {
            'pipe': 'is no regular file',
            'device': 'is no regular file',
            'gone': 'is a link to nothing',
            'loop': 'is a link to nothing',
            'out': 'is a link to nothing',
        }.items():
            with pytest.raises(data.DataError, match=rf'a\.tgz: {name} {message}'):
                readers[name]()
    _tar(tmp_path / 'b.tgz', (_member('a', 1), b'x'), (_member('a', 1), b'y'))
    with pytest.raises(data.DataError, match=r'b\.tgz holds a twice'), downloads.members(tmp_path / 'b.tgz'):
        pass
