"""The radius rule and its dynamics against the sheet's numbers (section 6); all radii in 255ths unless said."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gjax import attacks
from gjax.evaluators.robust import RobustEvaluation
from gjax.losses import cross_entropy
from gjax.methods.baselines.adversarial_training import AdversarialTraining
from gjax.methods.core.classifier import PLAYER
from gjax.methods.core.contract import DataInfo
from gjax.methods.iaat import IAAT, attack_step_size, select_radius
from gjax.nets.layers import BatchNorm

GAMMA, BETA = 1.9, 0.1


class Linear(nn.Module):
    """Two-class logits (0, w.x), images centred at 1/2; the weights are the only parameter."""

    @nn.compact
    def __call__(self, images, *, train):
        weights = self.param('weights', nn.initializers.normal(), (images[0].size,))
        score = (images.reshape(images.shape[0], -1) - 0.5) @ weights
        return jnp.stack([jnp.zeros_like(score), score], axis=1)


def _method(num_examples=8, steps_per_epoch=1, **options):
    return IAAT(
        net=Linear(),
        optimizer=optax.sgd(options.pop('rate', 0.0)),
        info=DataInfo(2, num_examples, steps_per_epoch, 1000),
        evaluation=RobustEvaluation(),
        **options,
    )


def _batch(margins, eps=1 / 255):
    """Images whose linf margin under weights of ones is margins * eps: constant images 1/2 + margin * eps, label 1."""
    image = 0.5 + np.asarray(margins, np.float32)[:, None, None, None] * eps * np.ones((1, 2, 2, 1), np.float32)
    return {
        'image': jnp.asarray(image),
        'label': jnp.ones(len(margins), jnp.int32),
        'index': jnp.arange(len(margins), dtype=jnp.int32),
    }


def _frozen(method, batch, radius):
    state = method.init(jax.random.key(0), batch)
    params = {PLAYER: {'weights': jnp.ones(4)}}
    return state.replace(params=params, memory={'radius': jnp.asarray(radius, jnp.float32)})


def test_selection_order():
    radius = jnp.full(6, 8.0)
    robust = jnp.asarray([True, False, True, False, True, False])
    above = jnp.asarray([True, True, False, False, True, False])
    clean = jnp.asarray([True, True, True, True, False, False])
    new = select_radius(radius, robust, above, clean, gamma=GAMMA, beta=1.0)
    np.testing.assert_allclose(new, [9.9, 9.9, 8.0, 6.1, 0.0, 0.0], rtol=1e-6)
    smoothed = select_radius(radius, robust, above, clean, gamma=GAMMA, beta=BETA)
    np.testing.assert_allclose(smoothed, 0.1 * np.asarray(new) + 0.9 * 8, rtol=1e-6)
    capped = select_radius(radius, robust, above, clean, gamma=GAMMA, beta=1.0, eps_max=9.0)
    np.testing.assert_allclose(capped, [9, 9, 8, 6.1, 0, 0], rtol=1e-6)
    low = select_radius(jnp.ones(1), *(jnp.zeros(1, bool),) * 2, jnp.ones(1, bool), gamma=GAMMA, beta=1.0)
    assert low[0] == 0


def test_dynamics_on_a_frozen_linear_model():
    margins = [20.0, 8.5, 5.0, 1.01]
    method = _method(4, warmup_epochs=0, gamma=GAMMA / 255, beta=BETA)
    batch = _batch(margins)
    state = _frozen(method, batch, np.full(4, 8 / 255))
    step, history = jax.jit(method.step), []
    for _ in range(60):
        state, _ = step(state, batch)
        history.append(255 * np.asarray(state.memory['radius']))
    history = np.asarray(history)
    np.testing.assert_allclose(history[-1, :3], [18.26, 8.0, 4.96], atol=2e-3)
    assert np.flatnonzero(np.abs(history[:, 0] - 18.26) < 2e-3)[0] + 1 == 54
    assert np.flatnonzero(np.abs(history[:, 2] - 4.96) < 2e-3)[0] + 1 == 16
    rises = np.diff(np.vstack([np.full(4, 8.0), history]), axis=0)
    assert rises.max() <= BETA * GAMMA + 1e-3
    # Margin 1.01, from above: down by beta gamma while e >= gamma, then geometrically, until below the margin.
    radius, trail = 8.0, []
    for _ in range(60):
        radius = BETA * max(radius - GAMMA, 0) + (1 - BETA) * radius if radius >= 1.01 else radius
        trail.append(radius)
    np.testing.assert_allclose(history[:, 3], trail, atol=2e-3)
    assert 0.9 < trail[-1] < 1.0


def test_clean_misclassified_radii_decay_geometrically():
    method = _method(1, warmup_epochs=0, gamma=GAMMA / 255, beta=BETA)
    batch = _batch([-3.0])
    state, step = _frozen(method, batch, [8 / 255]), jax.jit(method.step)
    for visit in range(1, 21):
        state, _ = step(state, batch)
        np.testing.assert_allclose(255 * state.memory['radius'][0], 8 * 0.9**visit, rtol=1e-4)
    assert 255 * state.memory['radius'][0] < 1


def test_beta_zero_freezes_and_warm_up_writes_only_zero_or_eps():
    batch = _batch([20.0, 8.0, 3.0, -1.0])
    frozen = _method(4, warmup_epochs=0, beta=0.0)
    radius = np.asarray([3, 7, 9, 0], np.float32) / 255
    state, _ = frozen.step(_frozen(frozen, batch, radius), batch)
    np.testing.assert_allclose(state.memory['radius'], radius, rtol=1e-6)
    warm = _method(4, warmup_epochs=1, eps=8 / 255)
    state, _ = warm.step(_frozen(warm, batch, np.zeros(4)), batch)
    np.testing.assert_allclose(255 * state.memory['radius'], [8, 8, 8, 0], rtol=1e-6)


def test_the_warm_up_radius_rises_with_the_steps_and_then_adapts():
    """Over 1.5 epochs of 4 steps: eps k / 6 after the k-th step, eps from the sixth; the cap only cuts."""
    batch = _batch([20.0, 30.0, 15.0, -1.0])
    for cap, expected in ((0.0, [2, 4, 6, 8, 10, 12, 12, 12]), (7 / 255, [2, 4, 6, 7, 7, 7, 7, 7])):
        options = {'warmup_epochs': 2, 'eps_warmup_epochs': 1.5, 'eps': 12 / 255, 'eps_max': cap}
        method = _method(4, 4, gamma=GAMMA / 255, beta=1.0, **options)
        state, step = _frozen(method, batch, np.zeros(4)), jax.jit(method.step)
        for eps in expected:
            state, _ = step(state, batch)
            np.testing.assert_allclose(255 * state.memory['radius'], [eps, eps, eps, 0], rtol=1e-5)
    free = _method(4, 4, gamma=GAMMA / 255, beta=1.0, **(options | {'eps_max': 0.0}))
    state = _frozen(free, batch, np.asarray([12, 12, 12, 0], np.float32) / 255).replace(step=jnp.int32(8))
    state, _ = free.step(state, batch)
    np.testing.assert_allclose(255 * state.memory['radius'], [13.9, 13.9, 13.9, 0], rtol=1e-5)


def test_a_cap_holds_in_warm_up_and_after():
    batch = _batch([20.0, 30.0, 3.0, -1.0])
    warm = _method(4, warmup_epochs=1, eps=8 / 255, eps_max=6 / 255, gamma=GAMMA / 255, beta=1.0)
    state = _frozen(warm, batch, np.zeros(4))
    state, _ = warm.step(state, batch)
    np.testing.assert_allclose(255 * state.memory['radius'], [6, 6, 6, 0], rtol=1e-6)
    for _ in range(3):
        state, _ = warm.step(state, batch)
    assert 255 * state.memory['radius'].max() == pytest.approx(6, rel=1e-6)


def test_gamma_zero_beta_one_is_uniform_training_at_the_warm_up_radius():
    """One attack step of at least the ball's diameter ends in a corner whatever the start: both methods see one example."""
    facts = {'net': Linear(), 'optimizer': optax.sgd(0.5), 'info': DataInfo(2, 4, 1, 100), 'evaluation': RobustEvaluation()}
    options = {'eps': 8 / 255, 'attack_steps': 1}
    iaat = IAAT(warmup_epochs=1, gamma=0.0, beta=1.0, min_step=0.0, **options, **facts)
    uniform = AdversarialTraining(step_size=16 / 255, **options, **facts)
    batch = _batch([20.0, 30.0, 15.0, 12.0])
    own, other = (_frozen(method, batch, np.zeros(4)) for method in (iaat, uniform))
    for _ in range(5):
        own, _ = iaat.step(own, batch)
        other, _ = uniform.step(other, batch)
        np.testing.assert_allclose(255 * own.memory['radius'], 8, rtol=1e-6)
        np.testing.assert_allclose(own.params[PLAYER]['weights'], other.params[PLAYER]['weights'], rtol=1e-6)
    assert np.abs(own.params[PLAYER]['weights'] - 1).max() > 0.04


