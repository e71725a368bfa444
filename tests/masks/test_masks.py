"""Pruning masks stay in force through an optimiser with momentum and weight decay."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gjax import masks
from gjax.methods.core.state import new_state, update_player

PARAMS = {'kernel': jnp.ones((2, 3)), 'bias': jnp.ones(3)}
MASKS = {'kernel': jnp.asarray([[True, False, True], [False, False, True]]), 'bias': None}


def test_apply_and_sparsity():
    pruned = masks.apply(MASKS, PARAMS)
    np.testing.assert_array_equal(pruned['kernel'], [[1, 0, 1], [0, 0, 1]])
    np.testing.assert_array_equal(pruned['bias'], PARAMS['bias'])
    assert masks.apply(None, PARAMS) is PARAMS
    np.testing.assert_allclose(masks.sparsity(MASKS), 0.5)
    assert masks.sparsity({'bias': None}) == 0


def test_pruned_weights_stay_zero_under_adam_and_decay():
    optimizer = optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.1))
    params = masks.apply(MASKS, PARAMS)
    state = new_state(jax.random.key(0), {'p': params}, {}, {'p': optimizer.init(params)})
    state = state.replace(masks={'p': MASKS})
    for _ in range(5):
        state, norms = update_player(state, 'p', jax.tree.map(jnp.ones_like, params), optimizer)
    np.testing.assert_array_equal(np.asarray(state.params['p']['kernel'] != 0), MASKS['kernel'])
    assert (state.params['p']['bias'] < 1).all()
    np.testing.assert_allclose(norms['grad_norm/p'], 3.0)


@pytest.mark.slow
def test_every_function_is_clean_under_debug_nans():
    """Under the suite's strict promotion too, with weights and scores that are zero or all alike."""
    params = {'kernel': jnp.asarray([[0.0, 1.0, -1.0], [0.0, 0.0, 2.0]]), 'bias': jnp.zeros(3)}
    inputs = jnp.ones((4, 2))

    def loss(params):
        return jnp.mean((inputs @ params['kernel'] + params['bias'][None]) ** 2)

    with jax.debug_nans(True):
        dense = masks.dense(params)
        for score in (masks.magnitude, lambda p: masks.snip(loss, p), lambda p: masks.grasp(loss, p)):
            for scope in masks.SCOPES:
                kept = masks.keep_highest(dense, score(params), 0.5, scope=scope)
                assert masks.is_nested(kept, dense)
                assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(masks.apply(kept, params)))
        assert masks.count(masks.random_like(kept, rng=jax.random.key(0))) == masks.count(kept)
        channels = masks.channel_masks({'a': jnp.zeros(3), 'b': jnp.ones(2)}, 0.5)
        assert np.isfinite(masks.hamming(channels['a'], channels['a']))
