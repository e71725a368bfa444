"""The substitute of a victim that gives labels alone: what it learns, what it is asked, and that its images transfer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import attacks
from tests.linear import binary_model

RNG = np.random.default_rng(8)
W, B, VICTIM = binary_model(RNG, 4)
B = -0.5 * W.sum()  # half of all images are of either class
IMAGES = RNG.uniform(size=(24, 2, 2, 1)).astype(np.float32)


def apply(params, images):
    score = images.reshape(len(images), -1) @ params['w'] + params['b']
    return jnp.stack([jnp.zeros_like(score), score], axis=1)


class Oracle:
    """NumPy code that counts what it is asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, images):
        self.asked.append(len(images))
        return (np.asarray(images).reshape(len(images), -1) @ W + B > 0).astype(np.int32)


def test_a_substitute_learns_the_victims_labels_and_its_adversarial_images_transfer():
    oracle, start = Oracle(), {'w': jnp.zeros(4), 'b': jnp.zeros(())}
    options = {'rounds': 2, 'epochs': 40, 'batch_size': 8, 'learning_rate': 0.05}
    params = attacks.train_substitute(oracle, apply, start, IMAGES, rng=jax.random.key(0), **options)
    assert oracle.asked == [24, 24]
    test = RNG.uniform(size=(200, 2, 2, 1)).astype(np.float32)
    labels = oracle(test)
    assert (np.asarray(apply(params, test)).argmax(axis=1) == labels).mean() > 0.9
    found = attacks.fgsm(partial(apply, params), test, labels, 0.2)
    assert (oracle(found) == labels).mean() < 0.3
    assert (oracle(attacks.random_noise(test, 0.2, rng=jax.random.key(1))) == labels).mean() > 0.8


def test_the_augmentation_steps_along_the_sign_of_the_labels_slope():
    params = {'w': jnp.asarray(W), 'b': jnp.asarray(B, jnp.float32)}
    labels = np.arange(24) % 2
    found = attacks.jacobian_augmentation(partial(apply, params), IMAGES, labels, 0.1)
    slope = np.where(labels[:, None] == 1, np.sign(W)[None], 0)  # class 0 scores 0 everywhere
    np.testing.assert_allclose(found.reshape(24, -1), np.clip(IMAGES.reshape(24, -1) + 0.1 * slope, 0, 1), atol=1e-6)


def test_arguments():
    with pytest.raises(ValueError, match='rounds is 0; allowed: > 0'):
        attacks.train_substitute(Oracle(), apply, {}, IMAGES, rng=jax.random.key(0), rounds=0)
    with pytest.raises(ValueError, match=r'the dtype of oracle\(images\) is float32; allowed: integers'):
        attacks.train_substitute(lambda images: np.zeros(24, np.float32), apply, {}, IMAGES, rng=jax.random.key(0))
