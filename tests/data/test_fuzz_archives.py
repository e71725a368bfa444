"""Crafted archives, .npz files and tickets: used wholly, or refused in one line; nothing starts, nothing outside changes."""

import contextlib
import io
import json
import os
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from gjax import data, masks
from gjax.data import builders, downloads
from gjax.train.errors import RunError
from gjax.train.store.tickets import load_ticket
from tests.data.trees import EPS, encoded, number_of

COMMON = {'deadline': None, 'derandomize': True, 'database': None, 'suppress_health_check': [HealthCheck.too_slow]}
LIMIT = 5000  # bytes of a member

# What a member may be called: images of the domain, of another one, hidden ones, other files, and names that lead elsewhere.
_own = st.builds('{}/{}/{}'.format, st.sampled_from(('webcam', 'x/webcam/images')), *map(st.sampled_from, (
    ('mug', 'bike', 'trash_can'), ('0.png', '1.PNG', '2.jpg'))))  # fmt: skip
_odd = st.sampled_from(
    (
        'dslr/mug/0.png',
        'webcam/cup/0.png',
        'webcam/mug/notes.txt',
        'webcam/mug/._0.png',
        '__MACOSX/webcam/mug/0.png',
        '../../precious/webcam/mug/7.png',
        '/precious/webcam/mug/8.png',
        'webcam/mug/../../../precious/mug/9.png',
        'webcam/mug/two\nlines.png',
        'webcam/mug/caf\u00e9\u202e.png',
        f'webcam/mug/{"a" * 300}.png',
        'webcam/mug/\udcff\udce9.png',  # bytes that are not UTF-8
        'webcam/mug/.png',
        '',
        '/',
        'webcam',
    )
)
_odd_contents = ('eps', 'page', 'cut', 'large', 'bomb', 'empty', 'pipe', 'device', 'gone', 'out', 'link')
DECLARED = 2**32 - 2  # bytes that the header of a bomb announces
_contents = st.one_of(*[st.just('image')] * 9, st.sampled_from(_odd_contents))
_members = st.lists(st.tuples(st.one_of(_own, _own, _odd), _contents), min_size=1, max_size=5)
_damage = st.one_of(st.none(), st.none(), st.tuples(st.sampled_from(('cut', 'flip')), st.floats(0, 1), st.integers(0, 255)))


def _content(kind: str, number: int) -> bytes:
    whole = encoded(number)
    return {'image': whole, 'eps': EPS, 'page': b'<html>', 'cut': whole[:-40], 'large': bytes(LIMIT + 1)}.get(kind, b'')


def _damaged(content: bytes, damage) -> bytes:
    if damage is None:
        return content
    how, where, value = damage
    at = int(where * (len(content) - 1))
    return content[:at] if how == 'cut' else content[:at] + bytes([value]) + content[at + 1 :]


def _zip(path: Path, members) -> None:
    """Names that are not UTF-8 are written as other names of as many bytes, and then replaced."""
    raw = {}
    with warnings.catch_warnings(), zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter('ignore')  # of names that are there twice
        for number, (name, kind) in enumerate(members):
            stored = name if _is_text(name) else '~' * len(name.encode('utf-8', 'surrogateescape'))
            archive.writestr(stored or '.', _content(kind, number))
            if not _is_text(name):
                raw[stored] = name
            if kind == 'bomb':
                archive.filelist[-1].file_size = DECLARED
    content = path.read_bytes()
    for stored, name in raw.items():
        content = content.replace(stored.encode(), name.encode('utf-8', 'surrogateescape'))
    path.write_bytes(content)


def _is_text(name: str) -> bool:
    return not any('\udc80' <= character <= '\udcff' for character in name)


def _tar(path: Path, members) -> None:
    kinds = {'pipe': (tarfile.FIFOTYPE, ''), 'device': (tarfile.CHRTYPE, ''), 'gone': (tarfile.SYMTYPE, 'nothing')}
    kinds |= {'out': (tarfile.SYMTYPE, '/etc/hostname'), 'link': (tarfile.LNKTYPE, members[0][0])}
    with tarfile.open(path, 'w:gz') as archive:
        for number, (name, kind) in enumerate(members):
            member, content = tarfile.TarInfo(name), _content(kind, number)
            member.type, member.linkname = kinds.get(kind, (tarfile.REGTYPE, ''))
            member.size = DECLARED if kind == 'bomb' else len(content)
            if kind == 'bomb':  # a header alone
                archive.fileobj.write(member.tobuf())
            else:
                archive.addfile(member, io.BytesIO(content))


