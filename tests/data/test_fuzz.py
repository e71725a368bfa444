"""Folders and label arrays of any kind, against a plain reading of the same input: used wholly, or refused in one line."""

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from gjax import data
from tests.data.trees import contents, encoded

COMMON = {'deadline': None, 'derandomize': True, 'database': None, 'suppress_health_check': [HealthCheck.too_slow]}
SPLITS = {
    'train': 'train',
    'Train': 'train',
    'TRAINING': 'train',
    'train_images': 'train',
    'test': 'test',
    'Test-Set': 'test',
}
SPLITS |= {'val': 'validation', 'VALID': 'validation', 'validation_images': 'validation', 'Dev': 'validation'}
GLUED = {'cattrain': 'train', 'CatTest': 'test', 'catval': 'validation'}  # where two of them meet
APART = ('unlabeled', 'Unseen_Classes', 'held-out')
CLASSES = (
    'cat',
    'Dog',
    '0',
    '1',
    '2',
    '10',
    '011',
    '-3',
    'a b',
    'caf\u00e9',
    '.git',
    '__MACOSX',
    '.ipynb_checkpoints',
    'lost+found',
)
DOMAINS = ('art', 'photo', '7', 'seen', *SPLITS, *GLUED, *APART, '.cache')
FILES = ('a.png', 'b.PNG', 'c.bmp', 'D.jpeg', 'e.webp', 'f.png', 'g.png', 'h.png', 'i.png', 'j.png')
IMAGES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp')
HIDDEN = ('__MACOSX', 'lost+found', 'Thumbs.db', 'desktop.ini')
KINDS = ('PNG', 'PNG', 'BMP')  # of the contents, whatever the names say
OTHERS = ('notes.txt', 'a.XCF', 'README', '._a.png', '.DS_Store', 'Thumbs.db', 'desktop.ini')

_images = st.lists(st.sampled_from(FILES), min_size=1, max_size=6, unique=True)
_class = st.tuples(_images, st.lists(st.sampled_from(OTHERS), max_size=2, unique=True))
_classes = st.dictionaries(st.sampled_from(CLASSES), _class, min_size=1, max_size=5)
_split = st.one_of(
    st.sampled_from(
        (
            ('train', 'test'),
            ('Train', 'Test-Set', 'Dev'),
            ('train_images', 'val'),
            ('TRAINING', 'VALID', 'test'),
            ('cattrain', 'CatTest'),
            ('catval', 'cattrain'),
            ('seen', 'Unseen_Classes'),
        )
    ),
    st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=4, unique=True),
)
_trees = st.fixed_dictionaries(
    {
        'top': _split,
        'depth': st.sampled_from((1, 2, 2, 2, 3, 3, 3)),
        'flat': st.booleans(),  # at depth 2: whether the folders of images are called like splits and domains
        'classes': _classes,
        'lacking': st.sets(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=2),
        'odd': st.lists(
            st.sampled_from(
                (
                    'broken image',
                    'cut image',
                    'other format',
                    'dangling',
                    'loop',
                    'linked class',
                    'linked file',
                    'misplaced',
                    'empty',
                    'other',
                )
            ),
            max_size=2,
            unique=True,
        ),
    }
)


def grow(root: Path, elsewhere: Path, tree: dict) -> None:
    """Makes the folder that `tree` describes."""
    number = 0

    def put(folder, files, others=()):
        nonlocal number
        folder.mkdir(parents=True, exist_ok=True)
        for name in files:
            (folder / name).write_bytes(encoded(number, KINDS[number % len(KINDS)]))
            number += 1
        for name in others:
            (folder / name).write_bytes(b'something else')

    classes, tops = list(tree['classes'].items()), tree['top']
    if tree['flat'] and tree['depth'] == 2:
        classes = [(top, own) for top, (_, own) in zip(tops, classes, strict=False)]
    folders = []
    if tree['depth'] == 1:
        put(root, classes[0][1][0], classes[0][1][1])
    for i, top in enumerate(tops if tree['depth'] == 3 else ['']):
        for k, (name, (files, others)) in enumerate(classes if tree['depth'] > 1 else ()):
            if (i, k) not in tree['lacking']:
                folders.append(root / top / name)
                put(folders[-1], files, others)
    folder = folders[0] if folders else root
    for odd in tree['odd']:
        if odd == 'broken image':
            (folder / 'z.png').write_bytes(b'\x89PNG\r\n\x1a\n then nothing')
        elif odd == 'cut image':
            (folder / 'z.bmp').write_bytes(encoded(0, 'BMP')[:-9])
        elif odd == 'other format':
            (folder / 'z.jpg').write_bytes(encoded(0, 'GIF'))
        elif odd == 'dangling':
            (folder / 'gone').symlink_to(elsewhere / 'nothing')
        elif odd == 'loop':
            (folder / 'again').symlink_to(root)
        elif odd == 'linked class':
            put(elsewhere / 'emu', ['x.png', 'y.png'])
            (folder.parent / 'emu').symlink_to(elsewhere / 'emu')
        elif odd == 'linked file':
            put(elsewhere, ['linked.png'])
            (folder / 'linked.png').symlink_to(elsewhere / 'linked.png')
        elif odd == 'misplaced':
            put(folder / 'deeper', ['m.png'])
        elif odd == 'empty':
            (folder.parent / 'empty').mkdir(exist_ok=True)
        else:
            (folder / 'model.ckpt').write_bytes(b'')


