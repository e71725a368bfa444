"""A fingerprint changes with everything that a run sees of its data, and with nothing else."""

import bz2
import importlib.metadata
import shutil

import numpy as np
import pytest
from PIL import Image

from gjax import data
from gjax.data import builders
from gjax.data import fingerprint as fingerprints
from gjax.data.fingerprint import difference, fingerprint


def _npz(path, order=None, **changes):
    labels = np.arange(12, dtype=np.int32) % 3
    images = np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4, 1)
    order = np.arange(12) if order is None else order
    arrays = {'train_images': images[order], 'train_labels': labels[order], 'test_images': images, 'test_labels': labels}
    np.savez(path, **arrays | changes)
    return fingerprint(data.find(f'npz:{path}'))


def test_arrays(tmp_path):
    first = _npz(tmp_path / 'a.npz')
    assert difference(first, _npz(tmp_path / 'moved.npz')) == ''
    permuted = _npz(tmp_path / 'b.npz', order=np.arange(12)[::-1])
    assert difference(first, permuted) == 'examples of train have other contents or another order than they had'
    fewer = _npz(tmp_path / 'c.npz', order=np.arange(9))
    assert difference(first, fewer) == 'train has 9 examples; it had 12'
    images = np.zeros((12, 5, 4, 1), np.uint8)
    assert 'its examples are image 5 4 1' in difference(
        first, _npz(tmp_path / 'd.npz', train_images=images, test_images=images)
    )
    relabelled = _npz(tmp_path / 'e.npz', test_labels=np.zeros(12, np.int32))
    assert difference(first, relabelled).startswith('examples of test')
    more = _npz(tmp_path / 'f.npz', train_labels=np.arange(12) % 4)
    assert difference(first, more) == 'its classes are 4; they were 3'


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for name in ('cat', 'dog'):
            (tmp_path / 'set' / split / name).mkdir(parents=True)
            for i in range(3):
                pixels = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / 'set' / split / name / f'{i}.bmp')
    return tmp_path / 'set'


@pytest.mark.parametrize('whole', [True, False], ids=['whole', 'sampled'])
def test_folders(folder, monkeypatch, whole):
    if not whole:
        monkeypatch.setattr(fingerprints, 'WHOLE_BYTES', 0)

    def now(path=folder):
        return fingerprint(data.find(f'folder:{path}', None, 8))

    first = now()
    shutil.copytree(folder, folder.parent / 'elsewhere')
    assert difference(first, now(folder.parent / 'elsewhere')) == ''
    (folder / 'train/cat/0.bmp').rename(folder / 'train/cat/swap')
    (folder / 'train/cat/1.bmp').rename(folder / 'train/cat/0.bmp')
    (folder / 'train/cat/swap').rename(folder / 'train/cat/1.bmp')
    assert difference(first, now()) == 'examples of train have other contents or another order than they had'
    shutil.copy(folder / 'test/dog/0.bmp', folder / 'test/dog/9.bmp')
    assert difference(first | {'splits': first['splits'] | {'train': now()['splits']['train']}}, now()) == (
        'test has 7 examples; it had 6'
    )
    (folder / 'train/dog').rename(folder / 'train/fox')
    (folder / 'test/dog').rename(folder / 'test/fox')
    assert difference(first, now()) == 'its classes are cat, fox; they were cat, dog'


def test_a_file_that_goes_while_it_is_read(folder):
    found = data.find(f'folder:{folder}')
    (folder / 'train/cat/0.bmp').unlink()
    with pytest.raises(data.DataError, match='has changed while it was read'):
        fingerprint(found)


def test_views_are_told_apart_by_how_they_view(folder):
    found = data.find(f'folder:{folder}')
    digests = {fingerprint(found)['splits']['train']['digest']}
    for size, rows in ((8, [0, 1]), (8, [1, 0]), (16, [0, 1])):
        view = data.converted(found, size)
        view = data.subset(view, 2, 0, 'data.examples')
        object.__setattr__(view.train, 'rows', np.asarray(rows))
        digests.add(fingerprint(view)['splits']['train']['digest'])
    assert len(digests) == 4


def test_embedded_sets_name_the_versions_that_they_depend_on(monkeypatch):
    assert fingerprints.PACKAGES.keys() == data.EMBEDDED.keys()
    found = fingerprint(data.find('digits'))
    assert found['versions'] == {'scikit-learn': importlib.metadata.version('scikit-learn')}
    old = {**found, 'versions': {'scikit-learn': '0.1'}, 'splits': {**found['splits'], 'test': {'count': 3, 'digest': ''}}}
    now = found['versions']['scikit-learn']
    assert difference(old, found) == f'test has 360 examples; it had 3 (made with scikit-learn 0.1 then, {now} now)'
    assert difference({**found, 'versions': {}}, found) == ''


@pytest.mark.parametrize('whole', [True, False], ids=['whole', 'sampled'])
def test_prepared_sets(tmp_path, monkeypatch, whole):
    def now(value):
        folder = tmp_path / str(value)
        folder.mkdir()
        for name, pixels in (('usps.bz2', [0.5, 0.25, value]), ('usps.t.bz2', [0.5])):
            lines = [f'{i + 1} ' + ' '.join(f'{k + 1}:{pixel}' for k in range(256)) for i, pixel in enumerate(pixels)]
            (folder / name).write_bytes(bz2.compress('\n'.join(lines).encode()))
        builders.prepare('usps', str(folder), manual_dir=str(folder))
        return fingerprint(data.find('usps', str(folder)))

    monkeypatch.setattr(builders.Usps, 'FILES', tuple(builders.File(file.name) for file in builders.Usps.FILES))
    if not whole:
        monkeypatch.setattr(fingerprints, 'WHOLE_BYTES', 0)
    first = now(0.0)
    assert difference(first, fingerprint(data.find('usps', str(tmp_path / '0.0')))) == ''
    assert difference(first, now(0.75)) == 'examples of train have other contents or another order than they had'