def test_radius_zero_is_clean_training():
    batch = _batch([20.0, -8.0, 5.0, -1.0])
    method = _method(4, warmup_epochs=0, beta=1.0, gamma=0.0, rate=0.5)
    state = _frozen(method, batch, np.zeros(4))
    clean = jax.grad(
        lambda w: cross_entropy(
            method.net.apply({'params': {'weights': w}}, batch['image'], train=True), batch['label']
        ).mean()
    )
    expected = 1 - 0.5 * clean(jnp.ones(4))
    state, _ = method.step(state, batch)
    np.testing.assert_array_equal(state.memory['radius'], 0)
    np.testing.assert_array_equal(state.params[PLAYER]['weights'], expected)


class Normalised(nn.Module):
    """A linear model behind BatchNorm: something with running statistics."""

    @nn.compact
    def __call__(self, images, *, train):
        features = BatchNorm()(images, train=train).reshape(images.shape[0], -1)
        return nn.Dense(2)(features)


def test_the_selection_updates_statistics_as_one_attack_after_the_other():
    method = dataclasses.replace(_method(6, attack_steps=3, beta=0.5), net=Normalised())
    images = jax.random.uniform(jax.random.key(1), (6, 4, 4, 2))
    labels = jnp.asarray([0, 1, 0, 1, 1, 0])
    state = method.init(jax.random.key(0), {'image': images})
    stats, radius, rng = state.batch_stats[PLAYER], jnp.full(6, 8 / 255), jax.random.key(3)
    _, together, _ = method._selection(state, stats, images, labels, radius, jnp.ones(6, bool), rng)
    passes = method.attack_logits(state)
    apart = stats
    for key, eps in zip(jax.random.split(rng), (radius, radius + method.gamma), strict=True):
        adversarial, apart = method._pgd(state, apart, images, labels, eps, key)
        _, apart = passes(adversarial, apart)
    for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        assert np.abs(one - jax.tree.leaves(stats)[0]).max() > 1e-3
    for mode in ('train', 'eval'):
        frozen = dataclasses.replace(method, attack_batch_norm=mode)
        _, after, _ = frozen._selection(state, stats, images, labels, radius, jnp.ones(6, bool), rng)
        jax.tree.map(np.testing.assert_array_equal, after, stats)


