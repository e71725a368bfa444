"""The l2 attack finds the known smallest perturbation of a linear model."""

import jax.numpy as jnp
import numpy as np

from gjax import attacks
from tests.linear import binary_model

RNG = np.random.default_rng(1)
W, B, LINEAR = binary_model(RNG, 16)


def test_it_finds_the_distance_to_a_linear_boundary():
    images = jnp.asarray(RNG.uniform(0.35, 0.65, (8, 4, 4, 1)), jnp.float32)
    score = np.asarray(images).reshape(8, -1) @ W + B
    labels = jnp.asarray((score > 0).astype(np.int32))
    adversarial = attacks.carlini_wagner_l2(LINEAR, images, labels, steps=300, learning_rate=0.02, search_steps=8)
    distance = np.linalg.norm(np.asarray(adversarial - images).reshape(8, -1), axis=1)
    exact = np.abs(score) / np.linalg.norm(W)
    assert (np.asarray(LINEAR(adversarial)).argmax(axis=1) != np.asarray(labels)).all()
    assert (distance >= exact - 1e-5).all()
    np.testing.assert_allclose(distance, exact, rtol=0.06, atol=0.004)


def test_targeted_reaches_the_target_with_the_asked_confidence():
    images = jnp.full((4, 4, 4, 1), 0.5)
    targets = jnp.asarray([0, 1, 0, 1])
    options = {'steps': 200, 'learning_rate': 0.05, 'search_steps': 4, 'targeted': True, 'confidence': 0.5}
    logits = np.asarray(LINEAR(attacks.carlini_wagner_l2(LINEAR, images, targets, **options)))
    gap = logits[np.arange(4), targets] - logits[np.arange(4), 1 - targets]
    assert (gap >= 0.5 - 1e-4).all()


def test_a_failure_returns_the_image_itself():
    images = jnp.full((2, 2, 2, 1), 0.5)

    def constant(x):
        return jnp.zeros((x.shape[0], 2)).at[:, 0].set(5.0) + 0 * x.reshape(x.shape[0], -1)[:, :2]

    adversarial = attacks.carlini_wagner_l2(constant, images, jnp.zeros(2, jnp.int32), steps=5)
    np.testing.assert_array_equal(adversarial, images)
