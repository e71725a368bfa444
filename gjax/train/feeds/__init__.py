"""Where a run's batches come from: sets that lie whole on the devices, or sets that are streamed to them.

Both feeds give the same batches. `pools` says what a role draws and what an epoch is.
"""

from gjax.train.feeds.opened import Opened
from gjax.train.feeds.placement import check_memory
from gjax.train.feeds.pools import Pool, make_pools, steps_per_epoch
from gjax.train.feeds.resident import Resident
from gjax.train.feeds.streamed import CHUNK_BYTES, Streamed

__all__ = ['CHUNK_BYTES', 'Opened', 'Pool', 'Resident', 'Streamed', 'check_memory', 'make_pools', 'steps_per_epoch']
