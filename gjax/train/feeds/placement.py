"""Which part of a batch or a split each process holds, and how its arrays become global ones."""

import functools
import threading
from concurrent.futures import Future

import jax
import numpy as np

from gjax import data
from gjax.train.devices import compiled, device_memory, replicated, sharded
from gjax.train.errors import RunError


def own_rows(mesh, size: int) -> np.ndarray:
    """The positions, ascending, of a batch of `size` that this process's devices hold."""
    parts = {(p[0].start or 0, p[0].stop or size) for p in sharded(mesh).addressable_devices_indices_map((size,)).values()}
    return np.concatenate([np.arange(*part) for part in sorted(parts)])


def to_devices(local: np.ndarray, rows: np.ndarray, size: int, mesh, axis: int = 0):
    """The global array whose `axis` has `size` positions, of which `local` has this process's `rows`."""
    shape = (*local.shape[:axis], size, *local.shape[axis + 1 :])

    def shard(index):
        first = np.searchsorted(rows, index[axis].start or 0)
        count = len(range(*index[axis].indices(size)))
        return np.take(local, range(first, first + count), axis) if count < len(rows) else local

    return jax.make_array_from_callback(shape, sharded(mesh, axis), shard)


class Replicated:
    """A whole split for every device. Each process reads only what its devices hold of it, in a thread, from now on; the
    devices exchange the rest when the split is asked for.

    It is a bare thread because a run that fails meanwhile must not wait for it at its exit, as it would for an executor's.
    """

    def __init__(self, records: data.Records, fields, mesh):
        self._count, self._mesh, self._fields = len(records), mesh, fields
        self._padded = -(-self._count // mesh.size) * mesh.size
        self._rows = own_rows(mesh, self._padded)
        self._read = Future()
        threading.Thread(target=self._run, args=(records,), daemon=True).start()

    def __len__(self):
        return self._count

    def _run(self, records):
        try:
            self._read.set_result(records.read(np.minimum(self._rows, self._count - 1)))
        except BaseException as error:
            self._read.set_exception(error)

    def shapes(self) -> dict:
        """The shapes of what `columns` gives, before it is there."""
        spec = functools.partial(jax.ShapeDtypeStruct, sharding=replicated(self._mesh))
        return {name: spec((self._count, *field.shape), field.dtype) for name, field in self._fields.items()}

    @functools.cached_property
    def columns(self) -> dict:
        """The split's columns on the devices, once it is read; DataError if it cannot be."""
        split, self._read = self._read.result(), None
        parts = {
            name: to_devices(split.columns[name].astype(field.dtype), self._rows, self._padded, self._mesh)
            for name, field in self._fields.items()
        }
        whole = compiled(lambda parts: {name: part[: self._count] for name, part in parts.items()}, self._mesh)
        return whole(parts)


def check_memory(datasets, mesh) -> None:
    """RunError if sets, which lie whole on every device, would fill more than half of the smallest one."""
    limit, needed = device_memory(mesh), sum(dataset.nbytes for dataset in datasets)
    if needed > limit / 2:
        names = ' with '.join(repr(dataset.name) for dataset in datasets)
        raise RunError(
            f'data.name is {names}, which takes {needed / 2**30:.1f} GiB on every device; allowed: half of '
            f'a device, {limit / 2**31:.1f} GiB; set data.streaming=True, or smaller images (data.image_size)'
        )