def plain(root: Path):
    """({split: {number: class}}, names of classes, files left out): the rules of README.md, read as plainly as can be.

    For a folder that is refused a text that the line must have.
    """
    images, left = {}, []
    for folder, folders, files in os.walk(root, followlinks=True):
        above, at = set(), folder
        while at != str(root):
            at = os.path.dirname(at)
            above.add(os.path.realpath(at))
        hidden = [d for d in folders if d.startswith('.') or d in ('__MACOSX', 'lost+found')]
        folders[:] = [
            d
            for d in folders
            if d not in hidden and os.path.realpath(os.path.join(folder, d)) not in above | {os.path.realpath(folder)}
        ]
        for name in files:
            path = os.path.join(folder, name)
            if name.startswith('.') or name in ('Thumbs.db', 'desktop.ini'):
                continue
            if not os.path.exists(path):
                return f'{name} is a link to nothing'
            relative = os.path.relpath(path, root)
            if name.lower().rsplit('.', 1)[-1] in ('png', 'jpg', 'jpeg', 'bmp', 'webp'):
                images[relative] = path
            else:
                left.append(relative)
    parts = {relative: relative.split('/') for relative in sorted(images, key=lambda r: r.split('/'))}
    depths = {len(p) for p in parts.values()}
    if not depths:
        return 'holds no images'
    if len(depths) > 1 or max(depths) > 3:
        return 'images at depths'
    depth, split_of = depths.pop(), {}
    first = {p[0] for p in parts.values()}
    role_of = {f: SPLITS.get(f) for f in first}
    if glued := len(first & GLUED.keys()) > 1:
        role_of |= {f: GLUED[f] for f in first & GLUED.keys()}
    plain_names, roles = first & SPLITS.keys(), list(role_of.values())
    pairs = ({role_of[f] for f in own} for own in (plain_names, first & GLUED.keys() if glued else ()))
    pair = any('train' in own and len(own) > 1 for own in pairs)
    if depth == 3:
        looks = bool(plain_names or (glued and pair) or first.intersection(APART) or {'catval', 'CatTest'} <= first)
    else:
        looks = depth == 2 and (pair or plain_names == first)
    if looks:
        alike = first in (plain_names, first & GLUED.keys())
        if not alike or len(set(roles)) < len(roles) or 'train' not in roles or None in roles or len(roles) < 2:
            return 'allowed: train with one of test'
        for relative, p in parts.items():
            role = role_of[p[0]]
            split_of[relative] = 'test' if role == 'validation' and 'test' not in roles else role
    labelled = depth - bool(split_of) > 1
    class_of = {relative: p[-2] if labelled else '' for relative, p in parts.items()}
    if not split_of:
        for name in set(class_of.values()):
            own = [r for r in class_of if class_of[r] == name]
            own.sort(key=lambda r: hashlib.sha256(r.encode()).digest())
            count = int(len(own) / 10 + 0.5) if len(own) > 1 else 0
            count = max(count, 1) if len(own) > 1 else 0
            split_of |= {r: 'test' if i < count else 'train' for i, r in enumerate(own)}
    if not {'train', 'test'} <= set(split_of.values()):
        return 'none falls into the'
    bytes_of = {encoded(number, kind): number for number in range(300) for kind in KINDS}
    for path in images.values():
        if Path(path).read_bytes() not in bytes_of:
            return 'is not a readable image'
    names = sorted(set(class_of.values()))
    if all(n.removeprefix('-').isdecimal() for n in names):
        names.sort(key=lambda n: (int(n), n))
    found = {split: {} for split in set(split_of.values())}
    for relative, path in images.items():
        found[split_of[relative]][bytes_of[Path(path).read_bytes()]] = class_of[relative]
    return found, names if labelled else [], left


