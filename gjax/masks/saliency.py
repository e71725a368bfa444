"""What to prune: scores of weights (high: keep), and masks that keep the highest."""

import jax
import jax.numpy as jnp
import numpy as np

from gjax.checks import check_key, check_shape, concrete, one_of
from gjax.masks.pytree import matched

SCOPES = ('global', 'layer')


def magnitude(params):
    """|theta|, per weight (Han et al. 2015; Frankle & Carbin 2019); leaves that are no floats pass unchanged."""

    def absolute(leaf):
        dtype = getattr(leaf, 'dtype', None)
        return jnp.abs(leaf) if dtype is not None and jnp.issubdtype(dtype, jnp.floating) else leaf

    return jax.tree.map(absolute, params)


def snip(loss_fn, params):
    """|g theta|, g the gradient of the loss: how much it would change without the weight (Lee et al. 2019, Eq. 5).

    Args:
      loss_fn: params -> scalar loss on one batch.
      params: a tree of arrays, at initialisation.
    """
    gradients = jax.grad(loss_fn)(params)
    return jax.tree.map(lambda g, p: jnp.abs(g * p), gradients, params)


def grasp(loss_fn, params):
    """theta (H g), which is high where removing the weight would reduce the gradient's flow (Wang et al. 2020, Eq. 8).

    The paper's score is its negative, of which the highest are removed. H g is the gradient of <g, stop_gradient(g)>.
    """

    def flow(params):
        gradients = jax.grad(loss_fn)(params)
        pairs = jax.tree.map(lambda g: jnp.vdot(g, jax.lax.stop_gradient(g)), gradients)
        return sum(jax.tree.leaves(pairs))

    return jax.tree.map(lambda hg, p: hg * p, jax.grad(flow)(params), params)


def _keep_highest(mask, scores, keep):
    """Of the True entries of a flat mask, the `keep` with the highest scores (ties: the first ones)."""
    ranked = jnp.argsort(jnp.where(mask & ~jnp.isnan(scores), scores, -jnp.inf), descending=True, stable=True)
    ranked = ranked[jnp.argsort(~mask[ranked], stable=True)]  # survivors that score -inf are still before the pruned ones
    return jnp.zeros(mask.shape, bool).at[ranked].set(jnp.arange(mask.size) < keep) & mask


def _check_remaining(remaining) -> None:
    """ValueError unless a share is one number and, where it is concrete, in [0, 1]."""
    if jnp.ndim(remaining):
        check_shape('remaining', remaining, ())
    value = concrete(remaining)
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f'remaining is {remaining}; allowed: 0..1, a share of all prunable entries')


def _check_scores(parts) -> None:
    """ValueError if of some list of (mask, score) pairs all survivors' scores are concrete and NaN: nothing ranks them."""
    for part in parts:
        values = [(concrete(mask), concrete(score)) for mask, score in part]
        if any(mask is None or score is None for mask, score in values):
            return
        survivors = np.concatenate([np.isnan(score[mask]) for mask, score in values])
        if survivors.size and survivors.all():
            raise ValueError(f'all {survivors.size} scores are NaN; allowed: at least one number')


def keep_highest(masks, scores, remaining, *, scope: str = 'global'):
    """Masks that keep the highest-scored survivors; what is pruned stays pruned.

    Args:
      masks: the masks so far (bool and None leaves). Several networks in one dict are ranked together.
      scores: a tree like masks.
      remaining: the share of all prunable entries that shall be left, in [0, 1]: round(remaining * entries) are, to one
        entry exactly, or all survivors where there are fewer.
      scope: 'global' ranks all layers together; 'layer' leaves the same share in each.

    Returns:
      Masks nested in `masks`.

    Raises:
      ValueError: another scope; masks without a leaf; scores of other shapes or structure; where they are concrete, a
        share outside [0, 1], or scores that are all NaN (of a layer, if these are ranked alone).
    """
    one_of('the scope', scope, SCOPES)
    _check_remaining(remaining)
    leaves, structure = jax.tree.flatten(masks)
    if not leaves:
        raise ValueError('the masks have no leaf, so there is nothing to prune; allowed: at least one mask')
    under_masks = jax.tree.leaves(matched(masks, scores, 'scores'))
    flat = [(mask.ravel(), score.ravel()) for mask, score in zip(leaves, under_masks, strict=True)]
    _check_scores([flat] if scope == 'global' else [[pair] for pair in flat])

    def keep(size):
        return jnp.round(remaining * size).astype(jnp.int32)

    if scope == 'layer':
        kept = [_keep_highest(mask, score, keep(mask.size)) for mask, score in flat]
    else:
        mask, score = (jnp.concatenate(parts) for parts in zip(*flat, strict=True))
        ends = [sum(leaf.size for leaf in leaves[: i + 1]) for i in range(len(leaves) - 1)]
        kept = jnp.split(_keep_highest(mask, score, keep(mask.size)), ends)
    return jax.tree.unflatten(structure, [part.reshape(leaf.shape) for part, leaf in zip(kept, leaves, strict=True)])


def random_like(masks, *, rng):
    """Masks that keep as many entries of each layer as `masks` do, drawn uniformly: the control of equal sparsity."""
    check_key('rng', rng)
    leaves, structure = jax.tree.flatten(masks)
    keys = jax.random.split(rng, max(1, len(leaves)))
    drawn = [jax.random.permutation(key, leaf.ravel()).reshape(leaf.shape) for key, leaf in zip(keys, leaves, strict=False)]
    return jax.tree.unflatten(structure, drawn)
