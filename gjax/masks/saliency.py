"""What to prune: scores of weights (high: keep), and masks that keep the highest."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from gjax.checks import check_key, check_shape, concrete, one_of, positive
from gjax.losses import cross_entropy
from gjax.masks.pytree import is_weight, matched, path_name

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


def grasp(loss_fn, params, *, weights_only: bool = True):
    """theta (H g), which is high where removing the weight would reduce the gradient's flow (Wang et al. 2020, Eq. 8).

    The paper's score is its negative, of which the highest are removed. H g is the gradient of <g, stop_gradient(g)>.

    The authors' code is `grasp_as_released`. With its masks others overlap by 96 to 99 % if biases and scales take part, by
    82 to 87 % if one batch takes the place of its two halves, each with its own batch statistics, and by 57 to 72 % without
    its temperature.

    Args:
      loss_fn: params -> scalar loss on one batch; or several such functions, one for each part of a batch, whose gradients
        are added up before the product is taken, and whose products are added up too.
      params: a tree of arrays, at initialisation.
      weights_only: whether H and g are those of the weights alone (`gjax.masks.is_weight`), as in the authors' code. False:
        of all parameters, the biases and the scales of normalisation among them.

    Returns:
      A tree like params; with weights_only zero for all other leaves, which no mask covers.

    Raises:
      ValueError: weights_only, and there are no weights.
    """
    losses = tuple(loss_fn) if isinstance(loss_fn, list | tuple) else (loss_fn,)
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    leaves = [leaf for _, leaf in paths]
    places = [i for i, (path, leaf) in enumerate(paths) if not weights_only or is_weight(path_name(path), leaf)]
    if not places:
        names = ', '.join(path_name(path) for path, _ in paths)
        raise ValueError(f'params have no weights, only {names[:80]}; allowed: at least one, or weights_only=False')

    def merged(values, others):
        found = list(others)
        for i, value in zip(places, values, strict=True):
            found[i] = value
        return jax.tree.unflatten(structure, found)

    def flow(weights):
        gradients = [jax.grad(lambda values, loss=loss: loss(merged(values, leaves)))(weights) for loss in losses]
        totals = [jax.lax.stop_gradient(sum(parts[1:], parts[0])) for parts in zip(*gradients, strict=True)]
        return sum(jnp.vdot(g, total) for gradient in gradients for g, total in zip(gradient, totals, strict=True))

    weights = [leaves[i] for i in places]
    scores = [product * weight for product, weight in zip(jax.grad(flow)(weights), weights, strict=True)]
    return merged(scores, map(jnp.zeros_like, leaves))


def grasp_as_released(logits_fn, params, images, labels, *, parts: int = 2, temperature: float = 200.0):
    """`grasp` of a classifier with all choices of the authors' code at once: over its weights alone, with the batch in two
    halves, and with logits divided by a temperature, which is defined for classifiers only.

    Args:
      logits_fn: (params, images [b, H, W, C]) -> logits [b, K], with the batch statistics of these images.
      params: a tree of arrays, at initialisation.
      images: [B, H, W, C], B >= parts.
      labels: int [B].
      parts: in how many parts the batch is taken; 1 for the whole.
      temperature: > 0; 1 for the logits as they are.

    Returns:
      Scores like `grasp`'s; those of the authors' code are minus these.

    Raises:
      ValueError: parts outside 1..B, a temperature that is not positive, or as `grasp`.
    """
    positive('temperature', temperature, zero=False)
    count = len(images)
    if not 1 <= parts <= count:
        raise ValueError(f'parts is {parts}; allowed: 1..{count}, the number of images')
    ends = [count * i // parts for i in range(parts + 1)]

    def loss_of(start, end):
        return lambda params: cross_entropy(logits_fn(params, images[start:end]) / temperature, labels[start:end]).mean()

    return grasp([loss_of(*pair) for pair in itertools.pairwise(ends)], params)


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
