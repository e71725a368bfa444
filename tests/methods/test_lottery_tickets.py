"""Iterative magnitude pruning: what a round starts from, what its controls are, and that pruned weights stay pruned."""

import os

import jax
import numpy as np
import pytest

from gjax import masks, methods
from gjax.methods import lottery_tickets
from gjax.methods.core.contract import DataInfo
from tests.states import assert_equal, batch_of

INFO = DataInfo(num_classes=2, num_examples=16, steps_per_epoch=2, num_steps=10, image_shape=(8, 8, 1))
CONFIG = {
    'method': {'name': 'lottery_tickets', 'model': 'vae', 'rounds': 3, 'rewind_epochs': 1.0},
    'net': {'name': 'dcgan', 'latent': 3, 'widths': (3, 4)},
    'optimizer': {'name': 'adam', 'learning_rate': 0.01, 'schedule': 'cosine'},
    'evaluation': {},
}


def _build(optimizer=(), **options):
    config = {**CONFIG, 'method': CONFIG['method'] | options, 'optimizer': CONFIG['optimizer'] | dict(optimizer)}
    return methods.build(config, INFO)


def _train(method, state, steps, **compiler_options):
    step = jax.jit(method.step, compiler_options=compiler_options)
    for i in range(steps):
        state, _ = step(state, batch_of(i))
    return state


@pytest.fixture(scope='module')
def dense():
    """(method, theta_0, the state after step k, the last one)."""
    method = _build()
    start = method.init(jax.random.key(0), batch_of())
    kept = _train(method, start, method.rewind_step)
    return method, start, kept, _train(method, kept, 3)


def _begin(dense, stage, parent=None):
    method, start, _, end = dense
    return method.begin(stage, start, {'': end if parent is None else parent}, batch_of(9), rng=jax.random.key(7))


def test_theta_k_is_remembered_and_not_overwritten(dense):
    method, start, kept, end = dense
    assert method.rewind_step == 2
    assert_equal(start.memory['rewind']['params'], start.params)
    assert_equal(end.memory['rewind'], {'params': kept.params, 'batch_stats': kept.batch_stats})


def test_a_round_starts_from_exactly_m_theta_k_with_a_fresh_optimiser(dense):
    _, _, kept, end = dense
    state = _begin(dense, 'round01')
    count, total = masks.count(state.masks)
    assert abs(int(count) - 0.8 * total) <= 1
    assert_equal(state.params, {p: masks.apply(state.masks[p], kept.params[p]) for p in kept.params})
    assert_equal(state.batch_stats, kept.batch_stats)
    assert state.step == 2
    magnitudes = [(np.abs(w), np.asarray(m)) for p in end.params for w, m in _kernels(end.params[p], state.masks[p])]
    assert max(w[~m].max(initial=0) for w, m in magnitudes) <= min(w[m].min() for w, m in magnitudes)
    for player, optimizer_state in state.opt_state.items():
        adam, schedule = optimizer_state
        assert all((leaf == 0).all() for leaf in jax.tree.leaves((adam.mu, adam.nu))), player
        assert (adam.count, schedule.count) == (0, 2)


def _kernels(params, tree):
    pairs = jax.tree.map(lambda m, p: None if m is None else (p, m), tree, params, is_leaf=lambda leaf: leaf is None)
    return jax.tree.leaves(pairs, is_leaf=lambda leaf: isinstance(leaf, tuple))


def test_rounds_are_nested_and_leave_powers_of_eight_tenths(dense):
    method, first = dense[0], _begin(dense, 'round01')
    second = _begin(dense, 'round02', _train(method, first, 3))
    third = _begin(dense, 'round03', _train(method, second, 2))
    total = masks.count(first.masks)[1]
    for n, (outer, inner) in enumerate(((first, second), (second, third)), 2):
        assert masks.is_nested(inner.masks, outer.masks)
        assert abs(int(masks.count(inner.masks)[0]) - total * 0.8**n) <= 1
        assert_equal(inner.memory['rewind'], first.memory['rewind'])


