"""Data sets by name, and batches as pure functions of (seed, step)."""

from gjax.data import sources
from gjax.data.batching import (
    augment,
    augment_batch,
    batch_index,
    epoch_order,
    flip,
    gather,
    pad_crop,
    to_batch,
    to_levels,
)
from gjax.data.convert import converted, drawn_rows, rows_of, subset, with_validation
from gjax.data.dataset import DataError, Dataset, Field, Records, Split
from gjax.data.embedded import EMBEDDED
from gjax.data.pool import Draw, HostDraw, PooledRecords
from gjax.data.sets import find, from_config, load, made_alike, open_sets, set_names
from gjax.data.summary import check_readable, summary

__all__ = [
    'EMBEDDED',
    'DataError',
    'Dataset',
    'Draw',
    'Field',
    'HostDraw',
    'PooledRecords',
    'Records',
    'Split',
    'augment',
    'augment_batch',
    'batch_index',
    'check_readable',
    'converted',
    'drawn_rows',
    'epoch_order',
    'find',
    'flip',
    'from_config',
    'gather',
    'load',
    'made_alike',
    'open_sets',
    'pad_crop',
    'rows_of',
    'set_names',
    'sources',
    'subset',
    'summary',
    'to_batch',
    'to_levels',
    'with_validation',
]
