"""What is pruned: exact counts, nested masks, closed forms of the scores, properties over random trees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gjax import masks

PARAMS = {
    'first': {'kernel': jnp.arange(1.0, 7.0).reshape(2, 3), 'bias': jnp.ones(3)},
    'last': {'kernel': -jnp.arange(7.0, 11.0).reshape(2, 2), 'scale': jnp.ones(2)},
}


def _trees():
    """Random (masks, scores) of one or two layers; scores with ties, masks partly pruned already."""

    @st.composite
    def draw(draw):
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        shapes = draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=3))
        masks, scores = {}, {}
        for i, shape in enumerate(shapes):
            masks[f'l{i}'] = {'kernel': rng.random(shape) < draw(st.floats(0, 1)), 'bias': None}
            scores[f'l{i}'] = {'kernel': rng.integers(0, 4, shape).astype(np.float32), 'bias': np.ones(2, np.float32)}
        return masks, scores

    return draw()


def test_dense_masks_cover_kernels_only():
    full = masks.dense(PARAMS)
    assert full['first']['bias'] is None
    assert full['last']['scale'] is None
    assert masks.count(full) == (10, 10)
    protected = masks.dense(PARAMS, protected=('first',))
    assert protected['first']['kernel'] is None
    with pytest.raises(ValueError, match='there is no layer Dense_9'):
        masks.dense(PARAMS, protected=('Dense_9',))


def test_magnitude_is_ranked_over_all_layers_or_within_each():
    full, scores = masks.dense(PARAMS), masks.magnitude(PARAMS)
    over_all = masks.keep_highest(full, scores, 0.4)
    np.testing.assert_array_equal(over_all['first']['kernel'], np.zeros((2, 3), bool))
    np.testing.assert_array_equal(over_all['last']['kernel'], np.ones((2, 2), bool))
    each = masks.keep_highest(full, scores, 0.5, scope='layer')
    np.testing.assert_array_equal(each['first']['kernel'], [[False] * 3, [True] * 3])
    np.testing.assert_array_equal(each['last']['kernel'], [[False] * 2, [True] * 2])
    assert masks.sparsity_report(each) == {'first/kernel': 0.5, 'last/kernel': 0.5, 'total': 0.5}
    with pytest.raises(ValueError, match="the scope is 'all'; allowed: global, layer"):
        masks.keep_highest(full, scores, 0.5, scope='all')


@pytest.mark.parametrize('scope', masks.SCOPES)
def test_twenty_percent_a_round_leaves_powers_of_eight_tenths(scope):
    params = {name: {'kernel': jax.random.normal(jax.random.key(i), (40, 25))} for i, name in enumerate('ab')}
    mask = masks.dense(params)
    prune = jax.jit(lambda mask, share: masks.keep_highest(mask, masks.magnitude(params), share, scope=scope))
    for n in range(1, 22):
        smaller = prune(mask, 0.8**n)
        assert masks.is_nested(smaller, mask)
        mask = smaller
        kept, total = masks.count(mask)
        assert abs(int(kept) - total * 0.8**n) <= (1 if scope == 'global' else 2)
    np.testing.assert_allclose(masks.sparsity(mask), 1 - 0.8**21, atol=1e-3)


@given(_trees(), st.floats(0, 1), st.sampled_from(masks.SCOPES))
def test_masks_shrink_to_the_wanted_count_and_keep_the_best(trees, share, scope):
    mask, scores = trees
    smaller = jax.device_get(masks.keep_highest(mask, scores, share, scope=scope))
    assert masks.is_nested(smaller, mask)
    parts = [(mask[k]['kernel'], smaller[k]['kernel'], scores[k]['kernel']) for k in mask]
    if scope == 'global':
        parts = [tuple(np.concatenate([np.ravel(x) for x in column]) for column in zip(*parts, strict=True))]
    for before, after, score in parts:
        wanted = int(np.round(np.float32(share) * np.float32(before.size)))
        assert after.sum() == min(before.sum(), wanted)
        if after.any() and (before & ~after).any():
            assert score[after].min() >= score[before & ~after].max()


@given(_trees(), st.integers(0, 10))
def test_random_masks_keep_every_layers_count(trees, seed):
    mask, _ = trees
    drawn = masks.random_like(mask, rng=jax.random.key(seed))
    assert {k: int(m['kernel'].sum()) for k, m in drawn.items()} == {k: int(m['kernel'].sum()) for k, m in mask.items()}
    assert all(m['bias'] is None for m in drawn.values())


def test_random_masks_are_uniform():
    mask = {'kernel': jnp.arange(10) < 3}
    drawn = jax.vmap(lambda key: masks.random_like(mask, rng=key)['kernel'])(jax.random.split(jax.random.key(0), 3000))
    np.testing.assert_allclose(drawn.mean(axis=0), 0.3, atol=0.04)  # five standard deviations


def test_non_finite_scores_of_survivors_are_pruned_first_and_never_revive_others():
    mask = {'kernel': jnp.asarray([True, True, False, True, False])}
    scores = {'kernel': jnp.asarray([jnp.nan, 1.0, 5.0, -jnp.inf, jnp.nan])}
    np.testing.assert_array_equal(masks.keep_highest(mask, scores, 0.2)['kernel'], [False, True, False, False, False])
    assert int(masks.count(masks.keep_highest(mask, scores, 1.0))[0]) == 3


def test_snip_of_a_linear_model_is_the_closed_form():
    x, y, w = jnp.asarray([[1.0, -2.0, 0.5], [0.3, 1.0, 2.0]]), jnp.asarray([1.0, -1.0]), jnp.asarray([0.2, -0.4, 3.0])

    def loss(params):
        return jnp.mean((x @ params['w'] - y) ** 2)

    gradient = 2 * x.T @ (x @ w - y) / 2
    np.testing.assert_allclose(masks.snip(loss, {'w': w})['w'], jnp.abs(w * gradient), rtol=1e-6)


def test_grasp_on_a_quadratic_is_the_closed_form_and_has_the_right_sign():
    root = jax.random.normal(jax.random.key(0), (4, 4))
    curvature = root @ root.T + jnp.eye(4)
    w = jnp.asarray([1.0, -0.5, 2.0, 0.1])

    def loss(params):
        return 0.5 * params['kernel'] @ curvature @ params['kernel']

    scores = masks.grasp(loss, {'kernel': w})['kernel']
    np.testing.assert_allclose(scores, w * (curvature @ curvature @ w), rtol=1e-5)
    # On a diagonal quadratic the squared gradient is a sum over weights: the weight worth most to it is kept longest.
    diagonal = jnp.asarray([3.0, 1.0, 0.1, 2.0])
    scores = masks.grasp(lambda p: 0.5 * jnp.sum(diagonal * p['kernel'] ** 2), {'kernel': w})['kernel']
    flow = (diagonal * w) ** 2
    np.testing.assert_array_equal(jnp.argsort(scores), jnp.argsort(flow))


def test_grasp_goes_through_the_suites_convolutions():
    from gjax.nets.layers import Conv

    net, images = Conv(2), jax.random.normal(jax.random.key(1), (2, 5, 5, 1))
    params = net.init(jax.random.key(0), images)['params']

    def loss(params):
        return jnp.mean(net.apply({'params': params}, images) ** 4)

    scores = masks.grasp(loss, params, weights_only=False)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    gradient = jax.grad(lambda v: loss(unravel(v)))
    step = 1e-3 * gradient(flat) / jnp.linalg.norm(gradient(flat))
    numeric = (gradient(flat + step) - gradient(flat - step)) / 2e-3 * jnp.linalg.norm(gradient(flat))
    np.testing.assert_allclose(jax.flatten_util.ravel_pytree(scores)[0], flat * numeric, rtol=0.02, atol=1e-4)


def test_grasp_differentiates_over_weights_alone_by_default():
    """On 0.5 v' A v, v = (kernel, bias): H and g are those of the kernel's block, with the bias as a constant."""
    root = np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32)
    curvature, w, b = root @ root.T, np.asarray([1.0, -0.5, 2.0], np.float32), np.asarray([0.7, -1.1], np.float32)
    params = {'bias': jnp.asarray(b), 'kernel': jnp.asarray(w)}

    def loss(params):
        v = jnp.concatenate([params['kernel'], params['bias']])
        return 0.5 * v @ curvature @ v

    scores = masks.grasp(loss, params)
    gradient = curvature @ np.concatenate([w, b])
    np.testing.assert_allclose(scores['kernel'], w * (curvature[:3, :3] @ gradient[:3]), rtol=1e-4)
    np.testing.assert_array_equal(scores['bias'], 0)
    over_all = masks.grasp(loss, params, weights_only=False)
    np.testing.assert_allclose(over_all['kernel'], w * (curvature @ gradient)[:3], rtol=1e-4)
    with pytest.raises(ValueError, match='params have no weights, only bias; allowed: at least one, or weights_only=False'):
        masks.grasp(lambda p: jnp.sum(p['bias'] ** 2), {'bias': params['bias']})


def test_grasp_of_several_losses_is_that_of_their_sum():
    w = jnp.asarray([1.0, -0.5, 2.0])
    losses = [lambda p, a=a: jnp.sum(a * p['kernel'] ** 4) for a in (0.5, 2.0)]
    np.testing.assert_allclose(
        masks.grasp(losses, {'kernel': w})['kernel'],
        masks.grasp(lambda p: losses[0](p) + losses[1](p), {'kernel': w})['kernel'],
        rtol=1e-5,
    )


def test_grasp_is_the_released_codes():
    """A small classifier with batch normalisation: its two halves, weights alone, logits over 200; by PyTorch's double
    backward in the order of the authors' code, in float64 there.
    """
    torch = pytest.importorskip('torch', reason='torch is not installed: pip install torch')
    functional, rng = torch.nn.functional, np.random.default_rng(0)
    sizes = {'first': {'kernel': (6, 8), 'scale': (8,), 'bias': (8,)}, 'last': {'kernel': (8, 3), 'bias': (3,)}}
    params = {n: {k: rng.normal(size=s).astype(np.float32) for k, s in own.items()} for n, own in sizes.items()}
    images, labels = rng.normal(size=(10, 6)).astype(np.float32), rng.integers(0, 3, 10)

    def logits_fn(params, x):
        first, last = params['first'], params['last']
        x = x @ first['kernel']
        x = (x - x.mean(0, keepdims=True)) * jax.lax.rsqrt(x.var(0, keepdims=True) + 1e-5)
        return jax.nn.relu(x * first['scale'][None] + first['bias'][None]) @ last['kernel'] + last['bias'][None]

    found = masks.grasp_as_released(logits_fn, params, jnp.asarray(images), jnp.asarray(labels))
    whole = masks.grasp_as_released(logits_fn, params, jnp.asarray(images), jnp.asarray(labels), parts=1, temperature=1.0)
    held = {
        n: {k: torch.tensor(v, dtype=torch.float64, requires_grad=True) for k, v in own.items()} for n, own in params.items()
    }
    weights, halves = [held['first']['kernel'], held['last']['kernel']], ((0, 5), (5, 10))

    def gradients(start, end, **options):
        x = torch.tensor(images[start:end], dtype=torch.float64) @ weights[0]
        x = functional.batch_norm(x, None, None, held['first']['scale'], held['first']['bias'], True)
        logits = (torch.relu(x) @ weights[1] + held['last']['bias']) / 200
        return torch.autograd.grad(functional.cross_entropy(logits, torch.tensor(labels[start:end])), weights, **options)

    kept = [sum(pair).detach() for pair in zip(*(gradients(*half) for half in halves), strict=True)]
    for half in halves:
        z = sum((k * g).sum() for k, g in zip(kept, gradients(*half, create_graph=True), strict=True))
        z.backward()
    for name, weight in zip(('first', 'last'), weights, strict=True):
        expected = (weight * weight.grad).detach().numpy()
        np.testing.assert_allclose(found[name]['kernel'], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
        other = np.asarray(whole[name]['kernel'])
        assert np.corrcoef(other.ravel(), expected.ravel())[0, 1] < 0.99  # halves and temperature make a difference
