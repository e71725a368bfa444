"""Optimisers and schedules from configs, with PyTorch's optimisers as their judge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax.methods.core.contract import DataInfo
from gjax.methods.core.optimisers import OPTIMIZER_DEFAULTS, build_optimizer, learning_rate_schedule

INFO = DataInfo(num_classes=10, num_examples=1000, steps_per_epoch=10, num_steps=200, image_shape=(32, 32, 3))


def _schedule(**spec):
    return learning_rate_schedule(OPTIMIZER_DEFAULTS | {'learning_rate': 1.0} | spec, INFO)


def test_schedules():
    steps = _schedule(schedule='steps', milestones=(6, 12), factor=0.2)
    np.testing.assert_allclose([steps(59), steps(60), steps(119), steps(120)], [1, 0.2, 0.2, 0.04], rtol=1e-6)
    warm = _schedule(schedule='steps', milestones=(6, 12), factor=0.2, warmup_epochs=2)
    np.testing.assert_allclose([warm(0), warm(10), warm(20), warm(59), warm(60)], [0, 0.5, 1, 1, 0.2], rtol=1e-6)
    cosine = _schedule(schedule='cosine')
    np.testing.assert_allclose([cosine(0), cosine(100), cosine(200)], [1, 0.5, 0], atol=1e-6)
    inverse = _schedule(schedule='inverse', decay=1e-4)
    np.testing.assert_allclose([inverse(0), inverse(10_000)], [1, 0.5], rtol=1e-6)


def test_schedules_of_domain_specific_masks():
    """0.75 powers of 1 + k / 10,000 (DomainNet), and 0.99 an epoch, of ten steps here (PACS)."""
    powered = _schedule(schedule='inverse', decay=1e-4, power=0.75)
    np.testing.assert_allclose([powered(0), powered(10_000)], [1, 0.5946], rtol=1e-4)
    exponential = _schedule(schedule='exponential', factor=0.99)
    np.testing.assert_allclose([exponential(9), exponential(10), exponential(1500)], [1, 0.99, 0.2215], rtol=3e-4)


def test_sgd_is_pytorchs_with_momentum_and_coupled_decay():
    optimizer = build_optimizer({'learning_rate': 0.1, 'momentum': 0.9, 'weight_decay': 0.01}, INFO)
    value = expected = np.float32(2.0)
    state, velocity = optimizer.init(jnp.asarray(value)), 0.0
    for gradient in (1.0, -0.5, 0.25):
        update, state = optimizer.update(jnp.asarray(gradient), state, jnp.asarray(value))
        value = value + update
        velocity = 0.9 * velocity + gradient + 0.01 * expected
        expected = expected - 0.1 * velocity
        np.testing.assert_allclose(value, expected, rtol=1e-6)


TORCH = {
    'sgd': ('SGD', {'momentum': 0.9}, {'momentum': 0.9}),
    'adam': ('Adam', {'b1': 0.8, 'b2': 0.95}, {'betas': (0.8, 0.95)}),
    'adamw': ('AdamW', {'b1': 0.8, 'b2': 0.95}, {'betas': (0.8, 0.95)}),
    'rmsprop': ('RMSprop', {'rho': 0.8}, {'alpha': 0.8}),
    'adadelta': ('Adadelta', {'rho': 0.8}, {'rho': 0.8}),
}


@pytest.mark.parametrize('scale', [1.0, 1e-4])
@pytest.mark.parametrize('decay', [0.0, 0.01])
@pytest.mark.parametrize('name', TORCH)
def test_updates_are_pytorchs(name, decay, scale):
    """Ten updates of a vector by gradients of this scale, of which small ones show where the epsilon of a root stands."""
    torch = pytest.importorskip('torch')
    other, own_options, options = TORCH[name]
    optimizer = build_optimizer({'name': name, 'learning_rate': 0.05, 'weight_decay': decay} | own_options, INFO)
    rng = np.random.default_rng(0)
    start = rng.normal(size=5).astype(np.float32)
    decayed = torch.nn.Parameter(torch.from_numpy(start.copy()))
    judge = getattr(torch.optim, other)([decayed], lr=0.05, weight_decay=decay, **options)
    value = jnp.asarray(start)
    state = optimizer.init(value)
    for _ in range(10):
        gradient = scale * rng.normal(size=5).astype(np.float32)
        with jax.numpy_dtype_promotion('standard'):  # as in update_player
            update, state = optimizer.update(jnp.asarray(gradient), state, value)
            value = value + update
        decayed.grad = torch.from_numpy(gradient)
        judge.step()
    moved = np.abs(np.asarray(value) - start).max()
    np.testing.assert_allclose(value, decayed.detach().numpy(), rtol=1e-4, atol=1e-3 * moved)


def test_adadelta_written_out():
    """Zeiler 2012, Algorithm 1, with the epsilon 1e-6 under both roots and the learning rate as a factor."""
    rho, rate, eps = 0.7, 0.5, 1e-6
    optimizer = build_optimizer({'name': 'adadelta', 'learning_rate': rate, 'rho': rho}, INFO)
    value = expected = np.float32(1.0)
    state, squares, steps = optimizer.init(jnp.asarray(value)), 0.0, 0.0
    for gradient in (1.0, -0.5, 0.25, 0.25):
        update, state = optimizer.update(jnp.asarray(gradient), state, jnp.asarray(value))
        value = value + update
        squares = rho * squares + (1 - rho) * gradient**2
        step = np.sqrt(steps + eps) / np.sqrt(squares + eps) * gradient
        steps = rho * steps + (1 - rho) * step**2
        expected = expected - rate * step
        np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize('name', ['sgd', 'adam', 'adamw', 'rmsprop', 'adadelta'])
def test_long_gradients_are_scaled_to_the_norms_limit(name):
    spec = {'name': name, 'learning_rate': 0.1, 'weight_decay': 0.01}
    clipped, plain = build_optimizer(spec | {'clip_norm': 2.0}, INFO), build_optimizer(spec, INFO)
    params = {'a': jnp.array([1.0, -1.0]), 'b': jnp.array([0.5])}
    states = [clipped.init(params), plain.init(params)]
    for scale in (1.0, 10.0):  # of length 1.5, then 15
        gradients = jax.tree.map(lambda x, s=scale: s * x, params)
        limited = jax.tree.map(lambda x, s=scale: min(s, 2.0 / 1.5) * x, params)
        with jax.numpy_dtype_promotion('standard'):  # as in update_player
            found, states[0] = clipped.update(gradients, states[0], params)
            expected, states[1] = plain.update(limited, states[1], params)
        for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(own, other, rtol=1e-5)
