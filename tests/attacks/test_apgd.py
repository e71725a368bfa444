"""Auto-PGD: the DLR loss and the checkpoints by hand, the whole search against NumPy, and optima that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import attacks
from gjax.attacks import apgd
from tests.linear import binary_model

LOGITS = np.asarray([[3.0, 1.0, 0.0, -1.0], [1.0, 2.0, 5.0, 4.0]], np.float32)


def test_the_dlr_loss_by_hand():
    right, wrong = attacks.dlr(LOGITS, np.asarray([0, 0]))
    assert right == pytest.approx(-(3 - 1) / (3 - 0))
    assert wrong == pytest.approx(-(1 - 5) / (5 - 2))
    np.testing.assert_allclose(attacks.dlr(7 * LOGITS - 2, np.asarray([0, 0])), [right, wrong], rtol=1e-6)


def test_the_targeted_dlr_loss_by_hand():
    values = attacks.targeted_dlr(LOGITS, np.asarray([0, 2]), np.asarray([1, 0]))
    np.testing.assert_allclose(values, [-(3 - 1) / (3 - (0 - 1) / 2), -(5 - 1) / (5 - (2 + 1) / 2)], rtol=1e-6)


def test_too_few_classes_are_refused():
    labels = np.zeros(2, int)
    with pytest.raises(ValueError, match=r'^the classes of logits are 2; allowed for the DLR loss: at least 3$'):
        attacks.dlr(LOGITS[:, :2], labels)
    with pytest.raises(ValueError, match=r'^the classes of logits are 3; allowed for the targeted DLR loss: at least 4$'):
        attacks.targeted_dlr(LOGITS[:, :3], labels, labels)


@pytest.mark.parametrize(('name', 'value'), [('steps', 0), ('restarts', 0), ('targets', 2.0)])
def test_counts_are_refused_by_name(name, value):
    images = np.full((2, 2, 2, 1), 0.5, np.float32)
    with pytest.raises(ValueError, match=f'^{name} is {value}; allowed: integers >= 1$'):
        attacks.apgd_targeted(None, images, np.zeros(2, int), 0.1, rng=jax.random.key(0), **{name: value})


def test_targets_are_the_best_other_classes():
    targets = apgd.top_targets(LOGITS, jnp.asarray([0, 2]), 9)  # of three that there are
    np.testing.assert_array_equal(targets.T, [[1, 2, 3], [3, 1, 0]])


def test_checkpoints_by_hand():
    np.testing.assert_array_equal(apgd.checkpoints(100), [22, 41, 57, 70, 80, 87, 93, 99])
    np.testing.assert_array_equal(apgd.checkpoints(10), [3, 5, 6, 7, 8, 9, 10])


def _algorithm_1(value, gradient, start, image, eps, steps, norm, ends):
    """Algorithm 1 of the paper for one image in float64, in the authors' reading. (best value, last step size)."""

    def project(x):
        delta = x - image
        delta = np.clip(delta, -eps, eps) if norm == 'linf' else delta * min(1, eps / np.linalg.norm(delta))
        return np.clip(image + delta, 0, 1)

    def direction(g):
        return np.sign(g) if norm == 'linf' else g / np.linalg.norm(g)

    points, values = [start], [value(start)]
    x, before, best, step = start, start, start, 2 * eps
    last_end, last_best, last_halved = 0, values[0], True
    for k in range(1, steps + 1):
        z = project(x + step * direction(gradient(x)))
        share = 1 if k == 1 else 0.75
        x, before = project(x + share * (z - x) + (1 - share) * (x - before)), x
        points.append(x)
        values.append(value(x))
        if values[-1] > value(best):
            best = x
        if k in ends:
            rises = sum(values[i] > values[i - 1] for i in range(last_end + 1, k + 1))
            few, stuck = rises <= 0.75 * (k - last_end), not last_halved and last_best >= value(best)
            last_halved = few or stuck
            if last_halved:
                step, x = step / 2, best
            last_end, last_best = k, value(best)
    return value(best), step


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_the_search_is_the_papers(norm):
    """On concave functions whose tops lie inside the balls of some images and outside those of others."""
    rng, count, size, eps = np.random.default_rng(0), 6, 5, 0.2
    steps = 40 if norm == 'linf' else 18  # in l2 the last steps would compare values that rounding alone tells apart
    tops, curves = rng.uniform(0.2, 0.8, (count, size)), rng.uniform(0.5, 4, (count, size))
    images = np.clip(tops + np.arange(count)[:, None] / 10 * rng.normal(size=(count, size)), 0, 1)
    starts = np.clip(images + rng.uniform(-eps, eps, (count, size)) / 3, 0, 1)

    def evaluate(x, _):
        off = x - jnp.asarray(tops)
        return -jnp.sum(curves * off**2, axis=1), -2 * curves * off, jnp.zeros(count, bool)

    with jax.enable_x64(True):  # so that near a top both compare alike
        arrays = [jnp.asarray(a) for a in (starts, images, np.full((count, 1), eps))]
        found = jax.jit(lambda *a: apgd._search(evaluate, *a, steps=steps, norm=norm, bounds=(0.0, 1.0)))(*arrays)
    found = jax.device_get(found)
    for i in range(count):

        def value(x, i=i):
            return -np.sum(curves[i] * (x - tops[i]) ** 2)

        def gradient(x, i=i):
            return -2 * curves[i] * (x - tops[i])

        ends = apgd.checkpoints(steps)
        best, step = _algorithm_1(value, gradient, starts[i], images[i], eps, steps, norm, ends)
        assert found.best_value[i] == pytest.approx(best, rel=1e-9, abs=1e-12)
        assert found.step[i] == pytest.approx(step)
    assert len(np.unique(found.step)) > 1


