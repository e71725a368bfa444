"""Pruning masks: pytrees with the structure of the parameters, bool leaves, None where nothing is ever pruned."""

from gjax.masks.channels import channel_masks, channel_scores, hamming, kept, largest_distance, mask_channels, slice_channels
from gjax.masks.packing import pack, unpack
from gjax.masks.pytree import apply, count, dense, is_nested, is_weight, path_name, sparsity, sparsity_report
from gjax.masks.saliency import SCOPES, grasp, keep_highest, magnitude, random_like, snip

__all__ = [
    'SCOPES',
    'apply',
    'channel_masks',
    'channel_scores',
    'count',
    'dense',
    'grasp',
    'hamming',
    'is_nested',
    'is_weight',
    'keep_highest',
    'kept',
    'largest_distance',
    'magnitude',
    'mask_channels',
    'pack',
    'path_name',
    'random_like',
    'slice_channels',
    'snip',
    'sparsity',
    'sparsity_report',
    'unpack',
]
