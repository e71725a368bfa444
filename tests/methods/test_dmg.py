"""Domain-specific masks: the loss by hand, both optimisers, inference, controls, and what is measured of masks."""

import dataclasses
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import masks, methods
from gjax.losses import cross_entropy
from gjax.methods.core.contract import DataInfo
from gjax.methods.core.generalization import PLAYER
from gjax.methods.dmg import MASKS
from gjax.nets.gates import Gate
from gjax.nets.masked_cnn import MaskedCNN
from gjax.train.store.checkpoint import to_arrays

SOURCES = ('a', 'b', 'c')
INFO = DataInfo(3, 24, 2, 20, (2, 2, 1), domains=SOURCES, unseen=('d',))
RNG = np.random.default_rng(0)
BATCH = {
    'image': jnp.asarray(RNG.uniform(size=(6, 2, 2, 1)), jnp.float32),
    'label': jnp.asarray([0, 1, 2, 0, 1, 2], jnp.int32),
    'domain': jnp.asarray([0, 0, 1, 1, 0, 1], jnp.int32),  # none of the third
    'index': jnp.arange(6, dtype=jnp.int32),
}
KEY = jax.random.key(5)


class Toy(nn.Module):
    """Three dense layers, gates before the last two: a network that compiles quickly."""

    num_classes: int
    widths: tuple = (4, 5)

    @nn.compact
    def __call__(self, images, *, train: bool, gates=None):
        x = nn.tanh(nn.Dense(self.widths[0], name='first')(images.reshape(len(images), -1)))
        x = nn.tanh(nn.Dense(self.widths[1], name='second')(Gate(name='hidden')(x, gates)))
        return nn.Dense(self.num_classes, name='last')(Gate(name='fc')(x, gates))


def build(name='dmg', info=INFO, optimizer=None, evaluation=None, **options):
    """A method on `Toy`."""
    config = {
        'method': {'name': name} | options,
        'net': {'name': 'masked_cnn'},
        'optimizer': {'learning_rate': 0.1, 'momentum': 0.0} | (optimizer or {}),
        'evaluation': evaluation or {},
    }
    return dataclasses.replace(methods.build(config, info), net=Toy(info.num_classes))


def _init(method):
    return jax.jit(method.init)(jax.random.key(0), BATCH)


@pytest.fixture(scope='module')
def first():
    return _init(build())


def _with_masks(state, logits):
    return state.replace(params={**state.params, MASKS: logits})


def test_masks_begin_as_the_released_ones(first):
    """Uniform in [0, 1), independent of each other; of layers' channels, or of all of their elements."""
    shapes = {layer: own.shape for layer, own in first.params[MASKS].items()}
    assert shapes == {'hidden': (3, 4), 'fc': (3, 5)}
    every = np.concatenate([own.ravel() for own in first.params[MASKS].values()])
    assert 0 <= every.min() < 0.3 < 0.7 < every.max() < 1
    assert len(set(every.tolist())) == len(every)
    cnn = dataclasses.replace(build(mode='element'), net=MaskedCNN(3, (4, 5)))
    elements = jax.eval_shape(lambda rng: cnn.first_masks((8, 8, 1), rng=rng), KEY)
    assert {layer: own.shape for layer, own in elements.items()} == {'conv2': (3, 4, 4, 4), 'fc': (3, 5)}
    constant = _init(build(mask_start=(0.5, 0.5))).params[MASKS]
    np.testing.assert_array_equal(np.unique(np.concatenate([own.ravel() for own in constant.values()])), 0.5)


