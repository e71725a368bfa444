"""Sets that lie whole, as uint8, on every device; batches are gathered inside the compiled step."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np

from gjax import data
from gjax.train.devices import sharded
from gjax.train.feeds.placement import Replicated
from gjax.train.feeds.pools import Pool


class Resident:
    """A feed of sets in memory: they are decoded in threads from now on, and what needs them waits.

    `chunks` and `examples` yield sources, pytrees of global arrays; `begin` and `batch`, called inside a compiled function,
    make batches of them.
    """

    waited = 0.0  # seconds that training waited for data

    def __init__(self, datasets: dict[str, data.Dataset], pools: dict[str, Pool], mesh, copies: dict | None = None):
        """
        Args:
          datasets: the sets by name.
          pools: what every role draws.
          mesh: the devices.
          copies: of these sets on these devices, made by feeds before; new ones join them.
        """
        self.mesh, self._pools = mesh, pools
        self._splits: dict = {}
        self._of_role: dict[str, Replicated] = {}
        self._copies = {} if copies is None else copies  # roles over the same sets share one, and so do their parts
        for role, pool in pools.items():
            sets = pool.role.sets
            copy = self._copy(sets, pool.records, datasets[sets[0]].fields)
            for own, start in zip(sets, (0, *pool.records.bounds), strict=False):
                self._splits.setdefault((own, 'train'), (copy, start, len(datasets[own].train)))
            self._of_role[role] = copy
        self._datasets = datasets
        for name, dataset in datasets.items():
            for split in dataset.splits:
                if split != 'train':
                    self._of(name, split)

    def _copy(self, key, records, fields) -> Replicated:
        if key not in self._copies:
            self._copies[key] = Replicated(records, fields, self.mesh)
        return self._copies[key]

    def _of(self, name: str, split: str) -> tuple[Replicated, int, int]:
        """(copy, first row, number of rows) of a split; read from now on if no role has it and nobody asked before."""
        if (name, split) not in self._splits:
            records = self._datasets[name].splits[split]
            copy = self._copy((name, (split,)), records, self._datasets[name].fields)
            self._splits[name, split] = (copy, 0, len(records))
        return self._splits[name, split]

    def source_shapes(self):
        """The shapes of a source of `chunks`, with which the loop can be compiled before there is one."""
        return {role: (self._of_role[role].shapes(), pool.rng) for role, pool in self._pools.items()}

    def load(self) -> None:
        """Returns when all sets lie on the devices; DataError if one cannot be read."""
        for replicated, _, _ in self._splits.values():
            _ = replicated.columns

    @contextlib.contextmanager
    def chunks(self, start: int, counts, busy=lambda: False):
        """A context that gives an iterator of sources, one for each of `counts` steps from step `start` on.

        busy: () -> whether the devices compute meanwhile; to wait then is not to wait for data.
        """
        source = {role: (self._of_role[role].columns, pool.rng) for role, pool in self._pools.items()}
        yield (source for _ in counts)

    def begin(self, source, first_step, max_steps: int):
        """Inside jit: the function (i, step) -> {role: batch} of the i-th step after `first_step`."""
        readers = {}
        for role, pool in self._pools.items():
            columns, rng = source[role]
            readers[role] = (columns, pool, pool.draw.reader(rng, first_step, max_steps))

        def read(i, step):
            return {role: pool.batch(self._gather(columns, rows(step))) for role, (columns, pool, rows) in readers.items()}

        return read

    def _gather(self, columns, index):
        return data.gather(columns, jax.lax.with_sharding_constraint(index, sharded(self.mesh)))

    @contextlib.contextmanager
    def examples(self, name: str, split: str, batch_size: int, rows=None):
        """A context that gives an iterator of (source, mask) over a split of the set `name`, in index order.

        rows: only these rows of it, in this order. The 'index' of a training example is its place in the pool.
        """
        replicated, start, total = self._of(name, split)
        chosen = np.arange(total) if rows is None else np.asarray(rows)
        places = (np.arange(first, first + batch_size) for first in range(0, len(chosen), batch_size))
        offset = np.int32(start)
        yield (
            ((replicated.columns, chosen[np.minimum(place, len(chosen) - 1)], offset), place < len(chosen))
            for place in places
        )

    def batch(self, source) -> dict:
        """Inside jit: the batch of a source of `examples`."""
        columns, index, offset = source
        return self._gather(columns, jnp.asarray(index) + offset)
