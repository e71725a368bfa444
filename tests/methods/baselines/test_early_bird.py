"""Early-bird tickets: when the search ends, what is cut out, and what the controls cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import masks, methods
from gjax.methods.baselines.early_bird import penalise_scales
from gjax.methods.core.contract import DataInfo
from tests.states import assert_equal, batch_of

INFO = DataInfo(num_classes=2, num_examples=16, steps_per_epoch=2, num_steps=20, image_shape=(8, 8, 1))
OPTIONS = {'name': 'early_bird', 'channels': 0.5, 'history': 2, 'controls': ('random', 'reinit', 'snip', 'grasp')}


def _build(net=(), optimizer=(), stage='', **options):
    """The method, or the one of a stage."""
    config = {
        'method': OPTIONS | options,
        'net': {'name': 'dcgan', 'latent': 3, 'widths': (6, 8), **dict(net)},
        'optimizer': {'name': 'adam', 'learning_rate': 0.01, **dict(optimizer)},
        'evaluation': {},
    }
    method = methods.build(config, INFO)
    return method.at(stage) if stage else method


def _init(method):
    return jax.jit(method.init)(jax.random.key(0), batch_of())


def _train(method, state, steps):
    step = jax.jit(method.step)
    for i in range(steps):
        state, _ = step(state, batch_of(i))
        if method.done(state):
            break
    return state


def test_the_penalty_is_the_gradient_of_the_scales_l1_norm():
    params = {'norm': {'scale': jnp.asarray([-2.0, 0.5]), 'bias': jnp.ones(2)}, 'conv': {'kernel': jnp.ones((2, 2))}}
    penalty = penalise_scales(0.3)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = penalty.update(zero, penalty.init(params), params)
    expected = jax.grad(lambda p: 0.3 * jnp.abs(p['norm']['scale']).sum())(params)
    assert_equal(updates, expected)


def test_a_strong_penalty_shrinks_the_scales_of_the_search_alone():
    sgd, sums = {'name': 'sgd', 'learning_rate': 1e-3, 'momentum': 0.0}, {}
    for stage in ('dense', 'search'):
        method = _build(optimizer=sgd, stage=stage, gamma_l1=100.0, distance=1e-6, history=8)
        state = _train(method, _init(method), 4)
        leaves = jax.tree_util.tree_flatten_with_path(state.params)[0]
        sums[stage] = sum(float(jnp.abs(leaf).sum()) for path, leaf in leaves if path[-1].key == 'scale')
    assert sums['search'] < 0.8 * sums['dense']


def _scripted(scales, **options):
    """The states of a search whose decoder's first scales were set to these, one row an epoch."""
    method = _build(stage='search', distance=0.2, **options)
    state, step = _init(method), jax.jit(method.step)
    for i, row in enumerate(scales):
        for k in range(2):
            params = masks.channels.put(state.params, ('decoder', 'BatchNorm_0', 'BatchNorm_0', 'scale'), jnp.asarray(row))
            state, _ = step(state.replace(params=params), batch_of(2 * i + k))
        yield method, state


@pytest.mark.parametrize(('rule', 'last'), [('any_two', 5), ('paper', 6)])
def test_the_search_ends_when_the_last_masks_agree(rule, last):
    """From epoch 3 on all masks are the same. Three masks are there at epoch 5, three distances at epoch 6."""
    still = [1.0, 1.0, 1.0, 1.0, 1e-6, 1e-6, 1e-6, 1e-6]
    moved = still[::-1]
    ends = []
    for method, state in _scripted([still, still, moved, moved, moved, moved], rule=rule, history=3):
        ends.append(bool(method.done(state)))
        distances = np.asarray(method.summarize(state)['mask_distance'])
    assert ends == [epoch >= last for epoch in range(1, 7)]
    assert distances.shape == (10, 10)
    assert distances[0, 2] > 0.2 >= distances[2, 4]
    np.testing.assert_array_equal(distances, distances.T)


@pytest.fixture(
    scope='module', params=['vae', 'gan', *(pytest.param(p, marks=pytest.mark.slow) for p in ('spectral', 'resnet'))]
)
def searched(request):
    """(options, the search's method, its last state)."""
    nets = {'resnet': {'name': 'resnet_gan', 'widths': (4, 6), 'trunk_widths': (4, 6), 'plain': 1, 'trunk_norm': 'batch'}}
    nets['spectral'] = {'trunk_norm': 'spectral'}
    net, model = nets.get(request.param, ()), {'resnet': 'vae', 'spectral': 'gan'}.get(request.param, request.param)
    options = {'model': model, 'distance': 1.0, 'ema': 0.9}
    method = _build(net, stage='search', **options)
    return net, options, method, _train(method, _init(method), 20)


def _small(searched):
    """The method of the ticket's stage, and its new state."""
    net, options, method, state = searched
    sizes = {key.removeprefix('net.'): value for key, value in method.derive('early_bird', {'search': state}).items()}
    small = _build({**dict(net), **sizes}, **options)
    return small, _init(small)