@pytest.mark.parametrize('reduction', ['mean', pytest.param('sum', marks=pytest.mark.slow)])
def test_the_loss_by_hand(first, reduction):
    """Cross-entropy under the masks that the step draws, 0.3 times the overlap and 0.01 times the masks' mass."""
    method = build(overlap_weight=0.3, sparsity_weight=0.01, overlap=reduction)
    metrics = jax.jit(method.step)(first, BATCH)[1]
    logits = first.params[MASKS]
    gates = masks.sample_gates(masks.of_examples(logits, BATCH['domain']), rng=first.step_rng())
    params, stats = first.params[PLAYER], first.batch_stats[PLAYER]
    outputs, _ = method.apply(PLAYER, params, stats, BATCH['image'], gates=gates, train=True)
    expected = float(cross_entropy(outputs, BATCH['label']).mean())
    assert float(metrics['classification']) == pytest.approx(expected, rel=1e-5)
    kept = {layer: 1 / (1 + np.exp(-np.asarray(own))) for layer, own in logits.items()}
    overlap = 0.0
    for own in kept.values():
        pairs = [np.sum(q * r) / np.sum(q + r - q * r) for q, r in itertools.combinations(own, 2)]
        overlap += np.mean(pairs) if reduction == 'mean' else np.sum(pairs)
    expected += 0.3 * overlap + 0.01 * sum(q.sum() for q in kept.values())
    for player in (PLAYER, MASKS):
        assert float(metrics[f'loss/{player}']) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_domain_without_examples_is_moved_by_the_overlap_alone(first):
    moved = {}
    for weight in (0.0, 0.1):
        after = jax.jit(build(overlap_weight=weight).step)(first, BATCH)[0].params[MASKS]
        moved[weight] = {layer: np.abs(own - first.params[MASKS][layer]).max(axis=1) for layer, own in after.items()}
    for layer, own in moved[0.0].items():
        assert own[2] == 0
        assert (own[:2] > 0).all()
        assert moved[0.1][layer][2] > 0


def test_masks_have_an_optimiser_of_their_own(first):
    """As released on PACS the network's rate decays and the masks' does not; on DomainNet both do."""
    decaying = {'schedule': 'exponential', 'factor': 0.5}
    info = dataclasses.replace(INFO, steps_per_epoch=1)

    def rates(player, **options):
        optimizer = build(info=info, optimizer=decaying, **options).optimizer_of(player)
        state, found = optimizer.init(jnp.zeros(())), []
        for _ in range(3):
            update, state = optimizer.update(jnp.ones(()), state, jnp.full((), 2.0))
            found.append(-float(update))
        return found

    assert rates(PLAYER) == pytest.approx([0.1, 0.05, 0.025])
    assert rates(MASKS) == pytest.approx([0.1] * 3)
    assert rates(MASKS, mask_schedule='network') == pytest.approx([0.1, 0.05, 0.025])
    assert rates(MASKS, mask_learning_rate=3.0) == pytest.approx([3.0] * 3)
    assert rates(MASKS, mask_weight_decay=0.5) == pytest.approx([0.2] * 3)
    assert rates(PLAYER, mask_weight_decay=0.5) == pytest.approx([0.1, 0.05, 0.025])


@pytest.mark.slow
def test_adam_moves_a_mask_by_its_rate(first):
    """The sheet's warning: in a step by 1e-4, so that hard masks stay all on for thousands of steps."""
    method = build(optimizer={'name': 'adam', 'learning_rate': 1e-4})
    state = _init(method)
    state, _ = jax.jit(method.step)(state, BATCH)
    found = jax.jit(method.summarize)(state)
    assert 0.5e-4 < float(found['mask_movement']) < 1.05e-4
    assert float(found['mask_on']) == 1
    assert float(found['mask_iou']) == 1
    assert float(found['domain_specific_units']) == 0


SLOW = [pytest.param(mode, marks=pytest.mark.slow) for mode in ('softscale', 'sample', 'average')]