@pytest.mark.parametrize('reuse', [False, True])
def test_memory_changes_only_at_the_batchs_indices_and_follows_permutation(reuse):
    method = _method(10, warmup_epochs=0, gamma=GAMMA / 255, beta=BETA, reuse_attack=reuse)
    batch = _batch([20.0, 8.5, 5.0, -2.0]) | {'index': jnp.asarray([7, 2, 9, 4])}
    start = np.arange(10, dtype=np.float32) / 255
    state, _ = method.step(_frozen(method, batch, start), batch)
    new = np.asarray(state.memory['radius'])
    untouched = [0, 1, 3, 5, 6, 8]
    np.testing.assert_array_equal(new[untouched], start[untouched])
    assert (new[[7, 2, 9, 4]] != start[[7, 2, 9, 4]]).all()
    order = np.asarray([2, 0, 3, 1])
    shuffled = jax.tree.map(lambda leaf: leaf[order], batch)
    permuted, _ = method.step(_frozen(method, shuffled, start), shuffled)
    np.testing.assert_allclose(permuted.memory['radius'], new, atol=1e-7)


def test_attack_step_size_rule():
    sizes = 255 * attack_step_size(jnp.asarray([5, 10, 20]) / 255, 10, 2 / 255)
    np.testing.assert_allclose(sizes, [2, 2, 4], rtol=1e-6)