def _everything(root: Path) -> dict:
    return {path: path.read_bytes() for path in root.rglob('*') if path.is_file()}


@contextlib.contextmanager
def _untouched():
    """A folder `inside` to work in; what is beside it, and the program gs, must be as they were."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        inside, outside = root / 'above' / 'inside', root / 'precious'
        inside.mkdir(parents=True)
        outside.mkdir()
        (outside / 'file').write_bytes(b'precious')
        gs = root / 'gs'
        gs.write_text(f'#!/bin/sh\n: > {outside}/started\n')
        gs.chmod(0o755)
        before = _everything(outside)
        with mock.patch.dict(os.environ, {'PATH': f'{root}:{os.environ["PATH"]}'}):
            yield inside
        assert _everything(outside) == before
        assert sorted(os.listdir(root)) == ['above', 'gs', 'precious']
        assert os.listdir(root / 'above') == ['inside']


def _one_line(error) -> None:
    assert str(error).isprintable()
    assert len(str(error)) < 2000


def _expected(members, kind: str) -> set[int] | None:
    """The numbers of the images of webcam by a plain reading of README.md; None where the archive is refused."""
    names, found, keys = [name for name, _ in members], set(), []
    if kind == 'zip':
        names = [name or '.' for name in names]
    if kind == 'tar' and any(content == 'bomb' for _, content in members):  # all that follows is its content
        return None
    if any(names.count(name) > 1 for name in names if not (kind == 'zip' and name.endswith('/'))):
        return None
    for number, (name, (_, content)) in enumerate(zip(names, members, strict=True)):
        parts = [part for part in name.split('/') if part]
        hidden = any(part.startswith('.') or part == '__MACOSX' for part in parts)
        is_image = name.lower().endswith(('.png', '.jpg'))
        if hidden or not is_image or 'webcam' not in parts[:-2] or parts[-2] not in builders.Office31.CLASSES:
            continue
        if content == 'link' and kind == 'tar' and number:
            number, content = 0, members[0][1]
        if content != 'image':
            return None
        keys.append(tuple(parts[-2:]))
        found.add(number)
    return found if found and len(set(keys)) == len(keys) else None


def _prepare(members, kind, damage):
    with _untouched() as inside, mock.patch.object(downloads, 'MEMBER_BYTES', LIMIT):
        path = inside / f'office31.{"zip" if kind == "zip" else "tar.gz"}'
        (_zip if kind == 'zip' else _tar)(path, members)
        path.write_bytes(_damaged(path.read_bytes(), damage))
        expected = _expected(members, kind)
        try:
            builders.prepare('office31/webcam', str(inside / 'tfds'), manual_dir=str(inside))
        except data.DataError as error:
            event('refused')
            _one_line(error)
            assert damage is not None or expected is None
            return
        event('used')
        found = data.load('office31/webcam', str(inside / 'tfds')).train
        if damage is None:
            assert set(map(number_of, found.images)) == expected


@settings(max_examples=12, **COMMON)
@given(_members, st.sampled_from(('zip', 'tar')), _damage)
@example([('webcam/mug/0.png', 'image'), ('webcam/bike/0.png', 'link')], 'tar', None)
@example([('webcam/mug/0.png', 'image'), ('webcam/mug/\udcff\udce9.png', 'image')], 'zip', None)
@example([('webcam/mug/0.png', 'image'), ('webcam/mug/1.PNG', 'bomb')], 'zip', None)
@example([('webcam/mug/0.png', 'image'), ('webcam/mug/1.PNG', 'bomb')], 'tar', None)
def test_archives_are_used_wholly_or_refused(members, kind, damage):
    _prepare(members, kind, damage)


@pytest.mark.slow
@settings(max_examples=400, **COMMON)
@given(_members, st.sampled_from(('zip', 'tar')), _damage)
def test_many_archives(members, kind, damage):
    _prepare(members, kind, damage)


LISTED = ('photo/dog/0.png', 'photo/dog/1.png', 'photo/person/2.png', 'photo/person/3.png')
_lines = st.lists(
    st.one_of(
        *[st.sampled_from(LISTED).map(lambda image: f'{image} {7 if "person" in image else 1}')] * 9,
        st.sampled_from(
            (
                '',
                'photo/dog/1.png',
                'photo/dog/1.png 7',
                'photo/dog/1.png \u0661',
                'photo/dog/9.png 1',
                'photo/../precious/file 1',
                '/precious/file 1',
                'sketch/dog/1.png 1',
                'photo/dog/two\tlines.png 1',
                '0' * 5000,
            )
        ),
    ),
    min_size=1,
    max_size=4,
)


def _listed(train, test, damage):
    """Published lists beside an archive: the images of each list, or one line."""
    with _untouched() as inside:
        _zip(inside / 'PACS.zip', [(f'PACS/{image}', 'image') for image in LISTED])
        numbers, wanted = {image: number for number, image in enumerate(LISTED)}, {}
        for name, lines in (('train', train), ('crossval', test)):
            content = '\n'.join(lines).encode()
            (inside / f'photo_{name}_kfold.txt').write_bytes(_damaged(content, damage) if content else content)
            right = [f'{image} {7 if "person" in image else 1}' for image in LISTED]
            own = [line for line in lines if line]
            if own and all(line in right for line in own) and len(set(own)) == len(own):
                wanted[name] = {numbers[line.split()[0]] for line in own}
        try:
            with mock.patch.object(builders.PacsKfold, 'SHAPE', (None, None, 3)):
                builders.prepare('pacs_kfold/photo', str(inside / 'tfds'), manual_dir=str(inside))
        except data.DataError as error:
            event('refused')
            _one_line(error)
            assert damage is not None or len(wanted) < 2
            return
        event('used')
        found = data.load('pacs_kfold/photo', str(inside / 'tfds'))
        if damage is None:
            assert {
                'train': set(map(number_of, found.train.images)),
                'crossval': set(map(number_of, found.test.images)),
            } == (wanted)


@settings(max_examples=10, **COMMON)
@given(_lines, _lines, _damage)
@example([f'{LISTED[0]} 1', f'{LISTED[2]} 7'], [f'{LISTED[1]} 1', ''], None)
def test_published_lists_are_used_wholly_or_refused(train, test, damage):
    _listed(train, test, damage)


@pytest.mark.slow
@settings(max_examples=300, **COMMON)
@given(_lines, _lines, _damage)
def test_many_published_lists(train, test, damage):
    _listed(train, test, damage)


_headers = st.fixed_dictionaries(
    {
        'descr': st.sampled_from(
            ("'|u1'", "'<i8'", "'<f4'", "'|O'", "'<m8[s]'", "'<U9'", "[('a','<i4')]", "'|V0'", '9', '[' * 90)
        ),
        'fortran_order': st.sampled_from(('False', 'True', '1')),
        'shape': st.sampled_from(
            ('(6,2,2,1)', '(6,)', '()', '(10**9,)', '(-1,)', f'({10**18},)', f'({2**62},{2**62})', '(True,)')
        ),
    }
)
_arrays = st.one_of(
    st.just('whole'),
    st.just('whole'),
    st.just('lacking'),
    st.binary(max_size=40),
    st.tuples(_headers, st.binary(max_size=40)),
)


def _npy(header: dict, content: bytes) -> bytes:
    text = ('{' + ', '.join(f"'{key}': {value}" for key, value in header.items()) + '}\n').encode()
    return b'\x93NUMPY\x01\x00' + len(text).to_bytes(2, 'little') + text + content


def _npz(arrays, suffix, damage):
    images = np.zeros((6, 2, 2, 1), np.uint8)
    whole = {'train_images': images, 'train_labels': np.arange(6), 'test_images': images, 'test_labels': np.arange(6)}
    with _untouched() as inside:
        path = inside / 'a.npz'
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            for (name, array), own in zip(whole.items(), arrays, strict=True):
                stream = io.BytesIO()
                np.save(stream, array)
                if own != 'lacking':
                    content = own if isinstance(own, bytes) else stream.getvalue() if own == 'whole' else _npy(*own)
                    archive.writestr(f'{name}{suffix}' if own != 'whole' else f'{name}.npy', content)
        path.write_bytes(_damaged(path.read_bytes(), damage))
        try:
            dataset = data.load(f'npz:{path}')
        except data.DataError as error:
            event('refused')
            _one_line(error)
            assert damage is not None or any(own != 'whole' for own in arrays)
            return
        event('used')
        assert dataset.train.images.dtype == np.uint8 or 'points' in dataset.fields


@settings(max_examples=30, **COMMON)
@given(st.tuples(*[_arrays] * 4), st.sampled_from(('.npy', '')), _damage)
def test_arrays_are_used_or_refused(arrays, suffix, damage):
    _npz(arrays, suffix, damage)


@pytest.mark.slow
@settings(max_examples=3000, **COMMON)
@given(st.tuples(*[_arrays] * 4), st.sampled_from(('.npy', '')), _damage)
def test_many_arrays(arrays, suffix, damage):
    _npz(arrays, suffix, damage)


_sizes = st.one_of(
    st.integers(0, 3), st.integers(), st.floats(), st.booleans(), st.none(), st.sampled_from((2**49, 10**4000))
)
_names = st.one_of(
    st.sampled_from(('a', 'a/b', 'a/b/c', 'b', '', '/', 'a/' * 70, 'two\nlines')), st.text(max_size=9), _sizes
)
_rows = st.tuples(
    _names,
    st.one_of(st.lists(st.integers(0, 3), max_size=3), st.lists(_sizes, max_size=3), st.text(max_size=3), _sizes),
    st.one_of(st.sampled_from(('float32', 'bool', 'bfloat16', 'int32', 'object', 'float32,float32')), _sizes),
    st.one_of(st.booleans(), st.booleans(), _sizes),
)
_index = st.one_of(
    st.lists(_rows, max_size=4).map(json.dumps),
    st.recursive(_sizes, lambda inner: st.lists(inner, max_size=4), max_leaves=9).map(json.dumps),
    st.text(max_size=20),
    st.sampled_from(('[' * 9999, '[["a",[1e999],"bool",true]]', '[["a",[-0],"bool",false]]', '{}', 'null')),
)
_WHOLE = [['a/b', [2], 'float32', True], ['b', [3, 1], 'int32', False], ['c', [], 'bool', False]]


@st.composite
def _near(draw):
    """A whole index in which one entry may be another."""
    rows = [list(row) for row in _WHOLE]
    if draw(st.booleans()):
        row, column = draw(st.integers(0, 2)), draw(st.integers(0, 3))
        rows[row][column] = draw(_rows)[column]
    return json.dumps(rows)


_bytes = st.one_of(st.binary(max_size=12), st.just(bytes(12)))
_tickets = st.one_of(
    st.tuples(_index, _bytes, _bytes, st.booleans()),
    st.tuples(
        _near(),
        st.sampled_from((b'\xc0', b'\x80', b'\0', b'')),
        st.sampled_from([bytes(n) for n in (21, 17, 13, 12)]),
        st.just(False),
    ),
)


def _ticket(ticket):
    index, packed, values, raw = ticket
    text = index.encode(errors='surrogatepass')
    arrays = {'index': np.frombuffer(text, np.uint8), 'mask': np.frombuffer(packed, np.uint8)}
    arrays['values'] = values if raw else np.frombuffer(values, np.uint8)
    try:
        mask, found = masks.unpack(arrays)
    except ValueError as error:
        event('refused')
        _one_line(error)
        return
    event('used')
    again_mask, again = masks.unpack(masks.pack(mask, found))
    for one, other in ((mask, again_mask), (found, again)):
        assert jax.tree.structure(one) == jax.tree.structure(other)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


@settings(max_examples=60, **COMMON)
@given(_tickets)
def test_tickets_are_used_or_refused(ticket):
    _ticket(ticket)


@pytest.mark.slow
@settings(max_examples=5000, **COMMON)
@given(_tickets)
def test_many_tickets(ticket):
    _ticket(ticket)


_TICKET = {
    'index': np.frombuffer(json.dumps(_WHOLE).encode(), np.uint8),
    'mask': np.frombuffer(b'\x80', np.uint8),
    'values': np.frombuffer(np.asarray([1.5], np.float32).tobytes() + bytes(13), np.uint8),
}


@pytest.mark.slow
@settings(max_examples=400, **COMMON)
@given(_damage, st.dictionaries(st.sampled_from(('index', 'mask', 'values', 'x')), _arrays, max_size=2))
@example(None, {})
def test_many_files_of_tickets(damage, others):
    with _untouched() as inside:
        path = inside / 'ticket.npz'
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            for name in _TICKET.keys() | others.keys():
                stream, own = io.BytesIO(), others.get(name, 'whole')
                np.save(stream, _TICKET.get(name, np.zeros(2)))
                if own != 'lacking':
                    content = own if isinstance(own, bytes) else stream.getvalue() if own == 'whole' else _npy(*own)
                    archive.writestr(f'{name}.npy', content)
        path.write_bytes(_damaged(path.read_bytes(), damage))
        try:
            mask, _ = load_ticket(path)
        except RunError as error:
            event('refused')
            _one_line(error)
            assert damage is not None or any(own != 'whole' for own in others.values())
            return
        event('used')
        assert mask['a']['b'].tolist() == [True, False]


def test_a_whole_ticket_is_used():
    mask, found = masks.unpack(_TICKET)
    assert mask['a']['b'].tolist() == [True, False]
    assert found['a']['b'].tolist() == [1.5, 0]