@pytest.mark.parametrize('inference', ['greedy', *SLOW])
def test_masks_of_ones_are_the_aggregate_in_every_mode(inference):
    evaluation = {'unseen': inference} | ({} if inference == 'average' else {'in_domain': inference})
    method, aggregate = build(fixed_masks='ones', evaluation=evaluation), build('aggregate')
    state = _init(method)
    own = {key: {PLAYER: getattr(state, key)[PLAYER]} for key in ('params', 'batch_stats', 'opt_state', 'masks')}
    plain = state.replace(**own, memory={})
    expected = aggregate.own_logits(plain, BATCH, rng=KEY)
    np.testing.assert_allclose(method.own_logits(state, BATCH, rng=KEY), expected, rtol=1e-6, atol=1e-7)
    found, every = method.unseen_logits(state, BATCH['image'], rng=KEY)
    for logits in (found, *every):
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    if inference == 'greedy':  # and so do its steps
        after, new = (jax.jit(m.step)(s, BATCH)[0] for m, s in ((method, state), (aggregate, plain)))
        for name, value in to_arrays(new.params[PLAYER]).items():
            np.testing.assert_allclose(to_arrays(after.params[PLAYER])[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_fresh_model_judged_greedily_is_the_unmasked_network(first):
    method, state = build(), first
    expected, _ = method.apply(PLAYER, state.params[PLAYER], state.batch_stats[PLAYER], BATCH['image'], train=False)
    np.testing.assert_allclose(method.own_logits(state, BATCH, rng=KEY), expected, rtol=1e-6)


def test_inference_by_hand(first):
    """Of sources, whose masks differ: 1[q > 1/2] or q of the own domain; of unseen images the mean over sources."""
    shape = {layer: own.shape for layer, own in first.params[MASKS].items()}
    state = _with_masks(first, {layer: jnp.asarray(RNG.normal(size=own), jnp.float32) for layer, own in shape.items()})
    params, stats, images = state.params[PLAYER], state.batch_stats[PLAYER], BATCH['image']

    def under(gate, number):
        own = {layer: gate(np.asarray(t[number])) for layer, t in state.params[MASKS].items()}
        gates = {layer: jnp.broadcast_to(m.astype(np.float32), (6, *m.shape)) for layer, m in own.items()}
        return build().apply(PLAYER, params, stats, images, gates=gates, train=False)[0]

    def soft(t):
        return 1 / (1 + np.exp(-t))

    def hard(t):
        return soft(t) > 0.5

    for inference, gate in (('greedy', hard), ('softscale', soft)):
        method = build(evaluation={'in_domain': inference, 'unseen': inference})
        by_hand = np.stack([under(gate, number) for number in range(3)])
        own = method.own_logits(state, BATCH, rng=KEY)
        np.testing.assert_allclose(own, by_hand[BATCH['domain'], np.arange(6)], rtol=1e-5, atol=1e-6)
        found, every = method.unseen_logits(state, images, rng=KEY)
        np.testing.assert_allclose(every, by_hand, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found, by_hand.mean(axis=0), rtol=1e-5, atol=1e-6)
    mean = {
        layer: jnp.broadcast_to(jax.nn.sigmoid(t).mean(0), (6, *t.shape[1:])) for layer, t in state.params[MASKS].items()
    }
    average = build(evaluation={'unseen': 'average'}).unseen_logits(state, images, rng=KEY)[0]
    np.testing.assert_allclose(
        average, build().apply(PLAYER, params, stats, images, gates=mean, train=False)[0], rtol=1e-5, atol=1e-6
    )
    sampled = build(evaluation={'unseen': 'sample'})
    draws = [sampled.unseen_logits(state, images, rng=jax.random.key(k))[1] for k in range(2)]
    assert np.abs(draws[0] - draws[1]).max() > 0


@pytest.mark.slow
def test_equal_masks_judge_as_one(first):
    same = {layer: jnp.broadcast_to(own[:1], own.shape) for layer, own in first.params[MASKS].items()}
    state = _with_masks(first, same)
    for unseen in ('softscale', 'average'):
        method = build(evaluation={'unseen': unseen})
        found, every = method.unseen_logits(state, BATCH['image'], rng=KEY)
        np.testing.assert_allclose(found, every[1], rtol=1e-5, atol=1e-6)


def test_masks_of_start_are_those_of_a_run_that_learns_them(first):
    for layer, own in _init(build(fixed_masks='start')).params[MASKS].items():
        np.testing.assert_array_equal(own, first.params[MASKS][layer])


def test_random_masks_stay_as_they_are():
    """On for a share of the units; steps teach the network alone, also under weight decay and the overlap."""
    method = build(fixed_masks='random', fixed_share=0.7, mask_weight_decay=0.1)
    drawn = method.first_masks((2, 2, 1), rng=jax.random.key(1))
    assert set(np.unique(drawn['fc'])) == {-200.0, 200.0}
    state = _init(method)
    after, metrics = jax.jit(method.step)(state, BATCH)
    for layer, own in after.params[MASKS].items():
        np.testing.assert_array_equal(own, state.params[MASKS][layer])
    assert float(metrics['update_norm/masks']) == 0
    assert float(metrics[f'update_norm/{PLAYER}']) > 0
    many = dataclasses.replace(method, net=method.net.clone(widths=(4, 3000))).first_masks((2, 2, 1), rng=KEY)['fc']
    assert np.mean(many > 0) == pytest.approx(0.7, abs=5 * np.sqrt(0.7 * 0.3 / many.size))


def test_one_source_has_no_overlap_and_no_wrong_mask():
    method = build(info=dataclasses.replace(INFO, domains=('source',)))
    state = _init(method)
    batch = {**BATCH, 'domain': jnp.zeros(6, jnp.int32)}
    state, metrics = jax.jit(method.step)(state, batch)
    assert float(metrics['overlap']) == 0
    assert all(np.isfinite(value) for value in metrics.values())
    assert 'mask_iou' not in jax.eval_shape(method.summarize, state)
    assert len(method.evaluators()) == len(build().evaluators()) - 1


def test_summary_by_hand(first):
    """Units count alike over layers of 4 and 5; 'mask_iou' is the mean of the layers' means."""
    on = {
        'hidden': np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0]]),
        'fc': np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]]),
    }
    logits = {layer: jnp.where(own == 1, 0.5, -0.5) for layer, own in on.items()}
    memory = {'first_masks': {layer: own - 0.25 for layer, own in logits.items()}}
    found = jax.jit(build().summarize)(_with_masks(first, logits).replace(memory=memory))
    expected = {
        'mask_on': (5 + 9) / 27,
        'mask_on_fc': 9 / 15,
        'domain_specific_units': (2 + 5) / 9,
        'domain_specific_units_hidden': 2 / 4,
        'exclusive_units': (2 + 1) / 9,
        'empty_masks': 1,
        'mask_iou_hidden': (1 / 3 + 1 / 2 + 1 / 2) / 3,
        'mask_iou_fc': (4 / 5 + 0 + 0) / 3,
        'mask_iou': (4 / 9 + 4 / 15) / 2,
        'mask_movement': 0.25,
        'mask_movement_fc': 0.25,
    }
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected)


