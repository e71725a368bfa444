"""Published files: fetched whole or not at all, and read without trusting what they say of their sizes."""

import bz2
import contextlib
import dataclasses
import fcntl
import glob
import hashlib
import os
import re
import shutil
import tarfile
import urllib.request
import zipfile
from pathlib import Path
from typing import BinaryIO

from gjax.data.dataset import DataError
from gjax.data.entries import shown

MEMBER_BYTES = 64 * 2**20  # of one file in an archive; what the known sets hold takes a few MB at most
_CHUNK = 2**20


@dataclasses.dataclass(frozen=True)
class File:
    """A published file. url: '' where there is none that a program may read. md5: '' where none is known."""

    name: str
    url: str = ''
    md5: str = ''


def fetch(file: File, folder: Path, *, mirror: str = '') -> Path:
    """The file in `folder`, downloaded if it is not there: from MIRROR/NAME, or from where it is published.

    A download gets its name when it is as long as announced, is of the kind that its name says (archives are read to their
    end), and has the checksum that is known. What is left of downloads that were killed is removed.

    Raises:
      DataError: it is nowhere to be had, or it is not the published one; the message says what to do.
    """
    path = folder / file.name
    _sweep(path)
    if path.is_file():
        if file.md5 and (found := _digest(path)) != file.md5:
            raise DataError(
                f'{path} has the MD5 sum {found}; the published file has {file.md5}: remove it to download it again'
            )
        return path
    if path.exists():
        raise DataError(f'{path} is no regular file; allowed: the published file, or nothing, so that it is downloaded')
    url = f'{mirror.rstrip("/")}/{file.name}' if mirror else file.url
    advice = f'put it into {folder} (--manual_dir), or name a --mirror that has it'
    if not url:
        raise DataError(f'{file.name} is not in {folder}, and no public link to it can be read by a program; {advice}')
    try:
        _download(file, url, path)
    except Exception as error:  # of the system, of HTTP, of archives
        reason = ' '.join(str(error).split())[:160] or type(error).__name__
        raise DataError(f'{file.name} cannot be downloaded from {url} ({reason}); {advice}') from error
    return path


def _download(file: File, url: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.{os.getpid()}.partial')
    partial.unlink(missing_ok=True)
    try:
        with urllib.request.urlopen(url, timeout=60) as stream, open(partial, 'xb') as out:
            with contextlib.suppress(OSError):  # not every file system has locks; without them nothing is swept
                fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)  # says to `_sweep` that this process lives
            shutil.copyfileobj(stream, out)
            out.flush()
            found, announced = out.tell(), stream.headers.get('Content-Length', '')
            if announced.isdecimal() and found != int(announced):
                raise ValueError(f'{found:,} of {int(announced):,} bytes came')
            _check_whole(partial, file.name)
            if file.md5 and (digest := _digest(partial)) != file.md5:
                raise ValueError(f'what came has the MD5 sum {digest}; the published file has {file.md5}')
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Removes what is left of downloads of `path` that were killed, by the names that `_download` writes."""
    for partial in path.parent.glob(f'{glob.escape(path.name)}.*.partial'):
        own = re.fullmatch(r'\.\d+\.partial', partial.name.removeprefix(path.name))
        if not own or partial.is_symlink() or not partial.is_file():
            continue
        with contextlib.suppress(OSError), open(partial, 'rb') as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            partial.unlink()


def _digest(path: Path) -> str:
    with open(path, 'rb') as stream:
        return hashlib.file_digest(stream, 'md5').hexdigest()


def _check_whole(path: Path, name: str) -> None:
    """Reads a file as what `name` says it is, archives to their end; ValueError if it is a page that asks to log in, say."""
    try:
        if name.endswith('.mat'):
            from scipy.io import whosmat

            whosmat(path)
        elif name.endswith('.txt'):
            if path.read_text(encoding='utf-8').lstrip().startswith('<'):
                raise ValueError('it is a page')
        elif name.endswith('.bz2'):
            with bz2.open(path) as content:
                _drain(content)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if bad := archive.testzip():
                    raise ValueError(f'{shown(bad)} is damaged')
        else:
            with tarfile.open(path) as archive:
                for _ in archive:
                    pass
                _drain(archive.fileobj)
    except Exception as error:
        with open(path, 'rb') as stream:
            start = stream.read(20)
        reason = str(error).partition('\n')[0].rstrip(':')
        raise ValueError(f'what came begins with {start!r} and is no whole {Path(name).suffix} file: {reason}') from error


def _drain(stream: BinaryIO) -> None:
    while stream.read(_CHUNK):
        pass


def read_member(stream: BinaryIO, name: str, size: int) -> bytes:
    """All of a file in an archive.

    Args:
      stream: it.
      name: how messages call it.
      size: what the archive says that it takes, in bytes.

    Raises:
      DataError: it takes more than `MEMBER_BYTES`.
    """
    content = b'' if size > MEMBER_BYTES else stream.read(MEMBER_BYTES + 1)
    if max(size, len(content)) > MEMBER_BYTES:
        raise DataError(f'{name} takes {max(size, len(content)):,} bytes; allowed: {MEMBER_BYTES:,}')
    return content


@contextlib.contextmanager
def members(path: Path):
    """A context that gives {path in a .zip or tar archive: function that reads it}, sorted, without folders.

    Links in an archive are followed, inside it.

    Raises:
      DataError: a path is there twice; from the functions: a file that takes more than `MEMBER_BYTES`, a link to nothing, or
        what is no regular file.
    """
    with contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            found = [(info.filename, info) for info in archive.infolist() if not info.is_dir()]
            read = _read_zipped
        else:
            archive = stack.enter_context(tarfile.open(path))
            found = [(member.name, member) for member in archive.getmembers() if not member.isdir()]
            read = read_tarred
        readers = {}
        for name, member in sorted(found, key=lambda pair: pair[0]):
            if name in readers:
                raise DataError(f'{path.name} holds {shown(name)} twice; allowed: each file once')
            readers[name] = lambda member=member: read(archive, member, path.name)
        yield readers


def _read_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> bytes:
    name = f'{name}: {shown(info.filename)}'
    try:
        with archive.open(info) as stream:
            return read_member(stream, name, info.file_size)
    except DataError:
        raise
    except Exception as error:  # damaged, encrypted, or compressed in a way that Python lacks
        raise DataError(f'{name} cannot be read: {" ".join(str(error).split())[:160]}') from error


def read_tarred(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> bytes:
    """All of a member of a tar archive that messages call `name`; raises as the functions of `members` do."""
    name = f'{name}: {shown(member.name)}'
    try:
        stream = archive.extractfile(member)
    except (KeyError, RecursionError) as error:
        raise DataError(f'{name} is a link to nothing') from error
    if stream is None:
        raise DataError(f'{name} is no regular file; allowed: files, and links to files')
    return read_member(stream, name, member.size)
