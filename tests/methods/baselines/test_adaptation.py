"""Domain adaptation on two Gaussians whose answer is known, and what each method's step must and must not touch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gjax import losses
from gjax.evaluators import Means
from gjax.evaluators.domains import Selection, selected
from gjax.methods.core.adaptation import C, F
from tests.adaptation import NormalisedLayers, ToyNet, accuracy, assert_close, descended, toy_domains, toy_method, trained
from tests.states import assert_equal

# What each takes on the toy; the others' defaults do.
OPTIONS = {
    'dann': {'weight': 1.0},
    'dan': {'weight': 1.0},
    'coral': {'weight': 10.0, 'layer': 'embedding'},
    'mcd': {},
    'adda': {'adaptation_rate': 1.0},
    'generate_to_adapt': {'class_weight': 0.1, 'domain_weight': 1.0},
}


def _gap(method, state, domains) -> float:
    """The distance between the domains' mean embeddings, in standard deviations of the source's."""
    source, target = (np.asarray(method.features(state, domains[d]['image'])) for d in ('source', 'target'))
    return float(np.linalg.norm(source.mean(0) - target.mean(0)) / source.std(0).max())


# GTA's game is won on most seeds, not on all: + 20 points with a standard deviation of 20, the gap at 0.8 with one of 0.4
# (48 seeds). Three would be a lottery.
@pytest.mark.parametrize(
    ('name', 'steps', 'seeds', 'gap'),
    [
        ('dann', 600, 3, 0.7),
        pytest.param('dan', 400, 3, 0.7, marks=pytest.mark.slow),
        pytest.param('generate_to_adapt', 800, 32, 1.0, marks=pytest.mark.slow),
    ],
)
def test_shifted_gaussians_are_aligned(name, steps, seeds, gap):
    """The shift is along a direction that the source's classes do not need: the target's errors go, and so does the gap."""
    won, closer = [], []
    baseline, method = toy_method('source_only', steps=steps), toy_method(name, steps=steps, **OPTIONS[name])
    for seed in range(seeds):
        domains = toy_domains(seed)
        states = [trained(m, domains, steps, seed)[0] for m in (baseline, method)]
        won.append(accuracy(method, states[1], domains['target']) - accuracy(baseline, states[0], domains['target']))
        closer.append(_gap(method, states[1], domains) / _gap(baseline, states[0], domains))
        assert accuracy(method, states[1], domains['source']) > 0.95
    assert np.mean(won) > 0.1
    assert np.mean(closer) < gap


def test_coral_matches_covariances():
    """Of a target that is stretched about the same centre; means are not its business."""
    distances, _ = _by_coral(toy_domains(0, shift=(0.0, 0.0), stretch=2.0))
    assert distances['coral'] < 0.2 * distances['source_only']


def test_coral_drops_what_only_the_source_correlates():
    """In the target the better coordinate has the same mean and knows nothing of the class, which only covariances show."""
    won = []
    for seed in range(3):
        domains = toy_domains(seed, shift=(0.0, 0.0), stretch=2.0, unrelated=True)
        distances, right = _by_coral(domains, seed)
        assert distances['coral'] < 0.1 * distances['source_only']
        won.append(right['coral'] - right['source_only'])
    assert np.mean(won) > 0.1


def _by_coral(domains, seed=0):
    """The distance of the embeddings' covariances and the accuracy on the target, without CORAL and with it."""
    distances, right = {}, {}
    for name, options in (('source_only', {}), ('coral', OPTIONS['coral'])):
        method = toy_method(name, steps=400, **options)
        state, _ = trained(method, domains, 400, seed)
        embeddings = [method.features(state, domains[d]['image']) for d in ('source', 'target')]
        distances[name] = float(losses.coral(*embeddings) / jnp.var(embeddings[0]) ** 2)
        right[name] = accuracy(method, state, domains['target'])
        assert accuracy(method, state, domains['source']) > 0.95
    return distances, right


def test_target_labels_are_the_upper_bound():
    domains = toy_domains(0)
    method = toy_method('target_only')
    state, _ = trained(method, domains, 300)
    assert accuracy(method, state, domains['target']) > 0.99