def test_files_hold_the_masks(first):
    files = build().files(first)
    np.testing.assert_array_equal(files['masks.npz']['fc'], first.params[MASKS]['fc'])
    np.testing.assert_array_equal(files['first_masks.npz']['fc'], first.params[MASKS]['fc'])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'overlap_weight': -1.0}, 'method.overlap_weight is -1.0; allowed: >= 0'),
        ({'overlap': 'max'}, "method.overlap is 'max'; allowed: mean, sum"),
        ({'mode': 'pixel'}, "method.mode is 'pixel'; allowed: channel, element"),
        ({'mask_schedule': 'x'}, "method.mask_schedule is 'x'; allowed: constant, network"),
        ({'mask_start': (1.0, 0.0)}, r'method.mask_start is \(1.0, 0.0\); allowed: \(low, high\)'),
        ({'fixed_masks': 'x'}, "method.fixed_masks is 'x'; allowed: , start, random, ones"),
        ({'fixed_share': 0.0}, 'method.fixed_share is 0.0; allowed: 0 < share <= 1'),
        ({'evaluation': {'in_domain': 'average'}}, "evaluation.in_domain is 'average'; allowed: greedy"),
        ({'evaluation': {'unseen': 'x'}}, "evaluation.unseen is 'x'; allowed: greedy, softscale, sample, average"),
        ({'evaluation': {'combine': 'x'}}, "evaluation.combine is 'x'; allowed: logits, probabilities"),
        ({'info': dataclasses.replace(INFO, num_classes=1)}, 'the number of classes of data.sources is 1'),
    ],
)
def test_mistakes_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(**options)
    assert '\n' not in str(caught.value)
