"""Optimisers and schedules from configs, and building methods by name."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import methods
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


@pytest.mark.parametrize('name', ['sgd', 'adam', 'adamw'])
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


def _config(**sections):
    config = {'method': {'name': 'supervised'}, 'net': {'name': 'small_cnn'}, 'optimizer': {}, 'evaluation': {}}
    return config | sections


@pytest.mark.parametrize('name', methods.METHODS)
def test_defaults_build_every_method(name):
    net = 'dcgan' if name in ('autoencoder', 'gan', 'lottery_tickets', 'early_bird') else 'small_cnn'
    net = 'gta_digits' if methods.domains(name) else 'realnvp' if name == 'flow_robustness' else net
    config = _config(method={'name': name}, net={'name': net})
    completed = {section: values | config[section] for section, values in methods.defaults(config).items()}
    built = methods.build(completed, INFO)
    again = methods.build(config, INFO)
    for field in dataclasses.fields(built):
        if field.name not in ('optimizer', 'constant_optimizer'):
            assert getattr(built, field.name) == getattr(again, field.name)


@pytest.mark.parametrize(
    ('sections', 'message'),
    [
        ({'method': {'name': 'iat'}}, r"method.name is 'iat' \(did you mean iaat\?\); allowed: supervised"),
        ({'method': {'name': 'iaat', 'beta': 1.5}}, r'method.beta is 1.5; allowed: 0\.\.1'),
        ({'method': {'name': 'iaat', 'gama': 1}}, r'method.gama is 1.*did you mean gamma'),
        ({'method': {'name': 'iaat', 'attack_batch_norm': 'x'}}, "attack_batch_norm is 'x'; allowed: train, eval"),
        ({'method': {'name': 'trades', 'eps': -1.0}}, 'method.eps is -1.0; allowed: >= 0'),
        ({'method': {'name': 'trades', 'attack_steps': 0}}, 'method.attack_steps is 0; allowed: > 0'),
        ({'optimizer': {'name': 'lion'}}, "optimizer.name is 'lion'; allowed: sgd, adam, adamw"),
        ({'optimizer': {'schedule': 'x'}}, "optimizer.schedule is 'x'; allowed: constant, cosine, steps"),
        ({'optimizer': {'rate': 1}}, 'no optimizer.rate; allowed: name, learning_rate'),
        ({'optimizer': {'learning_rate': -0.1}}, 'optimizer.learning_rate is -0.1; allowed: >= 0'),
        ({'optimizer': {'b1': 2.0}}, 'optimizer.b1 is 2.0; allowed: 0 <= b1 < 1'),
        ({'optimizer': {'milestones': (1, 'a')}}, 'optimizer.milestones is .*allowed: epochs'),
        ({'net': {'name': 'small_cnn', 'widths': (0,)}}, r'net.widths is \(0,\); allowed: positive'),
        ({'net': {'name': 'small_cnn', 'widths': ()}}, r'net.widths is \(\); allowed: positive'),
        ({'net': {'name': 'small_cnn', 'hidden': -3}}, 'net.hidden is -3; allowed: positive'),
        ({'evaluation': {'curve': (0.2, 0.1)}}, 'evaluation.curve is .*allowed: ascending'),
        ({'evaluation': {'norm': 'l1'}}, "evaluation.norm is 'l1'; allowed: linf, l2"),
        ({'evaluation': {'norm': 'l2', 'attacks': ('momentum_iterative',)}}, 'allowed for l2: pgd, margin_pgd'),
        ({'evaluation': {'attacks': ()}}, 'evaluation.attacks is empty'),
        ({'evaluation': {'attacks': ('fab',)}}, "evaluation.attacks has 'fab'; allowed for linf: pgd"),
    ],
)
def test_bad_configs_are_refused(sections, message):
    with pytest.raises(ValueError, match=message):
        methods.build(_config(**sections), INFO)