@pytest.mark.parametrize(
    'name', ['source_only', 'dann', *(pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS if name != 'dann')]
)
def test_a_step_without_target_labels(name):
    """Every player moves in time, everything stays finite, and the accuracy on the source is that of a classifier."""
    domains = toy_domains(1, 64)
    method = toy_method(name, steps=100, **OPTIONS.get(name, {}))
    before = method.init(jax.random.key(0), domains['source'])
    state, metrics = trained(method, domains, 100)
    assert state.step == 100
    for player in before.params:
        moved = [
            np.abs(a - b).max()
            for a, b in zip(*map(jax.tree.leaves, (before.params[player], state.params[player])), strict=True)
        ]
        assert max(moved) > 0
        assert {f'{kind}/{player}' for kind in ('loss', 'grad_norm', 'update_norm')} <= metrics.keys()
    assert all(np.isfinite(value).all() for value in metrics.values())
    assert accuracy(method, state, domains['source']) > 0.9


def test_dann_turns_the_embeddings_gradient_around():
    """With SGD: F moves by the gradient of CE - lambda BCE, D by that of BCE, both at the old parameters."""
    domains, rate, weight = toy_domains(2, 32), 0.1, 0.7
    method = toy_method('dann', optimizer='sgd', learning_rate=rate, weight=weight, steepness=0.0)
    state = method.init(jax.random.key(0), domains['source'])
    after, _ = method.step(state, domains)
    modules = method.modules()

    def parts(f, c, d):
        embeddings = [modules[F].apply({'params': f}, domains[k]['image']) for k in ('source', 'target')]
        logs = jax.nn.log_softmax(modules[C].apply({'params': c}, embeddings[0]))
        logits = [modules['domain'].apply({'params': d}, x) for x in embeddings]
        classified = -jnp.mean(jnp.take_along_axis(logs, domains['source']['label'][:, None], 1))
        return classified, -jnp.mean(jax.nn.log_sigmoid(logits[0])) - jnp.mean(jax.nn.log_sigmoid(-logits[1]))

    f, c, d = (state.params[player] for player in (F, C, 'domain'))
    gradients = {
        F: jax.grad(lambda f: parts(f, c, d)[0] - weight * parts(f, c, d)[1])(f),
        C: jax.grad(lambda c: parts(f, c, d)[0])(c),
        'domain': jax.grad(lambda d: parts(f, c, d)[1])(d),
    }
    for player, gradient in gradients.items():
        assert_close(after.params[player], jax.tree.map(lambda p, g: p - rate * g, state.params[player], gradient), player)


def test_adda_keeps_the_source_as_it_was():
    """First phase: source only. Second: C and F_s stay, D and F_t move."""
    domains = toy_domains(3, 32)
    method, baseline = toy_method('adda', steps=20), toy_method('source_only', steps=20)
    first, _ = trained(method, domains, 10)
    for player in (F, C):
        found, expected = (jax.tree.leaves(s.params[player]) for s in (first, trained(baseline, domains, 10)[0]))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    last, _ = trained(method, domains, 20)
    assert_equal(last.params[C], first.params[C])
    assert_equal(last.memory['source_embedding'][0], first.params[F])
    assert np.abs(jax.tree.leaves(last.params[F])[0] - jax.tree.leaves(first.params[F])[0]).max() > 0
    optimizer, params, rates = method.optimizer_of(F), {'w': jnp.ones(())}, []
    opt_state = optimizer.init(params)
    with jax.numpy_dtype_promotion('standard'):  # as in update_player
        for _ in range(11):
            updates, opt_state = optimizer.update(params, opt_state, params)
            rates.append(-updates['w'])
    np.testing.assert_allclose(rates[9:], [0.02 / 1.09, 0.2 * 0.02 / 1.10], rtol=1e-3)


def test_adda_plays_on_embeddings():
    """A step of the second phase with SGD: D learns that source is 1 and target 0, F_t that the new D says 1."""
    domains, rate = toy_domains(3, 32), 0.1
    method = toy_method('adda', optimizer='sgd', learning_rate=rate, steps=2, adaptation_rate=0.5)
    (first, early), (second, late) = (trained(method, domains, count) for count in (1, 2))
    states = [first, second]
    assert (early['phase'], late['phase']) == (1, 2)
    rate /= 1.01  # of the second step
    modules, (f, d) = method.modules(), (states[0].params[player] for player in (F, 'domain'))

    def says_source(d, f, domain):
        embeddings = modules[F].apply({'params': f}, domains[domain]['image'])
        return modules['domain'].apply({'params': d}, embeddings)

    def told_apart(d):
        source, target = says_source(d, f, 'source'), says_source(d, f, 'target')
        return -jnp.mean(jax.nn.log_sigmoid(source)) - jnp.mean(jax.nn.log_sigmoid(-target))

    new = descended(told_apart, d, 0.1)  # D's first update
    assert_close(states[1].params['domain'], new)
    fooling = descended(lambda f: -jnp.mean(jax.nn.log_sigmoid(says_source(new, f, 'target'))), f, 0.5 * rate)
    assert_close(states[1].params[F], fooling)