def _folder(tree):
    with tempfile.TemporaryDirectory() as folder:
        root, elsewhere = Path(folder, 'root'), Path(folder, 'elsewhere')
        root.mkdir()
        elsewhere.mkdir()
        grow(root, elsewhere, tree)
        expected = plain(root)
        if isinstance(expected, str):
            with pytest.raises(data.DataError) as caught:
                data.find(f'folder:{root}').load()
            event(f'refused: {expected.rpartition("/")[2]}')
            assert expected in str(caught.value)
            assert str(caught.value).isprintable()
            return
        event('used')
        expected, names, left = expected
        dataset = data.find(f'folder:{root}')
        assert contents(dataset) == expected
        assert list(dataset.class_names) == names
        text = data.summary(dataset)
        assert text.isprintable()
        for split, own in expected.items():
            assert f'{len(own)} {split}' in text
        assert (f'{len(left)} file' in text) == bool(left)
        for name in names:
            lacking = [split for split, own in expected.items() if name not in own.values()]
            assert all(f'no {split} images of ' in text for split in lacking)


def _domains(tree):
    """`folder:PATH/*` of a tree: each folder that is not hidden is a set, or one line says why not."""
    with tempfile.TemporaryDirectory() as folder:
        root, elsewhere = Path(folder, 'root'), Path(folder, 'elsewhere')
        root.mkdir()
        elsewhere.mkdir()
        grow(root, elsewhere, tree)
        shown = [entry for entry in sorted(os.listdir(root)) if not entry.startswith('.') and entry not in HIDDEN]
        folders = [entry for entry in shown if (root / entry).is_dir()]
        loose = [entry for entry in shown if entry not in folders and entry.lower().endswith(IMAGES)]
        role = [SPLITS[entry] for entry in folders if entry in SPLITS]
        found, refused = (), ''
        try:
            found = data.set_names({'sources': (f'folder:{root}/*',)})[0]
        except data.DataError as error:
            refused = str(error)
        if refused:
            event('refused')
            assert refused.isprintable()
            assert loose or not folders or role or GLUED.keys() & set(folders) or set(APART) & set(folders)
            return
        event('used')
        assert list(found) == folders
        assert not loose
        assert not ('train' in role and len(role) > 1)


@settings(max_examples=40, **COMMON)
@given(_trees)
def test_the_domains_of_a_folder_are_its_folders(tree):
    _domains(tree)


@pytest.mark.slow
@settings(max_examples=2000, **COMMON)
@given(_trees)
def test_the_domains_of_many_folders(tree):
    _domains(tree)


@settings(max_examples=60, **COMMON)
@given(_trees)
def test_folders_are_read_as_a_plain_reading_does(tree):
    _folder(tree)


@pytest.mark.slow
@settings(max_examples=2000, **COMMON)  # of another name, so others than above
@given(_trees)
def test_many_folders(tree):
    _folder(tree)


DTYPES = (
    'bool',
    'int8',
    'uint8',
    'int16',
    '>i4',
    'int64',
    'uint64',
    'float32',
    'm8[s]',
    'M8[D]',
    'S3',
    'U2',
    'object',
    'c8',
)
_labels = st.fixed_dictionaries(
    {
        'dtype': st.sampled_from(DTYPES + ('int32',) * 12),
        'shape': st.sampled_from(('one',) * 8 + ('column', 'scalar', 'short', 'empty', 'map')),
        'values': st.one_of(
            st.permutations((0, 0, 1, 2, 3, 3)),
            st.permutations((0, 1, 1, 1, 1, 3)),
            st.lists(st.integers(0, 4), min_size=6, max_size=6),
            st.lists(st.sampled_from((-1, 0, 1, 127)), min_size=6, max_size=6),
            st.just([-1] * 6),
            st.lists(st.sampled_from((0, 2**31 - 2, 2**31 - 1, 2**40, -(2**40), float('nan'))), min_size=6, max_size=6),
        ),
    }
)


def _array(spec):
    """The array of labels that a spec describes, for six images of 2 x 2 pixels; None if NumPy makes none."""
    values = np.asarray(spec['values'], object)
    shapes = {'one': values, 'column': values[:, None], 'scalar': values[:1].reshape(()), 'short': values[:5]}
    shapes |= {'empty': values[:0], 'map': np.broadcast_to(values[:, None, None], (6, 2, 2))}
    with np.errstate(all='ignore'):
        try:
            return shapes[spec['shape']].astype(spec['dtype'])
        except (ValueError, TypeError, OverflowError):
            return None


