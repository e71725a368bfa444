"""Channel masks and physical slicing: structured early-bird tickets (You et al. 2020, arXiv:1909.11957).

A channel group (`gjax.nets.channel_groups.ChannelGroup`) is a normalisation layer and every axis, of whatever parameter,
along which its channels lie. A channel mask is {group name: bool [C]}.
"""

import jax.numpy as jnp
import numpy as np

from gjax.checks import check_shape, concrete, one_of, positive
from gjax.masks.saliency import SCOPES

EARLY_BIRD_RULES = ('paper', 'released', 'any_two')


def get(tree, path):
    """The leaf or subtree of nested dicts at a path of keys."""
    for key in path:
        tree = tree[key]
    return tree


def put(tree, path, value):
    """Nested dicts with another leaf or subtree at a path of keys; the old ones stay as they are."""
    if not path:
        return value
    return {**tree, path[0]: put(tree[path[0]], path[1:], value)}


def _mask_of(params, group, masks):
    """The mask of a group, bool [C] as its normalisation has channels; ValueError for none, another shape or dtype."""
    if group.name not in masks:
        raise ValueError(f'masks have no group {group.name}; allowed: one for each group, here {", ".join(masks)}')
    mask, shape = masks[group.name], tuple(get(params, group.norm)['scale'].shape)
    check_shape(f'the mask of {group.name}', mask, shape)
    if mask.dtype != bool:
        raise ValueError(f'the mask of {group.name} has dtype {mask.dtype}; allowed: bool')
    return mask


def channel_scores(params, groups) -> dict:
    """|gamma| of every channel: {group name: float [C]}."""
    return {group.name: jnp.abs(get(params, group.norm)['scale']) for group in groups}


def channel_masks(scores, pruned, *, scope: str = 'global', at_least: int = 1) -> dict:
    """Masks that drop the `pruned` share of the channels, those with the lowest scores.

    Args:
      scores: {group: float [C]}.
      pruned: in [0, 1): round(pruned * channels) are dropped.
      scope: 'global' ranks all groups together, 'layer' each alone.
      at_least: so many channels of each group stay, its highest, whatever their rank: a group without any would cut the
        network in two.

    Returns:
      {group: bool [C]}.

    Raises:
      ValueError: no group, scores of another shape, another scope, at_least < 0; where they are concrete, `pruned` outside
        [0, 1) or scores that are NaN.
    """
    one_of('the scope', scope, SCOPES)
    positive('at_least', at_least)
    if not 0 <= pruned < 1:
        raise ValueError(f'pruned is {pruned}; allowed: 0 <= pruned < 1')
    if not scores:
        raise ValueError('scores have no group, so there is nothing to prune; allowed: at least one')
    for name, score in scores.items():
        check_shape(f'the scores of {name}', score, (None,), '[C]')
        if (values := concrete(score)) is not None and np.isnan(values).any():
            raise ValueError(f'the scores of {name} have NaN; allowed: numbers')
    if scope == 'layer':
        return {name: channel_masks({name: s}, pruned, at_least=at_least)[name] for name, s in scores.items()}
    total = sum(score.size for score in scores.values())
    drop = round(pruned * total)
    every = jnp.concatenate(list(scores.values()))
    ranks = jnp.zeros(total, jnp.int32).at[jnp.argsort(every, stable=True)].set(jnp.arange(total, dtype=jnp.int32))
    masks, start = {}, 0
    for name, score in scores.items():
        own = ranks[start : start + score.size]
        highest = jnp.argsort(jnp.argsort(-own)) < at_least
        masks[name] = (own >= drop) | highest
        start += score.size
    return masks


def hamming(first, second):
    """The share of entries in which two bool arrays differ, in [0, 1], over the last axis.

    Args:
      first, second: [..., C] of one rank; a leading axis of size 1 is compared with each entry of the other's.

    Returns:
      [...].
    """
    check_shape('first', first, (..., None), '[..., C]')
    check_shape('second', second, (*(None,) * (first.ndim - 1), first.shape[-1]), f'[..., {first.shape[-1]}], as first')
    return jnp.mean(first != second, axis=-1)


def masks_agree(history, distance, *, rule: str = 'paper'):
    """Whether a search for an early-bird ticket may end: whether the masks of its last epochs are close to each other.

    Args:
      history: bool [T, C], T >= 2, the masks of the last epochs, the oldest first.
      distance: the bound on their Hamming distances, in [0, 1]; You et al. take 0.1.
      rule: which distances count:
        'paper': those of each epoch's mask to the one before, all below the bound (You et al. 2020, Algorithm 1, which
          keeps five such distances, hence six masks);
        'released': those of the newest mask to all others, none above the bound (its released code, with five masks);
        'any_two': those of any two masks, all below the bound: of the same masks the strictest rule.

    Returns:
      bool.

    Raises:
      ValueError: another rule, or a history of another shape.
    """
    one_of('the rule', rule, EARLY_BIRD_RULES)
    check_shape('history', history, (None, None), '[T, C] with T >= 2')
    if len(history) < 2:
        raise ValueError(f'the shape of history is {history.shape}; allowed: [T, C] with T >= 2')
    if rule == 'paper':
        return jnp.all(hamming(history[:-1], history[1:]) < distance)
    if rule == 'released':
        return jnp.all(hamming(history[:-1], history[-1:]) <= distance)
    return jnp.all(hamming(history[:, None], history[None]) < distance)


def mask_channels(params, groups, masks) -> dict:
    """Parameters in which dropped channels are silent: scale and offset 0, hence 0 after the activation too.

    Args:
      params: nested dicts.
      groups: the network's channel groups.
      masks: {group name: bool [C]}; ValueError for a missing group, another shape or dtype.
    """
    for group in groups:
        keep = jnp.asarray(_mask_of(params, group, masks))
        norm = get(params, group.norm)
        params = put(params, group.norm, {name: jnp.where(keep, value, 0) for name, value in norm.items()})
    return params


def slice_channels(params, batch_stats, groups, masks) -> tuple[dict, dict]:
    """The smaller network's parameters and batch statistics: dropped channels are cut out of every array they lie along.

    The result computes what the network with `mask_channels` computes.

    Args:
      params, batch_stats: nested dicts.
      groups: the network's channel groups.
      masks: {group name: bool [C]}; ValueError as in `mask_channels`.

    All must be concrete; the results are NumPy's, since each cut has shapes of its own to compile.
    """

    def kept_of(tree, group, keep):
        return put(tree, group.norm, {name: np.asarray(value)[keep] for name, value in get(tree, group.norm).items()})

    for group in groups:
        keep = np.asarray(_mask_of(params, group, masks))
        params, batch_stats = (kept_of(tree, group, keep) for tree in (params, batch_stats))
        for slot in group.slots:
            value = np.asarray(get(params, slot.path))
            selected = np.tile(keep, value.shape[slot.axis] // keep.size)
            params = put(params, slot.path, np.compress(selected, value, axis=slot.axis))
    return params, batch_stats


def kept(masks) -> dict[str, int]:
    """How many channels of each group a concrete mask keeps."""
    return {name: int(np.asarray(mask).sum()) for name, mask in masks.items()}