def test_the_ticket_is_the_search_without_the_masked_channels(searched):
    _, _, method, state = searched
    assert int(state.step) == 6  # any three masks are close enough
    ticket = method.drawn(state)
    drawn = np.asarray(state.memory['drawn'])[2]
    np.testing.assert_array_equal(np.concatenate([m for own in ticket.values() for m in own.values()]), drawn)
    assert drawn.sum() < drawn.size
    small, new = _small(searched)
    first = small.begin('early_bird', new, {'search': state}, batch_of(), rng=jax.random.key(1))
    assert int(first.step) == int(first.memory['began']) == 6
    masked = dict(state.params)
    for player, groups in method.groups().items():
        masked[player] = masks.mask_channels(state.params[player], groups, ticket[player])
    inputs = {'encoder': batch_of(5)['image'], 'discriminator': batch_of(5)['image']}
    for player in masked:
        x = inputs.get(player, jax.random.normal(jax.random.key(2), (4, 3)))
        wide, _ = method.trainer.apply(player, masked[player], state.batch_stats[player], x, train=False)
        narrow, _ = small.trainer.apply(player, first.params[player], first.batch_stats[player], x, train=False)
        np.testing.assert_allclose(narrow, wide, rtol=1e-5, atol=1e-5, err_msg=player)
    assert_equal(first.memory['ema'], first.params[small.trainer.DECODER])
    after = _train(small, first, 2)
    assert int(after.step) == 8
    assert int(small.summarize(after)['parameters']) < int(method.summarize(state)['parameters'])


@pytest.mark.slow
def test_controls(searched):
    net, options, _, state = searched
    small, new = _small(searched)
    first = small.begin('early_bird', new, {'search': state}, batch_of(), rng=jax.random.key(1))
    random = small.begin('early_bird_random', new, {'search': state}, batch_of(), rng=jax.random.key(1))
    assert jax.tree.map(jnp.shape, random.params) == jax.tree.map(jnp.shape, first.params)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (random.params, first.params)), strict=True))
    assert_equal(small.begin('early_bird_reinit', new, {'search': state}, batch_of(), rng=jax.random.key(1)), new)
    sparse = _build(net, stage='snip', **options)
    dense = _init(sparse)
    per_weight = sparse.flops_per_weight()

    def cost(tree, count):
        leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
        return sum(per_weight.get(masks.path_name(path), 0.0) * float(count(leaf)) for path, leaf in leaves)

    share = 6 / INFO.num_steps
    budget = share * cost(dense.params, jnp.size) + (1 - share) * cost(first.params, jnp.size)
    for criterion in ('snip', 'grasp'):
        pruned = sparse.begin(criterion, dense, {'early_bird': first}, batch_of(), rng=jax.random.key(1))
        assert 0.97 * budget <= cost(pruned.masks, jnp.sum) <= budget
        assert_equal(pruned.params, {p: masks.apply(pruned.masks[p], dense.params[p]) for p in dense.params})


def test_how_grasp_is_taken(monkeypatch):
    """Over weights alone or everything, of a batch or of its halves, each with noise of its own."""
    calls = []
    monkeypatch.setattr(
        masks, 'grasp', lambda loss, params, *, weights_only: (calls.append((loss, weights_only)), params)[1]
    )
    batch, state = batch_of(), _init(_build(stage='grasp'))
    for options in ({}, {'grasp_weights_only': False}, {'grasp_halves': True}):
        method = _build(stage='grasp', **options)
        assert set(method.sensitivity('grasp', state, batch, rng=jax.random.key(1))) == {'encoder', 'decoder'}
    (_, only), (_, everything), (losses, _) = calls
    assert (only, everything) == (True, False)
    middle, keys = len(batch['image']) // 2, jax.random.split(jax.random.key(1))
    halves = list(zip((batch['image'][:middle], batch['image'][middle:]), keys, strict=True))

    @jax.jit
    def both(params):
        expected = [method.trainer.total_loss(state, params, images=half, rng=key)[0] for half, key in halves]
        return jnp.stack([loss(params) for loss in losses]), jnp.stack(expected)

    np.testing.assert_allclose(*both(state.params), rtol=1e-6)


def test_a_search_that_draws_no_ticket_says_so():
    method = _build(stage='search', distance=1e-9)
    state = _init(method)
    with pytest.raises(ValueError, match=r'drew no early-bird ticket in 10 epochs; allowed: a larger method.distance'):
        method.derive('early_bird', {'search': state})


def test_stages():
    method = _build()
    stages = {s.name: (s.parents, method.at(s.name).phase, s.derived, s.overrides) for s in method.stages()}
    assert stages == {
        'dense': ((), '', False, {}),
        'search': ((), 'search', False, {}),
        'early_bird': (('search',), '', True, {}),
        'early_bird_random': (('search',), '', True, {}),
        'early_bird_reinit': (('search',), '', True, {}),
        'snip': (('early_bird',), 'sparse', False, {}),
        'grasp': (('early_bird',), 'sparse', False, {}),
    }
    assert [stage.key for stage in method.stages()] == list(range(1, 8))  # the published tables' numbers


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'channels': 1.0}, 'method.channels is 1.0; allowed: 0 < channels < 1'),
        ({'history': 9}, r"method.history is 9, method.rule 'paper'; allowed: 1..8, below the run's epochs"),
        ({'history': 10, 'rule': 'released'}, r"method.history is 10, method.rule 'released'; allowed: 2..9"),
        ({'rule': 'last'}, "method.rule is 'last'; allowed: paper, released, any_two"),
        ({'distance': 0.0}, 'method.distance is 0.0'),
        ({'controls': ('one_shot',)}, "method.controls has 'one_shot'; allowed: random, reinit, snip, grasp"),
        ({'phase': 'search'}, "method.phase is 'search', but there is no such key"),
        ({'net': {'name': 'mlp', 'widths': (3,)}}, "net.name is 'mlp'; allowed for early_bird: dcgan, resnet_gan"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        _build(**options)
