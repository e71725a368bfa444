"""npz files, folders and TFDS sets: what loads, and the one line that says why something does not."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from gjax import data
from gjax.data import prepared


def _arrays():
    rng = np.random.default_rng(0)
    return {
        'train_images': rng.integers(0, 256, (8, 6, 6, 3)).astype(np.uint8),
        'train_labels': np.asarray([0, 1, 2, 0, 1, 2, 0, 1]),
        'test_images': rng.integers(0, 256, (3, 6, 6, 3)).astype(np.uint8),
        'test_labels': np.asarray([2, 1, 0]),
    }


def test_npz_round_trip(tmp_path):
    np.savez(tmp_path / 'a.npz', **_arrays())
    dataset = data.load(f'npz:{tmp_path}/a.npz')
    np.testing.assert_array_equal(dataset.train.images, _arrays()['train_images'])
    assert dataset.num_classes == 3
    assert dataset.test.labels.dtype == np.int32


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'test_labels': None}, 'lacks test_labels; needed'),
        ({'train_images': np.zeros((8, 6, 6, 3), np.float32)}, 'dtype float32; allowed: uint8'),
        ({'train_images': np.zeros((8, 6), np.uint8)}, r'shape \(8, 6\); allowed'),
        ({'train_images': np.zeros((8, 0, 6, 3), np.uint8)}, r'shape \(8, 0, 6, 3\); allowed'),
        ({'train_labels': np.zeros(7, int)}, r'labels have shape \(7,\); allowed: \(8,\)'),
        ({'train_labels': np.zeros(8)}, 'dtype float64; allowed: integers'),
        ({'test_labels': np.asarray([0, 1, 9])}, r'test labels run from 0 to 9; allowed: 0\.\.2'),
        ({'test_labels': np.asarray([0, 1, 2**32 + 1])}, 'test labels run from 0 to 4294967297'),
        ({'train_labels': np.asarray([-1, 1, 2, 0, 1, 2, 0, 1])}, 'run from -1 to 2'),
        ({'test_images': np.zeros((3, 4, 4, 3), np.uint8)}, r'allowed: \(6, 6, 3\), as in train'),
        ({'train_images': np.asarray([None] * 8)}, r'not a readable \.npz file'),
        ({'train_labels': np.asarray([0, 1, 2, 0, 1, 2, 0, 1], 'm8[s]')}, r'dtype timedelta64\[s\]; allowed: integers'),
        ({'train_labels': np.zeros(8, bool)}, 'dtype bool; allowed: integers'),
        (
            {'train_labels': np.asarray([0, 2**31 - 1] * 4)},
            r'train labels run from 0 to 2147483647; allowed: 0\.\.2147483646',
        ),
        (
            {'test_labels': np.full(3, -1)},
            'test labels are all -1, those of other splits not; allowed: labels in all splits or in',
        ),
        ({'train_labels': None}, 'lacks train_labels; needed: .*; allowed: labels in all splits or in none'),
        (
            {'train_labels': np.full((8, 1), -1), 'test_labels': np.full(3, -1)},
            r'labels have shape \(8, 1\); allowed: \(8,\)',
        ),
        (
            {'train_images': np.full((8, 2), np.nan, np.float32), 'test_images': np.zeros((3, 2), np.float32)},
            'train has points that are not finite, e.g. in row 0; allowed: finite numbers',
        ),
    ],
)
def test_bad_npz_is_refused(tmp_path, change, message):
    arrays = {key: value for key, value in (_arrays() | change).items() if value is not None}
    np.savez(tmp_path / 'a.npz', **arrays)
    with pytest.raises(data.DataError, match=message):
        data.load(f'npz:{tmp_path}/a.npz')


@pytest.mark.parametrize('labels', [None, -1])
def test_an_npz_without_labels_is_a_set_without_labels(tmp_path, labels):
    """Without the arrays, or where all are -1."""
    arrays = _arrays() | {'validation_images': _arrays()['test_images']}
    counts = {'train': 8, 'test': 3, 'validation': 3}
    arrays |= {f'{split}_labels': None if labels is None else np.full(n, labels) for split, n in counts.items()}
    np.savez(tmp_path / 'a.npz', **{key: value for key, value in arrays.items() if value is not None})
    dataset = data.load(f'npz:{tmp_path}/a.npz')
    assert (dataset.num_classes, list(dataset.fields)) == (0, ['image'])
    for split, count in counts.items():
        assert list(dataset.splits[split].columns) == ['image']
        np.testing.assert_array_equal(dataset.splits[split].images, arrays[f'{split}_images'])
        assert len(dataset.splits[split]) == count
    assert data.summary(dataset) == f'npz:{tmp_path}/a.npz: 8 train / 3 validation / 3 test, no labels'


def test_what_an_npz_has_beside_is_said(tmp_path):
    np.savez(tmp_path / 'a.npz', **_arrays(), extra_images=np.zeros(2), names=np.zeros(1))
    expected = '8 train / 3 test, 3 classes (0 4, 1 4, 2 3), left out: 2 arrays (extra_images, names)'
    assert data.summary(data.find(f'npz:{tmp_path}/a.npz')) == f'npz:{tmp_path}/a.npz: {expected}'


def test_a_member_that_is_no_array_is_refused(tmp_path):
    np.savez(tmp_path / 'a.npz', **{key: value for key, value in _arrays().items() if key != 'train_labels'})
    with zipfile.ZipFile(tmp_path / 'a.npz', 'a') as archive:
        archive.writestr('train_labels', b'01201201')
    with pytest.raises(data.DataError, match='has train_labels, which is no array; write it with'):
        data.find(f'npz:{tmp_path}/a.npz')


@pytest.mark.parametrize('path', ['pipe', '/dev/zero'])
def test_an_npz_that_is_no_regular_file_is_never_opened(tmp_path, path):
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(data.DataError, match=r"data\.name is 'npz:/.*', which is no regular file; allowed: a file of numpy"):
        data.find(f'npz:{tmp_path / path}')


def _maps():
    """Label maps of classes 0..3 with pixels of 255 that count nowhere."""
    rng = np.random.default_rng(1)
    found = {}
    for split, count in (('train', 8), ('test', 3)):
        classes = rng.integers(0, 4, (count, 6, 6))
        found[f'{split}_labels'] = np.where(rng.uniform(size=classes.shape) < 0.1, 255, classes).astype(np.uint8)
    return found


def test_label_maps_through_npz(tmp_path):
    np.savez(tmp_path / 'a.npz', **(_arrays() | _maps()))
    dataset = data.load(f'npz:{tmp_path}/a.npz')
    assert dataset.fields['label'] == data.Field('map', (6, 6), 'uint8', 4, 255)
    assert dataset.num_classes == 4
    for split in ('train', 'test'):
        np.testing.assert_array_equal(getattr(dataset, split).labels, _maps()[f'{split}_labels'])
    assert dataset.nbytes == 11 * (6 * 6 * 3 + 6 * 6)


def test_another_ignore_value_comes_from_the_file(tmp_path):
    maps = {key: np.where(x == 255, 7, x).astype(np.uint8) for key, x in _maps().items()}
    np.savez(tmp_path / 'a.npz', ignore=7, **(_arrays() | maps))
    assert data.load(f'npz:{tmp_path}/a.npz').fields['label'] == data.Field('map', (6, 6), 'uint8', 4, 7)
    np.savez(tmp_path / 'b.npz', **(_arrays() | maps))
    assert data.load(f'npz:{tmp_path}/b.npz').num_classes == 8  # a class like the others


def test_points_through_npz(tmp_path):
    rng = np.random.default_rng(2)
    points = {f'{split}_images': rng.normal(size=(n, 5)).astype(np.float32) for split, n in (('train', 8), ('test', 3))}
    np.savez(tmp_path / 'a.npz', **(_arrays() | points))
    dataset = data.load(f'npz:{tmp_path}/a.npz')
    assert dataset.fields['points'] == data.Field('points', (5,), 'float32')
    assert dataset.image_shape == (5,)
    np.testing.assert_array_equal(dataset.test.columns['points'], points['test_images'])
    assert 'image' not in dataset.train.columns


def test_a_validation_split_through_npz(tmp_path):
    more = {'validation_images': _arrays()['test_images'][:2], 'validation_labels': np.asarray([1, 2])}
    np.savez(tmp_path / 'a.npz', **(_arrays() | more))
    dataset = data.load(f'npz:{tmp_path}/a.npz')
    np.testing.assert_array_equal(dataset.validation.images, more['validation_images'])
    np.testing.assert_array_equal(dataset.validation.labels, [1, 2])
    assert len(dataset.train) == 8


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'validation_labels': np.asarray([1])}, 'lacks validation_images; needed: .*validation_images, validation_labels'),
        (
            {'validation_labels': np.asarray([9]), 'validation_images': np.zeros((1, 6, 6, 3), np.uint8)},
            r'validation labels run from 9 to 9; allowed: 0\.\.2',
        ),
        (
            {'validation_labels': np.asarray([1]), 'validation_images': np.zeros((1, 4, 6, 3), np.uint8)},
            r'validation images have shape \(4, 6, 3\); allowed: \(6, 6, 3\), as in train',
        ),
        ({'ignore': np.asarray([1, 2])}, r'an ignore of int64 \(2,\); allowed: one integer'),
        ({'ignore': 2**40}, 'an ignore of 1099511627776; allowed: an integer of 32 bits'),
        ({'ignore': np.asarray(3, 'm8[s]')}, 'an ignore of timedelta64.*; allowed: one integer'),
        ({'ignore': 0.5}, 'an ignore of float64.*; allowed: one integer'),
        (_maps() | {'test_labels': np.asarray([0, 1, 2])}, 'test .*as in train'),
        (
            _maps() | {'test_labels': np.full((3, 6, 6), 4, np.uint8)},
            r'test labels run from 4 to 4; allowed: 0\.\.3, or 255',
        ),
        (
            {'train_labels': np.zeros((8, 6, 5), np.uint8)},
            r'shape \(8, 6, 5\); allowed: \(8,\).*, or uint8 maps of \(8, 6, 6\)',
        ),
        ({'train_labels': np.zeros((8, 6, 6), np.int32)}, r'shape \(8, 6, 6\); allowed: \(8,\)'),
    ],
)
def test_bad_columns_are_refused_in_one_line(tmp_path, change, message):
    np.savez(tmp_path / 'a.npz', **(_arrays() | change))
    with pytest.raises(data.DataError, match=message) as caught:
        data.load(f'npz:{tmp_path}/a.npz')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['npz:/nowhere.npz', 'folder:/nowhere', 'mnits', 'npz:', 'a b'])
def test_missing_or_unknown_sets_are_refused_in_one_line(name):
    with pytest.raises(data.DataError, match=r'data\.name is') as caught:
        data.load(name)
    assert '\n' not in str(caught.value)


def test_the_nearest_name_is_offered():
    with pytest.raises(data.DataError, match='did you mean mnist5k'):
        data.load('mnist5')


def _write(root, name, value, size=6):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(root / name)


def test_folder_with_splits_and_with_domains(tmp_path):
    for split, count in (('train', 3), ('test', 2)):
        for k, name in enumerate(('cat', 'dog')):
            for i in range(count):
                _write(tmp_path / 'split', f'{split}/{name}/{i}.png', 100 * k)
    dataset = data.load(f'folder:{tmp_path}/split')
    assert (len(dataset.train), len(dataset.test)) == (6, 4)
    np.testing.assert_array_equal(dataset.test.labels, dataset.test.images[:, 0, 0, 0] // 100)
    for domain in ('art', 'photo'):
        for i in range(40):
            _write(tmp_path / 'domains', f'{domain}/cat/{i}.png', i)
    pooled = data.load(f'folder:{tmp_path}/domains')
    assert len(pooled.train) + len(pooled.test) == 80
    assert 2 <= len(pooled.test) <= 20


@pytest.mark.parametrize('own', ['val', 'validation'])
def test_a_validation_folder_is_never_trained_on(tmp_path, own):
    """Alone it is the test split, beside one called test the validation split."""
    for split, count in (('train', 3), (own, 2)):
        for i in range(count):
            _write(tmp_path, f'{split}/cat/{i}.png', i)
            _write(tmp_path, f'{split}/dog/{i}.png', i)
    dataset = data.load(f'folder:{tmp_path}')
    assert {name: len(split) for name, split in dataset.splits.items()} == {'train': 6, 'test': 4}
    _write(tmp_path, 'test/cat/0.png', 200)
    dataset = data.load(f'folder:{tmp_path}')
    assert {name: len(split) for name, split in dataset.splits.items()} == {'train': 6, 'validation': 4, 'test': 1}
    assert (dataset.test.images == 200).all()
    _write(tmp_path, f'{"val" if own == "validation" else "validation"}/cat/0.png', 0)
    with pytest.raises(data.DataError, match='holds test, train, val, validation; allowed: train with one of test, val'):
        data.load(f'folder:{tmp_path}')


def test_pixels_of_more_than_eight_bits_are_refused(tmp_path):
    for i in range(60):
        _write(tmp_path, f'cat/{i:02d}.png', 3)
    Image.fromarray(np.full((6, 6), 60_000, np.uint16)).save(tmp_path / 'cat' / '00.png')
    with pytest.raises(data.DataError, match=r'cat/00\.png is not a readable image: its pixels have more than 8 bits'):
        data.load(f'folder:{tmp_path}')


def test_folder_of_mixed_sizes_needs_image_size(tmp_path):
    for i in range(60):
        _write(tmp_path, f'cat/{i}.png', 3, size=6 + i % 2)
    with pytest.raises(data.DataError, match=r'set data\.image_size'):
        data.load(f'folder:{tmp_path}')
    assert data.load(f'folder:{tmp_path}', image_size=8).train.images.shape[1:] == (8, 8, 3)


_PREPARE = """
import sys
import numpy as np, PIL.Image, tensorflow_datasets as tfds
class Tiny(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('1.0.0')
    def _info(self):
        image = tfds.features.Image(shape=(8, 8, 3))
        label = tfds.features.ClassLabel(num_classes=3)
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({'image': image, 'label': label}))
    def _split_generators(self, _):
        return {'train': self._generate_examples(9), 'test': self._generate_examples(4)}
    def _generate_examples(self, count):
        for i in range(count):
            yield str(i), {'image': PIL.Image.fromarray(np.full((8, 8, 3), 10 * i, np.uint8)), 'label': i % 3}
