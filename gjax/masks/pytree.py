"""Pruning masks: pytrees with the structure of the parameters, bool leaves, None where nothing is ever pruned.

Any pytree has masks: nested dicts, lists, an `nnx.State`, registered dataclasses.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gjax.checks import check_shape

# Names of float leaves that are no weights of a layer, although they have rank 2 or more where layers are stacked (Linen's,
# NNX's and this suite's own): normalisation, biases, and the triangular factors of invertible layers. Embeddings are looked
# up, not multiplied with.
NOT_WEIGHTS = ('bias', 'scale', 'shift', 'log_scale', 'mean', 'var', 'lower', 'upper', 'embedding')


def _is_none(leaf):
    return leaf is None


def path_name(path) -> str:
    """A pytree path as text: 'decoder/Dense_0/kernel'."""
    return jax.tree_util.keystr(path, simple=True, separator='/')


def is_weight(path: str, leaf) -> bool:
    """The rule of what is prunable by default: every float leaf of rank 2 or higher, unless its name is in NOT_WEIGHTS; and
    what is named 'kernel', whatever its rank.

    Args:
      path: of the leaf, as text: 'decoder/Dense_0/kernel'.
      leaf: an array, or anything else.
    """
    dtype = getattr(leaf, 'dtype', None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        return False
    name = path.rpartition('/')[2]
    return name == 'kernel' or (len(leaf.shape) >= 2 and name not in NOT_WEIGHTS)


def matched(masks, tree, name: str):
    """A tree's leaves under masks: what `tree` has where `masks` has a bool leaf, None elsewhere.

    Args:
      masks: bool and None leaves.
      tree: one with an entry for each of the masks'.
      name: of the tree's argument.

    Raises:
      ValueError: another structure, a mask of another dtype than bool or of another shape than its entry.
    """

    def entry(path, mask, leaf):
        if mask is None:
            return None
        where = f'{name} at {path_name(path)}'
        if mask.dtype != bool:
            raise ValueError(f'the mask of {where} has dtype {mask.dtype}; allowed: bool')
        check_shape(where, leaf, tuple(mask.shape), f'{tuple(mask.shape)}, that of its mask')
        return leaf

    try:
        paired = jax.tree_util.tree_map_with_path(lambda *found: found, masks, tree, is_leaf=_is_none)
    except (ValueError, TypeError, KeyError):  # whose text has several lines
        known = [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(masks)[0]]
        have = {path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]}
        missing = [path for path in known if path not in have]
        what = f'no entry {missing[0]}' if missing else f'the structure {jax.tree.structure(tree)!s:.60}'
        raise ValueError(f'{name} has {what}; allowed: a tree like the masks, with {", ".join(known)[:80]}') from None
    return jax.tree.map(lambda found: entry(*found), paired, is_leaf=lambda x: isinstance(x, tuple) and len(x) == 3)


def apply(masks, params):
    """Parameters with every pruned entry at exactly zero; leaves whose mask is None pass unchanged.

    Args:
      masks: None (nothing is pruned), or a tree like params with bool or None leaves.
      params: any tree of arrays.

    Raises:
      ValueError: as `matched`.
    """
    if masks is None:
        return params
    matched(masks, params, 'params')
    return jax.tree.map(lambda m, p: p if m is None else jnp.where(m, p, 0), masks, params, is_leaf=_is_none)


def dense(params, protected=(), *, prunable: Callable[[str, jax.Array], bool] = is_weight):
    """Masks that prune nothing yet: all True where a leaf is prunable, None elsewhere.

    Args:
      params: any pytree.
      protected: names of layers ('Dense_0', 'trunk/Conv_0') of which nothing is pruned.
      prunable: (path, leaf) -> whether the leaf may be pruned, the path as text: 'trunk/Conv_0/kernel'. By default
        `is_weight`: kernels of convolutions and dense layers, not biases, scales, offsets nor embeddings.

    Raises:
      ValueError: a protected layer does not exist; no leaf is prunable (layers that are protected count as prunable).
    """
    unknown, found = set(protected), []

    def mask(path, leaf):
        if path and getattr(path[-1], 'name', None) == 'value':  # an `nnx.State` holds each array in a variable
            path = path[:-1]
        name = path_name(path)
        layer = name.rpartition('/')[0]
        unknown.discard(layer)
        if not prunable(name, leaf):
            return None
        found.append(name)
        return None if layer in protected else jnp.ones(leaf.shape, bool)

    masks = jax.tree_util.tree_map_with_path(mask, params)
    if unknown:
        raise ValueError(f'there is no layer {", ".join(sorted(unknown))} to protect')
    if not found:
        names = [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
        raise ValueError(f'there is nothing to prune in params ({", ".join(names)[:80]}); allowed: a prunable leaf')
    return masks


def count(masks):
    """(kept, total) entries under bool masks: an int32 array and an int; ValueError for leaves of another dtype."""
    leaves = jax.tree.leaves(masks)
    if other := [leaf.dtype for leaf in leaves if leaf.dtype != bool]:
        raise ValueError(f'a mask has dtype {other[0]}; allowed: bool')
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
    """Whether everything that `inner` keeps is kept by `outer`; trees of one structure, ValueError for others."""
    matched(outer, inner, 'inner')
    return all(jax.tree.leaves(jax.tree.map(lambda i, o: bool(jnp.all(o | ~i)), inner, outer)))