def test_mcds_step_is_its_three_steps():
    """With SGD: A on the source; B raises the classifiers' difference on the target; C lowers it, twice."""
    domains, rate = toy_domains(4, 32), 0.1
    method = toy_method('mcd', optimizer='sgd', learning_rate=rate, generator_steps=2)
    state = method.init(jax.random.key(0), domains['source'])
    after, _ = jax.jit(method.step)(state, domains)
    modules, second = method.modules(), 'second_classifier'
    labels = domains['source']['label']

    def outputs(params, domain):
        embeddings = modules[F].apply({'params': params[F]}, domains[domain]['image'])
        return [modules[C].apply({'params': params[player]}, embeddings) for player in (C, second)]

    def classified(params):
        logs = [jax.nn.log_softmax(logits) for logits in outputs(params, 'source')]
        return -sum(jnp.mean(jnp.take_along_axis(log, labels[:, None], 1)) for log in logs)

    def difference(params):
        first, other = (jax.nn.softmax(logits) for logits in outputs(params, 'target'))
        return jnp.mean(jnp.abs(first - other))

    def update(params, loss, players):
        new = descended(loss, params, rate)
        return {player: new[player] if player in players else params[player] for player in params}

    expected = update(state.params, classified, (F, C, second))
    expected = update(expected, lambda params: classified(params) - difference(params), (C, second))
    for _ in range(2):
        expected = update(expected, difference, (F,))
    assert_close(after.params, expected)


def test_mcds_updates_have_the_rate_of_their_step():
    domains = toy_domains(4, 32)
    method = toy_method('mcd', steps=3)
    state, _ = trained(method, domains, 3)
    for player, own in state.opt_state.items():
        counts = optax.tree_utils.tree_get_all_with_path(own, 'count')
        schedules = [
            count for path, count in counts if 'ScaleByScheduleState' in str([getattr(k, 'tuple_name', '') for k in path])
        ]
        assert schedules == [3], player


@pytest.mark.parametrize(('name', 'layers'), [('dan', ('embedding', 'logits')), ('coral', ('logits',))])
def test_layers_that_are_aligned(name, layers):
    """A step with SGD descends the classification loss and the distance of these layers of source and target."""
    domains, rate, weight = toy_domains(5, 32), 0.1, 0.7
    method = toy_method(name, optimizer='sgd', learning_rate=rate, weight=weight)
    state = method.init(jax.random.key(0), domains['source'])
    after, _ = jax.jit(method.step)(state, domains)
    modules, distance = method.modules(), {'dan': losses.multi_kernel_mmd, 'coral': losses.coral}[name]

    def loss(params):
        found = {'embedding': [modules[F].apply({'params': params[F]}, domains[k]['image']) for k in ('source', 'target')]}
        found['logits'] = [modules[C].apply({'params': params[C]}, x) for x in found['embedding']]
        logs = jax.nn.log_softmax(found['logits'][0])
        classified = -jnp.mean(jnp.take_along_axis(logs, domains['source']['label'][:, None], 1))
        return classified + weight * sum(distance(*found[layer]) for layer in layers)

    assert_close(after.params, descended(loss, state.params, rate))


@pytest.mark.parametrize('name', ['source_only', 'mcd'])
def test_an_average_of_all_that_classify(name):
    domains = toy_domains(5, 32)
    method = toy_method(name, ema=0.5)
    states = [trained(method, domains, steps)[0] for steps in (1, 2)]
    start = method.init(jax.random.key(0), domains['source']).params
    expected = start
    for state in states:
        expected = jax.tree.map(lambda old, new: 0.5 * old + 0.5 * new, expected, state.params)
    assert set(states[1].memory['ema']) == ({F, C, 'second_classifier'} if name == 'mcd' else {F, C})
    for player, average in states[1].memory['ema'].items():
        assert_close(average, expected[player])
    averaged = states[1].replace(params=expected)
    plain = toy_method(name)
    images = domains['target']['image']
    np.testing.assert_allclose(method.logits(states[1], images), plain.logits(averaged, images), atol=1e-5)


