"""Images and label maps of one size, as many examples as asked, and validation splits that are fair draws."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from gjax import data
from gjax.data import convert
from gjax.data.dataset import check_dataset, check_split

RNG = np.random.default_rng(0)


def _labelled(labels, count=20, **more):
    """A set whose images tell their row; the test split has 5 examples, with labels of every class."""
    rows = np.arange(len(labels))
    images = np.stack([rows // 200, rows % 200], axis=1).astype(np.uint8).reshape(-1, 1, 2)
    train = check_split('x train', images, np.asarray(labels))
    test = check_split('x test', images[:5], np.zeros(5, int))
    return check_dataset('x', train, test, **more)


def _rows(split):
    """Which rows of `_labelled` a split holds."""
    pairs = split.read(np.arange(len(split))).images.reshape(-1, 2).astype(int)
    return pairs @ np.asarray([200, 1])


def test_sets_of_other_sizes_and_colours_are_made_alike():
    grey = data.load('mnist5k', image_size=32, channels=3)
    assert grey.image_shape == grey.train.images.shape[1:] == (32, 32, 3)
    np.testing.assert_array_equal(grey.train.images[..., 0], grey.train.images[..., 2])
    plain = data.load('mnist5k')
    np.testing.assert_allclose(grey.train.images.mean(), plain.train.images.mean(), rtol=0.02)
    back = data.load('syndigits', channels=1).train.images
    expected = data.load('syndigits').train.images @ np.asarray([0.299, 0.587, 0.114])
    np.testing.assert_allclose(back[..., 0], expected, atol=1)


def test_sets_on_disk_are_converted_when_read(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        for i in range(30):
            Image.fromarray(np.full((9, 7, 3), 8 * i, np.uint8)).save(tmp_path / name / f'{i}.png')
    dataset = data.find(f'folder:{tmp_path}', image_size=4, channels=1)
    assert dataset.image_shape == (4, 4, 1)
    assert dataset.train.read(np.arange(3)).images.shape == (3, 4, 4, 1)


@pytest.mark.parametrize('size', [3, 6, 12])
def test_label_maps_are_resized_to_their_nearest_neighbour(tmp_path, size):
    """No class between two others appears: every pixel is the one whose centre is nearest."""
    images = RNG.integers(0, 256, (4, 6, 6, 3)).astype(np.uint8)
    maps = np.where(RNG.uniform(size=(4, 6, 6)) < 0.2, 255, RNG.integers(0, 3, (4, 6, 6)) * 2).astype(np.uint8)
    arrays = {f'{split}_{kind}': x for split in ('train', 'test') for kind, x in (('images', images), ('labels', maps))}
    np.savez(tmp_path / 'a.npz', **arrays)
    dataset = data.load(f'npz:{tmp_path}/a.npz', image_size=size, channels=1)
    places = ((np.arange(size) + 0.5) * 6 / size).astype(int)
    for split in (dataset.train, dataset.test):
        assert split.images.shape == (4, size, size, 1)
        assert split.labels.dtype == np.uint8
        np.testing.assert_array_equal(split.labels, maps[:, places][:, :, places])
    assert dataset.fields['label'] == data.Field('map', (size, size), 'uint8', 5, 255)
    assert dataset.fields['image'].shape == (size, size, 1)


def test_points_have_no_size(tmp_path):
    points = RNG.normal(size=(6, 2)).astype(np.float32)
    split = check_split('p', points, np.arange(6) % 2)
    dataset = check_dataset('p', split, split)
    assert data.converted(dataset) is dataset
    for options in ({'size': 8}, {'channels': 3}):
        with pytest.raises(data.DataError, match=r'data.channels are .*; allowed: 0 for p, which has points'):
            data.converted(dataset, **options)


UNEVEN = RNG.permutation(np.repeat(np.arange(4), [100, 37, 9, 54]))


def test_validation_is_a_seeded_stratified_part_of_the_training_split():
    dataset = _labelled(UNEVEN)
    found = data.with_validation(dataset, 0.1, 3)
    held, kept = _rows(found.validation), _rows(found.train)
    assert sorted([*held, *kept]) == list(range(200))
    assert list(held) == sorted(held)
    assert list(kept) == sorted(kept)
    for k, count in enumerate((100, 37, 9, 54)):
        assert abs((UNEVEN[held] == k).sum() - count / 10) <= 1
    np.testing.assert_array_equal(found.validation.labels, UNEVEN[held])
    np.testing.assert_array_equal(_rows(data.with_validation(dataset, 0.1, 3).validation), held)
    assert set(_rows(data.with_validation(dataset, 0.1, 4).validation)) != set(held)
    np.testing.assert_array_equal(found.test.images, dataset.test.images)


def test_records_that_are_decoded_later_are_held_out_alike():
    """The same rows, without reading any image."""
    dataset = _labelled(UNEVEN)

    class Later:
        def __init__(self, split):
            self._split, self.read = split, split.read

        def __len__(self):
            return len(self._split)

        def class_labels(self):
            return self._split.labels

    later = dataclasses.replace(dataset, train=Later(dataset.train))
    later.train.read = None  # reading now would fail
    found, expected = (data.with_validation(own, 0.25, 1) for own in (later, dataset))
    later.train.read = dataset.train.read
    for split in ('train', 'validation'):
        np.testing.assert_array_equal(_rows(getattr(found, split)), _rows(getattr(expected, split)))
        np.testing.assert_array_equal(getattr(found, split).class_labels(), getattr(expected, split).labels)


def test_a_sets_own_validation_split_is_kept():
    own = _labelled(UNEVEN).test
    dataset = dataclasses.replace(_labelled(UNEVEN), validation=own)
    found = data.with_validation(dataset, 0.1, 3)
    assert found.validation is own
    assert len(found.train) == 200
    assert list(found.splits) == ['train', 'validation', 'test']


def test_no_share_holds_nothing_out_and_others_are_refused():
    dataset = _labelled(UNEVEN)
    assert data.with_validation(dataset, 0.0, 3) is dataset
    assert list(dataset.splits) == ['train', 'test']
    for share in (1.0, -0.1):
        with pytest.raises(data.DataError, match=rf'data.validation is {share}; allowed: 0 <= share < 1'):
            data.with_validation(dataset, share, 3)


def test_points_and_maps_are_held_out_of_all():
    images = np.arange(40, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    split = check_split('m', images, np.zeros((40, 2, 2), np.uint8))
    found = data.with_validation(check_dataset('m', split, split), 0.1, 0)
    assert (len(found.train), len(found.validation)) == (36, 4)
    assert found.validation.labels.shape == (4, 2, 2)


def test_a_subset_is_seeded():
    dataset = _labelled(UNEVEN)
    rows = _rows(data.subset(dataset, 30, 5, 'data.examples').train)
    assert len(set(rows)) == 30
    np.testing.assert_array_equal(rows, _rows(data.subset(dataset, 30, 5, 'data.examples').train))
    assert data.subset(dataset, 0, 5, 'data.examples') is dataset
    with pytest.raises(data.DataError, match=r'data.examples is 201; allowed: 0..200, the training examples of x'):
        data.subset(dataset, 201, 5, 'data.examples')


@pytest.mark.parametrize('labels', [np.arange(100) % 10, np.repeat([0, 1, 2], [80, 15, 5]), np.zeros(100, int)])
@pytest.mark.parametrize('count', [1, 7, 20, 99])
def test_drawn_rows_hold_of_every_class_its_share(labels, count):
    """Every k-th of examples with cyclic labels would hold half of the classes, or one."""
    found = _labelled(labels, num_classes=10)
    rows = data.drawn_rows(found, 'train', count, 3)
    assert len(rows) == count
    assert (np.diff(rows) > 0).all()
    sizes = np.bincount(labels, minlength=10)
    assert np.abs(np.bincount(labels[rows], minlength=10) - count * sizes / 100).max() < 1
    np.testing.assert_array_equal(rows, data.drawn_rows(found, 'train', count, 3))
    assert count == 99 or not np.array_equal(rows, data.drawn_rows(found, 'train', count, 4))
    np.testing.assert_array_equal(data.drawn_rows(found, 'train', 100, 0), np.arange(100))


class _InFiles(convert.SubsetRecords):
    """Records whose labels cost a reading of all files."""

    def known_labels(self):
        return None


def test_drawn_rows_of_files_maps_and_sets_without_labels(monkeypatch):
    found = _labelled(np.arange(40) % 4, num_classes=4)
    files = dataclasses.replace(found, train=_InFiles(found.train, np.arange(40)))
    np.testing.assert_array_equal(data.drawn_rows(files, 'train', 8, 1), data.drawn_rows(found, 'train', 8, 1))
    maps = check_split('m', np.zeros((9, 2, 2, 1), np.uint8), np.zeros((9, 2, 2), np.uint8))
    assert len(set(data.drawn_rows(check_dataset('m', maps, maps, 2), 'train', 5, 0))) == 5
    bare = check_split('b', np.zeros((9, 2, 2, 1), np.uint8), None)
    assert len(set(data.drawn_rows(check_dataset('b', bare, bare), 'test', 5, 0))) == 5
    monkeypatch.setattr(convert, 'LABELS_READ', 10)
    monkeypatch.setattr(_InFiles, 'class_labels', lambda self: pytest.fail('read all labels'))
    assert len(set(data.drawn_rows(files, 'train', 5, 0))) == 5
