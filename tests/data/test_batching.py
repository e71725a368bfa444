"""Batches are a pure function of (seed, step); augmentation does exactly what it says."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import data

IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 256, (6, 5, 5, 2)), jnp.uint8)


def test_every_epoch_visits_distinct_examples_in_a_new_order():
    key = jax.random.key(0)
    epochs = [[np.asarray(data.batch_index(key, 3 * e + s, 10, 3)) for s in range(3)] for e in range(2)]
    for epoch in epochs:
        assert len(set(np.concatenate(epoch).tolist())) == 9
    assert (np.concatenate(epochs[0]) != np.concatenate(epochs[1])).any()
    np.testing.assert_array_equal(data.batch_index(key, 4, 10, 3), epochs[1][1])


def test_pad_crop_returns_shifted_windows_of_the_padded_image():
    cropped = np.asarray(data.pad_crop(IMAGES, rng=jax.random.key(1), padding=2))
    seen = set()
    for image, crop in zip(np.asarray(IMAGES), cropped, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode='reflect')
        offsets = [(i, j) for i in range(5) for j in range(5) if (padded[i : i + 5, j : j + 5] == crop).all()]
        assert offsets
        seen |= set(offsets)
    assert len(seen) > 1


def test_flip_mirrors_about_half_of_the_images():
    many = jnp.tile(IMAGES[:1], (400, 1, 1, 1))
    flipped = np.asarray(data.flip(many, rng=jax.random.key(2)))
    mirrored = (flipped == np.asarray(IMAGES[0])[:, ::-1]).all(axis=(1, 2, 3))
    assert ((flipped == np.asarray(IMAGES[0])).all(axis=(1, 2, 3)) | mirrored).all()
    assert 0.4 < mirrored.mean() < 0.6


def test_gather_scales_to_the_unit_interval():
    batch = data.gather({'image': IMAGES, 'label': jnp.arange(6, dtype=jnp.int32)}, jnp.asarray([4, 1]))
    np.testing.assert_allclose(batch['image'], np.asarray(IMAGES)[[4, 1]] / 255.0, rtol=1e-6)
    assert batch['image'].dtype == jnp.float32
    np.testing.assert_array_equal(batch['label'], [4, 1])
    np.testing.assert_array_equal(batch['index'], [4, 1])


def test_columns_become_a_batch():
    """Images are scaled, classes and maps become int32, points stay; the index is the one given."""
    maps = np.asarray([[[0, 255], [1, 2]]] * 2, np.uint8)
    points = np.asarray([[0.5, -3.0], [1e6, 0.0]], np.float32)
    batch = data.to_batch({'label': maps, 'points': points}, np.asarray([7, 3]))
    assert (batch['label'].dtype, batch['points'].dtype, batch['index'].dtype) == (jnp.int32, jnp.float32, jnp.int32)
    np.testing.assert_array_equal(batch['label'], maps)
    np.testing.assert_array_equal(batch['points'], points)
    np.testing.assert_array_equal(batch['index'], [7, 3])


def _moved(image, label, i, j, mirror, mode, padding=2, ignore=9):
    """An image [H, W, C] and its map [H, W], padded, cropped at (i, j) and mirrored, by NumPy."""
    sides = ((padding, padding), (padding, padding))
    fill = {'constant_values': ignore} if mode == 'constant' else {}
    image, label = np.pad(image, (*sides, (0, 0)), mode=mode), np.pad(label, sides, mode=mode, **fill)
    image, label = (x[i : i + 5, j : j + 5] for x in (image, label))
    return (image[:, ::-1], label[:, ::-1]) if mirror else (image, label)


@pytest.mark.parametrize('mode', ['reflect', 'edge', 'constant'])
def test_augmentation_moves_the_map_with_its_image(mode):
    """Every pair is one of the 50 that padding by two, cropping and mirroring give; constant padding of a map is ignored."""
    images = np.random.default_rng(1).uniform(size=(40, 5, 5, 2)).astype(np.float32)
    labels = np.random.default_rng(2).integers(0, 4, (40, 5, 5)).astype(np.int32)
    batch = {'image': jnp.asarray(images), 'label': jnp.asarray(labels), 'index': jnp.arange(40)}
    options = {'padding': 2, 'padding_mode': mode, 'mirror': True, 'ignore': 9}
    found = jax.jit(lambda b: data.augment_batch(b, rng=jax.random.key(3), **options))(batch)
    places = set()
    for n in range(40):
        pair = tuple(np.asarray(found[key][n]) for key in ('image', 'label'))
        fits = [
            place
            for place in itertools.product(range(5), range(5), (False, True))
            if all((a == b).all() for a, b in zip(pair, _moved(images[n], labels[n], *place, mode), strict=True))
        ]
        assert fits, n
        places |= set(fits)
    assert len(places) > 15
    assert {mirror for *_, mirror in places} == {False, True}
    assert (found['label'] == 9).any() == (mode == 'constant')
    np.testing.assert_array_equal(found['index'], batch['index'])


def test_augmented_images_do_not_depend_on_their_labels():
    """Nor do classes change; a batch without images stays as it is."""
    batch = {'image': IMAGES, 'label': jnp.arange(6)}
    options = {'rng': jax.random.key(4), 'padding': 1, 'mirror': True}
    expected = data.augment(IMAGES, **options)
    for labels in ({}, {'label': jnp.arange(6)}, {'label': jnp.zeros((6, 5, 5), jnp.int32)}):
        found = data.augment_batch({'image': IMAGES, **labels}, **options)
        np.testing.assert_array_equal(found['image'], expected)
    np.testing.assert_array_equal(data.augment_batch(batch, **options)['label'], jnp.arange(6))
    points = {'points': jnp.ones((3, 2)), 'label': jnp.arange(3)}
    assert data.augment_batch(points, **options) is points