def test_accuracy_by_class():
    method, domains = toy_method('source_only'), toy_domains(6, 40)
    state = method.init(jax.random.key(0), domains['source'])
    (means,) = [e for e in method.evaluators() if isinstance(e, Means)]
    found = means.function(state, domains['target'], rng=jax.random.key(0))
    own = {name: np.asarray(value).mean(axis=0).tolist() for name, value in found.items()}
    other = {'class_right': [0, 0], 'class_count': [0.5, 0.5], 'accuracy': 0.0}
    concluded = means.across({'source': other, 'target': own})
    assert means.conclude(own).keys() == {'accuracy', 'loss'}
    right = np.asarray(found['accuracy']) == 1
    labels = np.asarray(domains['target']['label'])
    for k in range(2):
        np.testing.assert_allclose(concluded[f'target_class_{k}_accuracy'], right[labels == k].mean(), atol=1e-6)
    np.testing.assert_allclose(concluded['target_mean_class_accuracy'], right.mean(), atol=1e-6)  # as many of each
    assert not any('class_right' in name for name in concluded)


def test_selections():
    """The last of the best evaluations by the source, and by an oracle that knows the target's labels."""
    pairs = [(0.5, 0.3), (0.9, 0.4), (0.8, 0.7), (0.9, 0.6)]
    lines = [{'step': i, 'test/source_accuracy': s, 'test/target_accuracy': t} for i, (s, t) in enumerate(pairs)]
    (selection,) = [e for e in toy_method('source_only').evaluators() if isinstance(e, Selection)]
    found = selected([{'step': 0, 'loss/classifier': 1.0}, *lines], selection.metric, selection.by)
    assert found == {'target_accuracy_selected_by_source': 0.6, 'target_accuracy_oracle': 0.7}
    held_out = [line | {'validation/source_accuracy': -line['test/source_accuracy']} for line in lines]
    found = selected(held_out, selection.metric, selection.by)
    assert found == {'target_accuracy_selected_by_source': 0.3, 'target_accuracy_oracle': 0.7}
    assert selected([], selection.metric, selection.by) == {}


@dataclasses.dataclass(frozen=True)
class _Normalised(ToyNet):
    """Whose embedding ends with batch normalisation."""

    def embedding(self):
        return NormalisedLayers()


def test_every_domain_has_its_own_statistics():
    """Each is evaluated with those of its own batches; 'shared' ones lie between."""
    domains = toy_domains(4, 64, shift=(0.4, 0.0))
    found = {}
    for statistics in ('shared', 'own'):
        method = toy_method('dann', net=_Normalised(), statistics=statistics)
        state, _ = trained(method, domains, 100)
        means = {d: np.asarray(method.running(state.batch_stats, F, d)['BatchNorm_0']['mean']) for d in ('source', 'target')}
        found[statistics] = means
        for d in domains:
            norm = jax.tree.map(np.asarray, state.params[F]['BatchNorm_0'])
            features = (np.asarray(method.features(state, domains[d]['image'], d)) - norm['bias']) / norm['scale']
            assert bool((np.abs(np.mean(features, axis=0)) < 0.2).all()) == (statistics == 'own')
    assert np.abs(found['own']['source'] - found['own']['target']).max() > 0.3
    np.testing.assert_array_equal(found['shared']['source'], found['shared']['target'])


def test_adabn_is_source_only_but_for_the_targets_statistics():
    domains = toy_domains(4, 64, shift=(0.4, 0.3))
    methods = {name: toy_method(name, net=_Normalised()) for name in ('source_only', 'adabn')}
    states = {name: trained(method, domains, 100)[0] for name, method in methods.items()}
    assert_equal(states['adabn'].params, states['source_only'].params)
    assert_equal(states['adabn'].batch_stats[F]['source'], states['source_only'].batch_stats[F])
    right = {name: accuracy(method, states[name], domains['target']) for name, method in methods.items()}
    assert right['adabn'] > right['source_only'] + 0.1
    with pytest.raises(ValueError, match="allowed for adabn: 'own', which is the method"):
        toy_method('adabn', net=_Normalised(), statistics='shared')
    with pytest.raises(ValueError, match='the network of adabn has no batch normalisation'):
        toy_method('adabn').fits()