def test_the_gradient_is_that_of_robust_logistic_regression():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.uniform(0.4, 0.6, (16, 2, 2, 1)), jnp.float32)
    labels, eps = jnp.asarray(rng.integers(0, 2, 16)), rng.uniform(0, 0.05, 16).astype(np.float32)
    weights, bias = rng.normal(size=4).astype(np.float32), np.float32(0.3)

    def logits_fn(params, x):
        score = (x.reshape(16, 4) - 0.5) @ params['weights'] + params['bias']
        return jnp.stack([jnp.zeros_like(score), score], axis=1)

    params = {'weights': jnp.asarray(weights), 'bias': jnp.asarray(bias)}
    adversarial = attacks.pgd(
        functools.partial(logits_fn, params),
        images,
        labels,
        jnp.asarray(eps),
        rng=jax.random.key(0),
        steps=10,
        step_size=attack_step_size(jnp.asarray(eps), 10, 2 / 255),
    )
    own = jax.grad(lambda p: cross_entropy(logits_fn(p, adversarial), labels).mean())(params)
    sign = 2.0 * np.asarray(labels) - 1
    centred = np.asarray(images).reshape(16, 4) - 0.5
    robust_margin = sign * (centred @ weights + bias) - eps * np.abs(weights).sum()
    slope = -1 / (1 + np.exp(robust_margin))
    exact = (slope[:, None] * (sign[:, None] * centred - eps[:, None] * np.sign(weights))).mean(axis=0)
    np.testing.assert_allclose(own['weights'], exact, atol=1e-5)
    np.testing.assert_allclose(own['bias'], (slope * sign).mean(), atol=1e-5)


def test_the_batched_selection_equals_two_separate_attacks():
    method = _method(3, warmup_epochs=0)
    batch = _batch([20.0, 8.5, 5.0])
    radius = jnp.asarray([8.0, 8.0, 8.0]) / 255
    state = _frozen(method, batch, np.full(3, 8 / 255))
    rng = jax.random.key(5)
    clean = jnp.ones(3, bool)
    new, _, _ = method._selection(state, {}, batch['image'], batch['label'], radius, clean, rng)
    keys = jax.random.split(rng)
    verdicts = []
    for key, eps in zip(keys, (radius, radius + method.gamma), strict=True):
        adversarial, _ = method._pgd(state, {}, batch['image'], batch['label'], eps, key)
        verdicts.append(method.logits(state, adversarial).argmax(axis=1) == batch['label'])
    expected = select_radius(radius, *verdicts, clean, gamma=method.gamma, beta=method.beta)
    np.testing.assert_allclose(new, expected, rtol=1e-6)


def test_attacks_may_start_outside_the_range_as_in_the_authors_code(monkeypatch):
    """All attacks of a step are told so, and nothing else of the default step changes."""
    told, pgd = [], attacks.pgd
    monkeypatch.setattr(
        attacks, 'pgd', lambda *args, **options: (told.append(options['clip_start']), pgd(*args, **options))[1]
    )
    for clip in (True, False):
        method = _method(clip_start=clip, attack_steps=1, warmup_epochs=0)
        state = jax.eval_shape(method.init, jax.random.key(0), _batch([1, 2]))
        jax.eval_shape(method.step, state, _batch([1, 2]))
    assert len(told) >= 4
    assert set(told[: len(told) // 2]) == {True}
    assert set(told[len(told) // 2 :]) == {False}
    assert IAAT.clip_start


def test_summaries():
    method = _method(4, eps=8 / 255)
    state = _frozen(method, _batch([1.0]), np.asarray([0, 4, 8, 400]) / 255)
    summary = method.summarize(state)
    assert summary['radius_histogram'].sum() == 4
    np.testing.assert_array_equal(np.flatnonzero(summary['radius_histogram']), [0, 4, 8, 31])
    np.testing.assert_allclose(255 * summary['mean_radius'], 103, rtol=1e-5)
    examples = {
        'radius': np.asarray([1.0, 2.0, 3.0]),
        'correct': np.asarray([False, True, True]),
        'margin': np.asarray([-1.0, 1.0, 2.0]),
    }
    numbers = method.summarize_examples(examples)
    assert numbers['mean_radius_misclassified'] == 1
    assert numbers['mean_radius_correct'] == 2.5
    assert numbers['radius_margin_correlation'] == pytest.approx(1.0)


@pytest.mark.parametrize('reuse', [False, True])
def test_the_training_example_lies_at_the_new_radius(reuse):
    """One update of the weights in closed form: also the reused attack at e + gamma counts only up to eps_i."""
    method = _method(1, warmup_epochs=0, gamma=GAMMA / 255, beta=BETA, reuse_attack=reuse, rate=1.0)
    batch, radius = _batch([20.0]), (8 + BETA * GAMMA) / 255
    state, _ = method.step(_frozen(method, batch, [8 / 255]), batch)
    assert state.memory['radius'][0] == pytest.approx(radius, rel=1e-5)
    pixel = 20 / 255 - radius
    expected = 1 + pixel / (1 + np.exp(4 * pixel))
    np.testing.assert_allclose(state.params[PLAYER]['weights'], expected, rtol=1e-6)
