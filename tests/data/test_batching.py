"""Batches are a pure function of (seed, step); augmentation does exactly what it says."""

import jax
import jax.numpy as jnp
import numpy as np

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
    batch = data.gather(data.DeviceData(IMAGES, jnp.arange(6, dtype=jnp.int32)), jnp.asarray([4, 1]))
    np.testing.assert_allclose(batch['image'], np.asarray(IMAGES)[[4, 1]] / 255.0, rtol=1e-6)
    assert batch['image'].dtype == jnp.float32
    np.testing.assert_array_equal(batch['label'], [4, 1])
    np.testing.assert_array_equal(batch['index'], [4, 1])