def test_a_linear_model_is_attacked_to_its_optimum():
    """Each image with an eps of its own, in units of its distance; what is wrong from the start stays as it is."""
    rng = np.random.default_rng(1)
    w, b, model = binary_model(rng, 16)
    images = rng.uniform(0.4, 0.6, (6, 4, 4, 1)).astype(np.float32)
    scores = images.reshape(6, -1) @ w + b
    labels = (scores > 0).astype(int)
    labels[0] = 1 - labels[0]
    eps = (np.abs(scores) / np.linalg.norm(w) * np.asarray([2, 0, 0.5, 0.9, 1.1, 2])).astype(np.float32)
    options = {'rng': jax.random.key(0), 'norm': 'l2', 'steps': 20}
    found = np.asarray(jax.jit(lambda *a: attacks.apgd_ce(model, *a, **options))(images, labels, eps))
    np.testing.assert_array_equal(found[:2], images[:2])
    scores, after = np.abs(scores), np.where(labels == 1, 1, -1) * (found.reshape(6, -1) @ w + b)
    np.testing.assert_allclose(after[2:4], [0.5 * scores[2], 0.1 * scores[3]], atol=1e-4)
    assert (after[4:] < 0).all()


def test_gradients_of_a_random_network_are_means_over_draws():
    """A network whose gradient has its sign changed in one draw of four: the mean over many draws keeps the sign."""
    w, _, model = binary_model(np.random.default_rng(1), 16)
    images = np.full((8, 4, 4, 1), 0.5, np.float32)
    labels = np.asarray(model(images)).argmax(axis=1)

    def random(x, key):
        return model(0.5 + jnp.where(jax.random.uniform(key) < 0.25, -1.0, 1.0) * (x - 0.5))

    options = {'rng': jax.random.key(0), 'steps': 5, 'draws': 40}
    found = jax.jit(lambda x: attacks.apgd_ce(random, x, labels, 1e-3, **options))(images)
    rises = np.where(labels == 1, -1, 1) * ((np.asarray(found) - images).reshape(8, -1) @ w)
    assert (rises > 0.9e-3 * np.abs(w).sum()).all()