def test_controls_differ_from_the_ticket_in_what_they_say(dense):
    method, start, kept, _ = dense
    ticket = _train(method, _begin(dense, 'round02'), 2)
    controls = {name: _begin(dense, f'round02_{name}', ticket) for name in ('random', 'reinit', 'no_rewind')}
    layers = masks.sparsity_report(ticket.masks)
    random = controls['random']
    assert masks.sparsity_report(random.masks) == layers
    assert any(
        (np.asarray(a) != np.asarray(b)).any()
        for a, b in zip(*map(jax.tree.leaves, (random.masks, ticket.masks)), strict=True)
    )
    assert_equal(random.params, {p: masks.apply(random.masks[p], kept.params[p]) for p in kept.params})
    for name in ('reinit', 'no_rewind'):
        assert_equal(jax.tree.leaves(controls[name].masks), jax.tree.leaves(ticket.masks))
        assert controls[name].step == 0
    expected = {p: masks.apply(ticket.masks[p], start.params[p]) for p in start.params}
    assert_equal(controls['no_rewind'].params, expected)
    weights = controls['reinit'].params['encoder']['head']['kernel']
    assert (weights != 0).sum() == (expected['encoder']['head']['kernel'] != 0).sum()
    assert not np.array_equal(weights, expected['encoder']['head']['kernel'])


@pytest.mark.parametrize('stage', ['round02_one_shot', 'round02_snip', 'round02_grasp'])
@pytest.mark.parametrize('model', ['vae', pytest.param('gan', marks=pytest.mark.slow)])
def test_other_masks_have_the_rounds_sparsity(stage, model):
    method = _build(model=model)
    start = method.init(jax.random.key(0), batch_of())
    state = method.begin(stage, start, {'dense': _train(method, start, 4)}, batch_of(9), rng=jax.random.key(7))
    count, total = masks.count(state.masks)
    assert abs(int(count) - 0.64 * total) <= 1
    assert state.step == (2 if 'one_shot' in stage else 0)


@pytest.mark.parametrize('model', ['vae', *(pytest.param(name, marks=pytest.mark.slow) for name in ('ae', 'gan'))])
def test_an_all_ones_mask_is_bitwise_the_unmasked_run(model):
    method = _build(model=model)
    plain = method.trainer
    # Two programs: where LLVM contracts a product and a sum into one instruction in only one of them, the last bit differs.
    exact = {'xla_backend_optimization_level': 0}
    if 'fusion_emitters=false' in os.environ['XLA_FLAGS']:  # the older ones contract too
        exact['xla_cpu_use_fusion_emitters'] = True
    masked, unmasked = (_train(m, m.init(jax.random.key(0), batch_of()), 4, **exact) for m in (method, plain))
    assert all(leaf.all() for leaf in jax.tree.leaves(masked.masks))
    assert_equal(masked.params, unmasked.params)
    assert_equal(masked.batch_stats, unmasked.batch_stats)


@pytest.mark.parametrize(
    'optimizer',
    [
        {'name': 'adam', 'weight_decay': 0.1},
        {'name': 'adamw', 'weight_decay': 0.1},
        {'name': 'sgd', 'momentum': 0.9, 'weight_decay': 0.1},
    ],
    ids=lambda o: o['name'],
)
@pytest.mark.parametrize('model', ['vae', 'gan'])
def test_pruned_weights_stay_exactly_zero(model, optimizer):
    method = _build(optimizer, model=model, ema=0.9)
    start = method.init(jax.random.key(0), batch_of())
    state = method.begin('round03', start, {'round02': _train(method, start, 3)}, batch_of(), rng=jax.random.key(0))
    state = _train(method, state, 100)
    trees = [(state.params[p], state.masks[p]) for p in state.params]
    trees.append((state.memory['ema'], state.masks[method.trainer.DECODER]))
    for params, tree in trees:
        for weights, mask in _kernels(params, tree):
            assert (np.asarray(weights)[~np.asarray(mask)] == 0).all()
            assert (np.asarray(weights)[np.asarray(mask)] != 0).all()


def test_components_and_protected_layers():
    method = _build(components=('decoder',), protect=('decoder/Dense_0',))
    state = method.init(jax.random.key(0), batch_of())
    assert state.masks['encoder'] is None
    pruned = method.begin('round01', state, {'dense': state}, batch_of(), rng=jax.random.key(0))
    assert pruned.masks['decoder']['Dense_0']['kernel'] is None
    assert 0 < masks.sparsity(pruned.masks) < 0.3
    assert_equal(pruned.params['encoder'], state.params['encoder'])


def test_scopes():
    each, layer = (_begin_of(scope) for scope in ('each', 'layer'))
    for player in ('encoder', 'decoder'):
        np.testing.assert_allclose(masks.sparsity(each.masks[player]), 0.2, atol=0.01)
    assert all(abs(value - 0.2) < 0.03 for value in masks.sparsity_report(layer.masks).values())


def _begin_of(scope):
    method = _build(scope=scope)
    state = method.init(jax.random.key(0), batch_of())
    return method.begin('round01', state, {'dense': state}, batch_of(), rng=jax.random.key(0))


