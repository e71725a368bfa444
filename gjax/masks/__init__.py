"""Masks as pytrees.

Pruning masks have the structure of the parameters, bool leaves, and None where nothing is ever pruned. Gates multiply what
enters the layers of a network, one mask for each domain.
"""

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
from gjax.masks.gates import (
    REDUCTIONS,
    expected_gates,
    hard_gates,
    mask_statistics,
    of_examples,
    overlap,
    sample_gates,
    soft_iou,
)
from gjax.masks.packing import pack, unpack
from gjax.masks.pytree import apply, count, dense, is_nested, is_weight, path_name, sparsity, sparsity_report
from gjax.masks.saliency import SCOPES, grasp, grasp_as_released, keep_highest, magnitude, random_like, snip

__all__ = [
    'EARLY_BIRD_RULES',
    'REDUCTIONS',
    'SCOPES',
    'apply',
    'channel_masks',
    'channel_scores',
    'count',
    'dense',
    'expected_gates',
    'grasp',
    'grasp_as_released',
    'hamming',
    'hard_gates',
    'is_nested',
    'is_weight',
    'keep_highest',
    'kept',
    'magnitude',
    'mask_channels',
    'mask_statistics',
    'masks_agree',
    'of_examples',
    'overlap',
    'pack',
    'path_name',
    'random_like',
    'sample_gates',
    'slice_channels',
    'snip',
    'soft_iou',
    'sparsity',
    'sparsity_report',
    'unpack',
]
