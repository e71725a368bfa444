"""The embedded sets: sizes, balance, and fixed content."""

import hashlib

import numpy as np
import pytest

from gjax import data

SIZES = {
    'digits': (1437, 360, (32, 32, 1)),
    'mnist5k': (4000, 1000, (28, 28, 1)),
    'mnistm5k': (4000, 1000, (28, 28, 3)),
    'syndigits': (5000, 1000, (28, 28, 3)),
}


@pytest.mark.parametrize('name', SIZES)
def test_sizes_and_balance(name):
    dataset = data.load(name)
    train, test, shape = SIZES[name]
    assert dataset.num_classes == 10
    for split, count in ((dataset.train, train), (dataset.test, test)):
        assert split.images.shape == (count, *shape)
        assert split.images.dtype == np.uint8
        share = np.bincount(split.labels, minlength=10) / count
        assert share.min() > 0.09
        assert share.max() < 0.11
    train_rows = {image.tobytes() for image in dataset.train.images}
    assert not any(image.tobytes() in train_rows for image in dataset.test.images)


def test_making_a_set_twice_gives_the_same_bytes():
    for name in ('mnistm5k', 'syndigits'):
        make = data.EMBEDDED[name]
        first = hashlib.sha256(make().train.images.tobytes()).hexdigest()
        make.cache_clear()
        assert hashlib.sha256(make().train.images.tobytes()).hexdigest() == first


def test_mnistm5k_inverts_the_photo_under_the_ink():
    digit, blend = data.load('mnist5k').train.images[:50], data.load('mnistm5k').train.images[:50]
    paper, ink = np.broadcast_to(digit == 0, blend.shape), np.broadcast_to(digit == 255, blend.shape)
    assert abs(blend[paper].mean() - (255 - blend[ink]).mean()) < 25  # the same photo, seen plain and inverted
