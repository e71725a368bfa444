"""Batches and comparisons that the tests of pruning methods share."""

import jax
import jax.numpy as jnp
import numpy as np

from gjax.train.store.checkpoint import to_arrays


def batch_of(seed=0):
    """Eight random images of 8 pixels."""
    images = jax.random.uniform(jax.random.key(seed), (8, 8, 8, 1))
    return {'image': images, 'label': jnp.zeros(8, jnp.int32), 'index': jnp.arange(8, dtype=jnp.int32)}


def assert_equal(first, second):
    """Every leaf of two trees, bit for bit."""
    first, second = to_arrays(first), to_arrays(second)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, err_msg=name)
