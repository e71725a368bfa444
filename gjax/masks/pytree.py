"""Pruning masks: pytrees with the structure of the parameters, bool leaves, None where nothing is ever pruned."""

import jax
import jax.numpy as jnp


def _is_none(leaf):
    return leaf is None


def path_name(path) -> str:
    """A pytree path as text: 'decoder/Dense_0/kernel'."""
    return jax.tree_util.keystr(path, simple=True, separator='/')


def apply(masks, params):
    """Parameters with every pruned entry at exactly zero; leaves whose mask is None pass unchanged.

    Args:
      masks: None (nothing is pruned), or a tree like params with bool or None leaves.
      params: any tree of arrays.
    """
    if masks is None:
        return params
    return jax.tree.map(lambda m, p: p if m is None else jnp.where(m, p, 0), masks, params, is_leaf=_is_none)


def dense(params, protected=()):
    """Masks that prune nothing yet: all True at the kernels of convolutions and dense layers, None elsewhere.

    Biases, scales and offsets of normalisation are never pruned.

    Args:
      params: a tree of dicts, kernels under the name 'kernel'.
      protected: names of layers ('Dense_0', 'trunk/Conv_0') whose kernels are not pruned either.

    Raises:
      ValueError: a protected layer does not exist.
    """
    unknown = set(protected)

    def mask(path, leaf):
        layer, _, name = path_name(path).rpartition('/')
        unknown.discard(layer)
        return jnp.ones(leaf.shape, bool) if name == 'kernel' and layer not in protected else None

    masks = jax.tree_util.tree_map_with_path(mask, params)
    if unknown:
        raise ValueError(f'there is no layer {", ".join(sorted(unknown))} to protect')
    return masks


def count(masks):
    """(kept, total) entries under bool masks: an int32 array and an int."""
    leaves = jax.tree.leaves(masks)
    return sum((jnp.sum(leaf) for leaf in leaves), jnp.zeros((), jnp.int32)), sum(leaf.size for leaf in leaves)


def sparsity(masks):
    """Share of the prunable entries (those under a bool mask) that are pruned, in [0, 1]; 0 for an empty tree."""
    kept, total = count(masks)
    return (total - kept) / total if total else jnp.zeros(())


def sparsity_report(masks) -> dict[str, float]:
    """The sparsity of every layer with a mask, by its path, and of all together under 'total'."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(masks)
    return {path_name(path): float(sparsity(leaf)) for path, leaf in leaves} | {'total': float(sparsity(masks))}


def is_nested(inner, outer) -> bool:
    """Whether everything that `inner` keeps is kept by `outer`; trees of one structure."""
    return all(jax.tree.leaves(jax.tree.map(lambda i, o: bool(jnp.all(o | ~i)), inner, outer)))