@pytest.mark.parametrize(('model', 'to'), [('vae', 'gan'), ('gan', 'vae'), ('ae', 'vae')])
def test_tickets_transfer_between_models(model, to):
    source = _build(model=model, transfer_to=to)
    kept = jax.jit(source.init)(jax.random.key(0), batch_of())
    ticket = source.begin('round03', kept, {'round02': kept}, batch_of(), rng=jax.random.key(1))
    target = source.at(f'{to}_ticket')
    new = jax.jit(target.init)(jax.random.key(5), batch_of())
    parents, rng = {'round03': ticket}, jax.random.key(2)
    begun = {k: target.begin(f'{to}_{k}', new, parents, batch_of(), rng=rng) for k in ('ticket', 'reinit')}
    for player, params in begun['ticket'].params.items():
        other = player if player in ticket.params else lottery_tickets.COUNTERPARTS[player]
        shared = 'trunk' if 'trunk' in params else 'Dense_0'
        own = ticket.masks[other][shared]
        assert_equal(begun['ticket'].masks[player][shared], own)
        assert_equal(params[shared], masks.apply(own, kept.params[other][shared]))
        assert_equal(begun['reinit'].params[player][shared], masks.apply(own, new.params[player][shared]))
        if 'head' in params:
            assert begun['ticket'].masks[player]['head']['kernel'].all()  # of another width: dense and new
    assert all(int(state.step) == 0 for state in begun.values())


def test_a_ticket_is_what_its_stage_started_from():
    method = _build(rewind_epochs=0.0)
    start = jax.jit(method.init)(jax.random.key(0), batch_of())
    end = _train(method, start, 2)
    for stage in ('round01', 'round01_reinit'):
        state = method.begin(stage, start, {'dense': end}, batch_of(), rng=jax.random.key(3))
        files = method.files(jax.device_get(_train(method, state, 2)))
        ticket, values = masks.unpack(files['ticket.npz'])
        assert files.keys() == {'ticket.npz'}
        assert_equal(values['params'], state.params)
        assert_equal(ticket['params'], state.masks)
    assert not np.array_equal(values['params']['encoder']['head']['kernel'], start.params['encoder']['head']['kernel'])


def test_stages():
    stages = _build(rounds=2, controls=('random', 'one_shot', 'snip')).stages()
    assert [(stage.name, stage.parents, stage.key) for stage in stages] == [
        ('dense', (), 1),
        ('round01', ('dense',), 2),
        ('round02', ('round01',), 3),
        ('round02_random', ('round02',), 4),
        ('round02_one_shot', ('dense',), 5),
        ('round02_snip', (), 6),
    ]
    assert [stage.name for stage in _build(rounds=0, controls=('random',)).stages()] == ['dense']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'model': 'flow'}, "method.model is 'flow'; allowed: ae, vae, gan"),
        ({'scope': 'all'}, "method.scope is 'all'; allowed: together, each, layer"),
        ({'prune': 1.0}, 'method.prune is 1.0; allowed: 0 < prune < 1'),
        ({'rewind_epochs': 5.0}, 'method.rewind_epochs is 5.0, which leaves nothing to train'),
        ({'components': ('generator',)}, "method.components has 'generator'; allowed: encoder, decoder"),
        ({'controls': ('lucky',)}, "method.controls has 'lucky'; allowed: random, reinit"),
        ({'control_rounds': (4,)}, 'method.control_rounds has 4; allowed: 1..3'),
        ({'protect': ('generator/Dense_0',)}, "method.protect has 'generator/Dense_0'"),
        ({'ema': 1.0}, 'method.ema is 1.0'),
        ({'beta': -1.0}, 'method.beta is -1.0'),
        ({'loss': 'wasserstain', 'model': 'gan'}, "method.loss is 'wasserstain'; allowed: non_saturating"),
        ({'penalty': 1.0, 'model': 'gan'}, "net.trunk_norm is 'batch'; allowed with method.penalty"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        _build(**options)


def test_networks_of_the_wrong_kind_are_refused():
    with pytest.raises(ValueError, match=r"net.name is 'small_cnn'; allowed for lottery_tickets: mlp, dcgan, resnet_gan"):
        methods.build({**CONFIG, 'net': {'name': 'small_cnn'}}, INFO)
    with pytest.raises(ValueError, match=r"net.name is 'dcgan'; allowed for supervised: small_cnn"):
        methods.build({**CONFIG, 'method': {'name': 'supervised'}}, INFO)
