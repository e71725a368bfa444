"""The baselines' losses against their definitions, BatchNorm modes, and the ramp of the radius."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import methods
from gjax.losses import cross_entropy, kl_divergence
from gjax.methods.core.classifier import PLAYER
from gjax.methods.core.contract import DataInfo

INFO = DataInfo(num_classes=3, num_examples=12, steps_per_epoch=2, num_steps=10)
RNG = np.random.default_rng(0)
BATCH = {
    'image': jnp.asarray(RNG.uniform(size=(6, 8, 8, 1)), jnp.float32),
    'label': jnp.asarray([0, 1, 2, 0, 1, 2], jnp.int32),
    'index': jnp.arange(6, dtype=jnp.int32),
}


def _build(name, batch_norm=True, info=INFO, **options):
    config = {
        'method': {'name': name} | options,
        'net': {'name': 'small_cnn', 'widths': (4,), 'hidden': 4, 'batch_norm': batch_norm},
        'optimizer': {'learning_rate': 0.0},
        'evaluation': {},
    }
    return methods.build(config, info)


def _loss(method, state):
    return float(jax.jit(method.step)(state, BATCH)[1]['loss/classifier'])


def _logits(method, state, images):
    return method.apply(state.params[PLAYER], state.batch_stats[PLAYER], images, train=True)[0]


def test_at_radius_zero_every_loss_is_the_clean_one():
    supervised = _build('supervised')
    state = supervised.init(jax.random.key(0), BATCH)
    clean = float(cross_entropy(_logits(supervised, state, BATCH['image']), BATCH['label']).mean())
    assert _loss(supervised, state) == pytest.approx(clean, rel=1e-5)
    assert _loss(_build('adversarial_training', eps=0.0), state) == pytest.approx(clean, rel=1e-5)
    assert _loss(_build('trades', eps=0.0), state) == pytest.approx(clean, rel=1e-4)


def test_trades_is_cross_entropy_plus_lam_times_kl_at_the_attack():
    method = _build('trades', batch_norm=False, eps=0.1, step_size=0.03, attack_steps=4, lam=2.5)
    state = method.init(jax.random.key(0), BATCH)
    clean = _logits(method, state, BATCH['image'])
    adversarial, _ = method.attack(
        state, BATCH['image'], clean, 0.1, rng=state.step_rng(), steps=4, step_size=0.03, objective=kl_divergence
    )
    divergence = kl_divergence(_logits(method, state, adversarial), clean)
    expected = float((cross_entropy(clean, BATCH['label']) + 2.5 * divergence).mean())
    assert _loss(method, state) == pytest.approx(expected, rel=1e-4)
    assert float(divergence.mean()) > 0


def test_the_adversarial_loss_exceeds_the_clean_one_and_the_ramp_starts_small():
    losses = []
    for warmup in (0.0, 500.0):
        method = _build('adversarial_training', batch_norm=False, eps=0.2, step_size=0.1, eps_warmup_epochs=warmup)
        losses.append(_loss(method, method.init(jax.random.key(0), BATCH)))
    clean = _loss(_build('supervised', batch_norm=False), method.init(jax.random.key(0), BATCH))
    assert losses[0] > losses[1] + 1e-3
    assert losses[1] == pytest.approx(clean, abs=2e-3)


@pytest.mark.parametrize(('mode', 'passes'), [('train', 1), ('eval', 1), ('train_update', 1 + 3)])
def test_attack_batch_norm_decides_how_often_running_statistics_move(mode, passes):
    method = _build('adversarial_training', eps=0.0, attack_steps=3, attack_batch_norm=mode)
    state = method.init(jax.random.key(0), BATCH)
    after = jax.jit(method.step)(state, BATCH)[0].batch_stats[PLAYER]['BatchNorm_0']['BatchNorm_0']['mean']
    one = method.apply(state.params[PLAYER], state.batch_stats[PLAYER], BATCH['image'], train=True)[1]
    batch_mean = 10 * one['BatchNorm_0']['BatchNorm_0']['mean']  # 0.9 * 0 + 0.1 * mean
    np.testing.assert_allclose(after, (1 - 0.9**passes) * batch_mean, rtol=1e-3)


def test_iaat_in_the_authors_mode_updates_the_statistics_three_plus_three_t_times_before_the_training_pass():
    method = _build('iaat', eps=0.0, gamma=0.0, attack_steps=2, warmup_epochs=0)
    state = method.init(jax.random.key(0), BATCH)
    after = jax.jit(method.step)(state, BATCH)[0].batch_stats[PLAYER]['BatchNorm_0']['BatchNorm_0']['mean']
    one = method.apply(state.params[PLAYER], state.batch_stats[PLAYER], BATCH['image'], train=True)[1]
    batch_mean = 10 * one['BatchNorm_0']['BatchNorm_0']['mean']
    # Clean pass, attacks A and B of T + 1 passes each, training attack of T, training pass.
    np.testing.assert_allclose(after, (1 - 0.9 ** (1 + 3 + 3 + 2 + 1)) * batch_mean, rtol=1e-3)


def test_interpolated_training_averages_a_clean_and_an_attacked_half():
    method = _build('interpolated_adversarial_training', batch_norm=False, eps=0.0)
    state = method.init(jax.random.key(0), BATCH)
    _, clean_rng, adversarial_rng = jax.random.split(state.step_rng(), 3)
    from gjax.losses import mixup

    halves = []
    for rng in (clean_rng, adversarial_rng):
        images, targets = mixup(BATCH['image'], jax.nn.one_hot(BATCH['label'], 3), rng=rng)
        halves.append(float(cross_entropy(_logits(method, state, images), targets).mean()))
    assert _loss(method, state) == pytest.approx(np.mean(halves), rel=1e-4)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match=r'the number of classes of data\.name is 1; allowed: at least 2'):
        _build('supervised', info=dataclasses.replace(INFO, num_classes=1))
