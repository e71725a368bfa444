"""Gates: soft overlap and its gradient by hand and by brute force, moments of the draws, what straight-through is."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import masks

PAIR = (np.float32([0.2, 0.8, 0.5]), np.float32([0.6, 0.3, 0.5]))


def _logits(kept):
    kept = np.asarray(kept, np.float64)
    return jnp.asarray(np.log(kept / (1 - kept)), jnp.float32)


@pytest.mark.parametrize(
    ('first', 'second', 'expected'),
    [
        ([0.5, 0.5], [0.5, 0.5], 1 / 3),
        ([0.3, 0.3], [0.8, 0.8], 0.3 * 0.8 / (0.3 + 0.8 - 0.3 * 0.8)),
        ([0.7, 0.7], [0.7, 0.7], 0.7 / (2 - 0.7)),  # equal soft masks do not overlap wholly
        ([1, 0, 1, 0], [0, 1, 0, 1], 1e-6 / (4 + 1e-6)),
        ([1, 1, 0, 0], [1, 0, 1, 0], 1 / 3),
        ([0.9, 0.1], [0.1, 0.9], 0.098901),
        (*PAIR, 0.61 / 2.29),
        ([0, 0], [0, 0], 1.0),
    ],
)
def test_soft_iou(first, second, expected):
    first, second = jnp.asarray(first, jnp.float32), jnp.asarray(second, jnp.float32)
    assert float(masks.soft_iou(first, second)) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_gradient_of_soft_iou():
    """(r U - I (1 - r)) / U^2, where finite differences of the definition agree; 0 from an empty mask."""
    q, r = (jnp.asarray(side) for side in PAIR)
    gradient = jax.grad(masks.soft_iou)(q, r)
    np.testing.assert_allclose(gradient, [0.215480, 0.049579, 0.160180], atol=2e-6)

    def by_hand(q):
        return (np.sum(q * PAIR[1]) + 1e-6) / (np.sum(q + PAIR[1] - q * PAIR[1]) + 1e-6)

    steps = 1e-6 * np.eye(3)
    differences = [(by_hand(PAIR[0] + step) - by_hand(PAIR[0] - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(gradient, differences, atol=2e-6)
    np.testing.assert_allclose(jax.grad(masks.soft_iou)(q, jnp.zeros(3)), 0, atol=1e-6)


def _brute_iou(first, second):
    """Of two masks, by going through their units."""
    both = sum(q * r for q, r in zip(first, second, strict=True))
    either = sum(q + r - q * r for q, r in zip(first, second, strict=True))
    return (both + 1e-6) / (either + 1e-6)


def test_overlap_is_that_of_all_pairs():
    domains, rng = 4, np.random.default_rng(4)
    kept = {'flat': rng.uniform(0.1, 0.9, (domains, 7)), 'map': rng.uniform(0.1, 0.9, (domains, 2, 3, 4))}
    logits = {layer: _logits(own) for layer, own in kept.items()}
    for layer, own in kept.items():
        pairs = [_brute_iou(own[i].ravel(), own[j].ravel()) for i, j in itertools.combinations(range(domains), 2)]
        assert float(masks.overlap(logits)[layer]) == pytest.approx(np.mean(pairs), rel=1e-5)
        assert float(masks.overlap(logits, reduction='sum')[layer]) == pytest.approx(np.sum(pairs), rel=1e-5)


def test_overlap_of_three_hard_masks():
    """Two pairs share a third of their units, one pair none: 2/9 on average."""
    on = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]])
    found = masks.overlap({'fc': jnp.where(on == 1, 200.0, -200.0)})
    assert float(found['fc']) == pytest.approx(2 / 9, abs=1e-6)


def test_one_domain_has_no_overlap():
    for reduction in masks.REDUCTIONS:
        value, gradient = jax.value_and_grad(lambda t, own=reduction: masks.overlap({'fc': t}, reduction=own)['fc'])(
            jnp.ones((1, 3))
        )
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.slow
def test_gradient_descent_of_the_overlap_alone_parts_two_masks():
    logits = {'fc': jax.random.uniform(jax.random.key(0), (2, 6))}

    def loss(t):
        return masks.overlap(t)['fc']

    def step(t, _):
        value, gradient = jax.value_and_grad(loss)(t)
        return jax.tree.map(lambda a, b: a - 2 * b, t, gradient), value

    last, values = jax.lax.scan(step, logits, None, length=400)
    assert (np.diff(values) <= 1e-7).all()
    assert values[0] > 0.3
    assert values[-1] < 0.05
    assert masks.mask_statistics(last)['fc']['iou'] == 0


def test_gates_are_zeros_and_ones_drawn_with_probability_q():
    kept, draws = np.float32([0.1, 0.5, 0.9]), 4000
    logits = {'b': jnp.broadcast_to(_logits(kept), (draws, 3)), 'a': jnp.zeros((draws, 1))}
    gates = masks.sample_gates(logits, rng=jax.random.key(0))
    assert set(np.unique(gates['b'])) == {0.0, 1.0}
    np.testing.assert_array_less(np.abs(gates['b'].mean(0) - kept), 5 * np.sqrt(kept * (1 - kept) / draws))
    # Independent over examples, units and layers.
    columns = np.concatenate([gates['b'], gates['a'], np.roll(gates['b'], 1, axis=0)], axis=1)
    correlations = np.corrcoef(columns.T) - np.eye(7)
    assert np.abs(correlations).max() < 5 / np.sqrt(draws)
    other = masks.sample_gates(logits, rng=jax.random.key(1))
    assert (other['b'] != gates['b']).any()


def test_straight_through_gradient_of_a_layer():
    """dL / dt = q (1 - q) times the sum over a domain's examples of a dL / d(m a); nothing of a domain without examples."""
    rng = np.random.default_rng(0)
    activations, weights = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    domain, logits = jnp.asarray([0, 2, 0, 2, 2]), {'fc': jnp.asarray(rng.normal(size=(3, 3)), jnp.float32)}

    def loss(logits):
        gates = masks.sample_gates(masks.of_examples(logits, domain), rng=jax.random.key(3))
        return jnp.mean((gates['fc'] * activations) @ weights)

    gradient = jax.grad(loss)(logits)['fc']
    kept = 1 / (1 + np.exp(-np.asarray(logits['fc'])))
    received = np.stack([(activations * weights)[np.asarray(domain) == d].sum(0) / 5 for d in range(3)])
    np.testing.assert_allclose(gradient, kept * (1 - kept) * received, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(gradient[1], 0)


@pytest.mark.slow
def test_straight_through_is_unbiased_of_a_linear_loss_and_biased_of_a_square():
    """L = (c m)^2 has dE[L]/dt = c^2 q (1 - q), but the mean gradient is 2 c^2 q q (1 - q): right at q = 1/2 alone."""
    draws, c = 20000, 1.5

    def mean_gradient(loss, kept):
        t = jnp.full((1,), _logits(kept))

        def total(t):
            gates = masks.sample_gates({'fc': jnp.broadcast_to(t, (draws, 1))}, rng=jax.random.key(0))['fc']
            return jnp.mean(loss(gates))

        return float(jax.grad(total)(t)[0])

    for kept in (0.2, 0.5, 0.8):
        slope = kept * (1 - kept)
        assert mean_gradient(lambda m: c * m, kept) == pytest.approx(c * slope, rel=1e-4)
        square, slack = mean_gradient(lambda m: (c * m) ** 2, kept), 5 * 2 * c**2 * slope * np.sqrt(slope / draws)
        assert abs(square - 2 * c**2 * kept * slope) < slack
        assert (abs(square - c**2 * slope) < slack) == (kept == 0.5)


def test_the_expected_output_of_a_linear_layer_is_that_of_expected_gates():
    rng, draws = np.random.default_rng(1), 4000
    weights, activations, kept = rng.normal(size=4), rng.normal(size=4), rng.uniform(0.1, 0.9, 4)
    logits = {'fc': jnp.broadcast_to(_logits(kept), (draws, 4))}
    outputs = (np.asarray(masks.sample_gates(logits, rng=jax.random.key(2))['fc']) * activations) @ weights
    expected = (np.asarray(masks.expected_gates(logits)['fc'][0]) * activations) @ weights
    variance = np.sum(weights**2 * activations**2 * kept * (1 - kept))
    assert abs(outputs.mean() - expected) < 5 * np.sqrt(variance / draws)
    assert outputs.var() == pytest.approx(variance, rel=0.1)


def test_hard_gates_are_strict_and_all_on_at_the_start():
    np.testing.assert_array_equal(masks.hard_gates({'fc': jnp.asarray([[-1.0, 0.0, 1e-3]])})['fc'], [[0, 0, 1]])
    start = jax.random.uniform(jax.random.key(0), (4, 500), minval=1e-6)
    assert masks.hard_gates({'fc': start})['fc'].min() == 1
    assert float(masks.expected_gates({'fc': start})['fc'].mean()) == pytest.approx(np.log((1 + np.e) / 2), abs=0.005)


@pytest.mark.slow
def test_gates_of_sure_logits_are_ones_in_every_mode():
    sure = {'fc': jnp.full((2, 3), 200.0)}
    for gates in (masks.sample_gates(sure, rng=jax.random.key(0)), masks.expected_gates(sure), masks.hard_gates(sure)):
        np.testing.assert_array_equal(gates['fc'], 1)


def test_statistics_by_hand():
    #        on in:    3  2  1  0     an empty mask
    on = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
    found = masks.mask_statistics({'fc': jnp.where(on == 1, 0.1, -0.1), 'off': jnp.asarray([[1.0], [-1.0], [-2.0]])})
    expected = {'on': 0.5, 'specific': 0.5, 'exclusive': 0.25, 'empty': 0, 'iou': (2 / 3 + 1 / 3 + 1 / 2) / 3}
    expected |= {f'units_of_{n}': 0.25 for n in range(4)}
    assert found['fc'] == pytest.approx(expected)
    assert found['off'] == pytest.approx(
        {'on': 1 / 3, 'specific': 1, 'exclusive': 1, 'empty': 2, 'iou': 1 / 3, **_units(4, {1: 1.0})}
    )
    alone = masks.mask_statistics({'fc': jnp.asarray([[1.0, -1.0]])})['fc']
    assert alone == pytest.approx({'on': 0.5, 'specific': 0, 'exclusive': 0, 'empty': 0, **_units(2, {0: 0.5, 1: 0.5})})


def _units(count, shares):
    return {f'units_of_{n}': shares.get(n, 0.0) for n in range(count)}


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: masks.overlap({}), r'logits is \{\}; allowed: a dict'),
        (lambda: masks.overlap({'a': jnp.ones((2, 3)), 'b': jnp.ones((3, 3))}), 'at least one unit of each of 2 domains'),
        (lambda: masks.overlap({'a': jnp.ones((2, 0))}), 'at least one unit'),
        (lambda: masks.overlap({'a': jnp.ones(2)}), r'the shape of logits of a is \(2,\); allowed: \[p, \*units\]'),
        (lambda: masks.hard_gates({'a': jnp.ones((2, 3), int)}), 'the dtype of logits of a is int32'),
        (lambda: masks.overlap({'a': jnp.ones((2, 3))}, reduction='max'), "reduction is 'max'; allowed: mean, sum"),
        (lambda: masks.of_examples({'a': jnp.ones((2, 3))}, jnp.asarray([0, 2])), 'domain has the value 2; allowed: 0..1'),
        (lambda: masks.of_examples({'a': jnp.ones((2, 3))}, jnp.ones(2)), 'the dtype of domain is float32'),
        (lambda: masks.sample_gates({'a': jnp.ones((2, 3))}, rng=3), 'rng is 3; allowed: one key'),
        (lambda: masks.soft_iou(jnp.ones(3), jnp.ones(2)), r'the shape of second is \(2,\)'),
    ],
)
def test_mistakes_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert '\n' not in str(caught.value)