def _npz(train, test):
    arrays = {'train': train and _array(train), 'test': test and _array(test)}
    labels = {split: own for split, own in arrays.items() if own is not None}
    images = np.zeros((6, 2, 2, 1), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'a.npz')
        np.savez(path, train_images=images, test_images=images, **{f'{s}_labels': own for s, own in labels.items()})
        whole = all(own.dtype.kind in 'iu' and own.shape == (6,) for own in labels.values())
        lists = {split: own.tolist() for split, own in labels.items()} if whole else {}
        none = not labels or (len(lists) == 2 and all(value == -1 for own in lists.values() for value in own))
        plain = len(lists) == 2 and all(0 <= v <= max(lists['train']) < 2**31 - 1 for own in lists.values() for v in own)
        maps = len(labels) == 2 and all(own.dtype == np.uint8 and own.shape == (6, 2, 2) for own in labels.values())
        maps = maps and all(v <= max(labels['train'].ravel()) for v in labels['test'].ravel().tolist())
        if not (none or plain or maps):
            with pytest.raises(data.DataError) as caught:
                data.load(f'npz:{path}')
            assert str(caught.value).isprintable()
            return
        dataset = data.load(f'npz:{path}')
        event('no labels' if none else 'labels')
        if none:
            assert 'label' not in dataset.fields
            return
        assert dataset.num_classes == int(labels['train'].max()) + 1
        for split, own in labels.items():
            assert dataset.splits[split].labels.tolist() == own.tolist()
        assert data.summary(dataset).isprintable()


@settings(max_examples=100, **COMMON)
@given(st.one_of(st.none(), _labels), st.one_of(st.none(), _labels))
@example(None, None)
@example(*[{'dtype': 'int64', 'shape': 'one', 'values': [-1] * 6}] * 2)
def test_labels_are_those_of_the_file_or_it_is_refused(train, test):
    _npz(train, test)


@settings(max_examples=50, **COMMON)
@given(_labels)
def test_labels_of_one_form_in_both_splits(labels):
    _npz(labels, labels)


@pytest.mark.slow
@settings(max_examples=2000, **COMMON)
@given(st.one_of(st.none(), _labels), _labels)
def test_many_labels(train, test):
    _npz(train, test)


_images_array = st.fixed_dictionaries(
    {
        'dtype': st.sampled_from(('uint8',) * 6 + ('float32',) * 4 + DTYPES),
        'shape': st.sampled_from(((6, 2, 2), (6, 2, 2, 1), (6, 2, 2, 3), (6, 3), (6,), (), (0, 2, 2), (6, 0), (6, 2, 2, 2))),
        'range': st.sampled_from((1.0, 255.0, -1.0)),
        'strange': st.sampled_from((None, None, None, float('nan'), float('inf'))),
    }
)


def _pictures(train, test):
    """Images of an .npz: those of the file bit for bit, or points, or one line."""
    arrays = {}
    for split, own in (('train', train), ('test', test)):
        values = np.asarray(np.random.default_rng(0).uniform(0, 1, own['shape']) * own['range'])
        if values.size and own['strange'] is not None:
            values.flat[0] = own['strange']
        with np.errstate(all='ignore'):
            try:
                arrays[split] = np.asarray(values.astype(own['dtype']))
            except (TypeError, ValueError):
                return
    forms = {own.shape[1:] + (1,) * (own.ndim == 3) for own in arrays.values()}
    images = all(
        own.dtype == np.uint8 and own.size and (own.ndim == 3 or (own.ndim == 4 and own.shape[3] in (1, 3)))
        for own in arrays.values()
    )
    points = all(
        own.dtype == np.float32 and own.ndim == 2 and own.size and bool(np.isfinite(own).all()) for own in arrays.values()
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'a.npz')
        np.savez(path, **{f'{split}_images': own for split, own in arrays.items()})
        if not (images or points) or len(forms) > 1:
            with pytest.raises(data.DataError) as caught:
                data.load(f'npz:{path}')
            assert str(caught.value).isprintable()
            return
        event('images' if images else 'points')
        dataset = data.load(f'npz:{path}')
        for split, own in arrays.items():
            column = dataset.splits[split].columns['image' if images else 'points']
            assert column.dtype == own.dtype
            np.testing.assert_array_equal(column, own[..., None] if own.ndim == 3 else own)


@settings(max_examples=50, **COMMON)
@given(_images_array, st.data())
def test_images_are_those_of_the_file_or_it_is_refused(images, more):
    _pictures(images, more.draw(st.one_of(st.just(images), _images_array)))


@pytest.mark.slow
@settings(max_examples=2000, **COMMON)
@given(_images_array, st.data())
def test_many_images(images, more):
    _pictures(images, more.draw(st.one_of(st.just(images), _images_array)))
