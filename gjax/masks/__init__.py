"""Pruning masks: pytrees with the structure of the parameters, bool leaves, None where nothing is ever pruned."""

from gjax.masks.channels import (
    EARLY_BIRD_RULES,
    channel_masks,
    channel_scores,
    hamming,
    kept,
    mask_channels,
    masks_agree,
    slice_channels,
)
from gjax.masks.packing import pack, unpack
from gjax.masks.pytree import apply, count, dense, is_nested, is_weight, path_name, sparsity, sparsity_report
from gjax.masks.saliency import SCOPES, grasp, grasp_as_released, keep_highest, magnitude, random_like, snip

__all__ = [
    'EARLY_BIRD_RULES',
    'SCOPES',
    'apply',
    'channel_masks',
    'channel_scores',
    'count',
    'dense',
    'grasp',
    'grasp_as_released',
    'hamming',
    'is_nested',
    'is_weight',
    'keep_highest',
    'kept',
    'magnitude',
    'mask_channels',
    'masks_agree',
    'pack',
    'path_name',
    'random_like',
    'slice_channels',
    'snip',
    'sparsity',
    'sparsity_report',
    'unpack',
]
