"""Pruning masks: pytrees with the structure of the parameters, bool leaves, None where nothing is ever pruned."""

import jax
import jax.numpy as jnp


def _is_none(leaf):
    return leaf is None


def apply(masks, params):
    """Parameters with every pruned entry at exactly zero; leaves whose mask is None pass unchanged.

    Args:
      masks: None (nothing is pruned), or a tree like params with bool or None leaves.
      params: any tree of arrays.
    """
    if masks is None:
        return params
    return jax.tree.map(lambda m, p: p if m is None else jnp.where(m, p, 0), masks, params, is_leaf=_is_none)


def sparsity(masks):
    """Share of the prunable entries (those under a bool mask) that are pruned, in [0, 1]; 0 for an empty tree."""
    leaves = jax.tree.leaves(masks)
    total = sum(leaf.size for leaf in leaves)
    kept = sum(jnp.sum(leaf) for leaf in leaves)
    return 1.0 - kept / total if total else jnp.zeros(())