config = tfds.download.DownloadConfig(try_download_gcs=False)
Tiny(data_dir=sys.argv[1], file_format='array_record').download_and_prepare(download_config=config)
"""
_READ = """
import sys
from gjax import data
dataset = data.load('tiny', sys.argv[1])
assert (len(dataset.train), len(dataset.test), dataset.num_classes) == (9, 4, 3)
assert ((dataset.train.images[:, 0, 0, 0] // 10) % 3 == dataset.train.labels).all()
assert sorted(dataset.train.images[:, 0, 0, 0].tolist()) == list(range(0, 90, 10))
assert 'tensorflow' not in sys.modules and 'torch' not in sys.modules
import tensorflow_datasets as tfds
lazy = data.find('tiny', sys.argv[1])
def decode(self, image):
    raise AssertionError('an image was decoded for its label')
tfds.features.Image.decode_example_np = decode
assert lazy.train.class_labels().tolist() == dataset.train.labels.tolist()
assert lazy.train.class_labels().dtype == dataset.train.labels.dtype == 'int32'
"""


def test_a_prepared_tfds_set_is_read_without_tensorflow(tmp_path):
    for script in (_PREPARE, _READ):
        subprocess.run([sys.executable, '-c', script, str(tmp_path)], check=True, timeout=300)


_MOCK = """
import sys, tensorflow_datasets as tfds
from gjax import data
with tfds.testing.mock_data(num_examples=7):
    dataset = data.load('cifar10', sys.argv[1])
    faces = data.load('celeb_a', sys.argv[1], image_size=64)  # without labels
assert faces.train.images.shape == (7, 64, 64, 3) and faces.num_classes == 0 and list(faces.train.columns) == ['image']
assert dataset.train.images.shape == (7, 32, 32, 3) and dataset.num_classes == 10
assert 'tensorflow' not in sys.modules
"""


def test_sets_with_and_without_labels_through_tfds_mock_data(tmp_path):
    subprocess.run([sys.executable, '-c', _MOCK, str(tmp_path)], check=True, timeout=300)


def test_a_damaged_or_unlabelled_tfds_set_says_so(tmp_path):
    subprocess.run([sys.executable, '-c', _PREPARE, str(tmp_path)], check=True, timeout=300)
    (file,) = tmp_path.rglob('*test.array_record*')
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(data.DataError, match='tiny test is prepared but cannot be read'):
        data.load('tiny', str(tmp_path))
    file.write_bytes(content)
    features = tmp_path / 'tiny/1.0.0/features.json'
    content = json.loads(features.read_text())
    content['featuresDict']['features']['label'] = {
        'tensor': {'dtype': 'int64', 'shape': {}, 'encoding': 'none'},
        'pythonClassName': 'tensorflow_datasets.core.features.scalar.Scalar',
    }
    features.write_text(json.dumps(content))
    with pytest.raises(data.DataError, match='tiny has a label of type Scalar; needed: ClassLabel'):
        data.load('tiny', str(tmp_path))


def test_a_prepared_set_with_what_is_no_regular_file_is_not_waited_for(tmp_path):
    (tmp_path / 'cifar10/3.0.2').mkdir(parents=True)
    os.mkfifo(tmp_path / 'cifar10/3.0.2/features.json')
    (tmp_path / 'cifar10/3.0.2/gone').symlink_to('nothing')
    with pytest.raises(data.DataError, match=r'cifar10 in .* holds features\.json, which is no regular file'):
        data.find('cifar10', str(tmp_path))


_FEATURES = 'tensorflow_datasets.core.features.features_dict.FeaturesDict'
_LABEL = {
    'pythonClassName': 'tensorflow_datasets.core.features.class_label_feature.ClassLabel',
    'classLabel': {'numClasses': '3'},
}
_EVIL = {'pythonClassName': 'evil_features.Image', 'image': {}}
_IN_A_STRING = json.dumps({'image': {'type': 'evil_features.Image', 'content': {}}})


@pytest.mark.parametrize(
    ('file', 'declared'),
    [
        ('features.json', _EVIL),
        ('features.json', {'python_class_name': 'evil_features.Image', 'image': {}}),
        ('features.json', {'type': 'evil_features.Image', 'content': {}}),
        ('features.json', {'pythonClassName': _FEATURES, 'featuresDict': {'features': {'good': _LABEL, 'image': _EVIL}}}),
        ('features.json', {'pythonClassName': _FEATURES, 'jsonFeature': {'json': _IN_A_STRING}}),
        ('dataset_info.json', {'name': 'tiny', 'version': '1.0.0', 'features': _EVIL}),
    ],
)
def test_metadata_of_a_prepared_set_import_no_module(tmp_path, monkeypatch, file, declared):
    (tmp_path / 'evil_features.py').write_text("open(__file__ + '.ran', 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, 'evil_features', raising=False)
    folder = tmp_path / 'elsewhere'
    for path in (folder, tmp_path / 'tiny', tmp_path / 'Tiny'):  # TFDS calls both names tiny
        path.mkdir()
    (tmp_path / 'tiny/1.0.0').symlink_to(folder)
    info = {'name': 'tiny', 'version': '1.0.0', 'fileFormat': 'array_record'}
    (folder / 'dataset_info.json').write_text(json.dumps(info))
    (folder / 'features.json').write_text(json.dumps(_LABEL))
    (folder / file).write_text(json.dumps(declared))
    for name in ('tiny', 'Tiny'):
        with pytest.raises(data.DataError, match=rf'^{name}: .*/{file} names the class evil_features\.Image; allowed: the'):
            data.find(name, str(tmp_path))
    assert not (tmp_path / 'evil_features.py.ran').exists()
    monkeypatch.setattr(prepared, '_declared', lambda file: set())  # TFDS itself does import it
    with pytest.raises(data.DataError):
        data.find('tiny', str(tmp_path))
    assert (tmp_path / 'evil_features.py.ran').exists()


def test_an_unprepared_tfds_set_names_the_command_that_prepares_it(tmp_path):
    with pytest.raises(data.DataError, match=r'tfds build cifar10 --file_format=array_record --data_dir='):
        data.load('cifar10', str(tmp_path))
