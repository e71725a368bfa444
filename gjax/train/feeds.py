"""Where a run's batches come from: a set that lies whole on the devices, or one that is streamed to them.

Both feeds give the same batches. Each has two halves: host methods that yield `source`s (pytrees of global arrays), and
functions, called inside a compiled function, that make batches of a source.
"""

import contextlib
import functools
import itertools
import queue
import signal
import threading
import time
from concurrent.futures import Future

import jax
import jax.numpy as jnp
import numpy as np

from gjax import data
from gjax.data.streaming import EvalBatches, TrainBatches, stream
from gjax.train.devices import compiled, device_memory, replicated, sharded
from gjax.train.errors import RunError

CHUNK_BYTES = 2**28  # a streamed chunk of several steps takes no more than this, unless one batch does


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


class _Replicated:
    """A whole split for every device. A process reads only what its devices hold of it, in a thread, from now on; the
    devices exchange the rest when it is asked for.

    (A bare thread, for a run that fails meanwhile does not wait for it at its exit, as it would for an executor's.)
    """

    def __init__(self, records: data.Records, image_shape, mesh):
        self._count, self._mesh, self._shape = len(records), mesh, tuple(image_shape)
        self._padded = -(-self._count // mesh.size) * mesh.size
        self._rows = own_rows(mesh, self._padded)
        self._read = Future()
        threading.Thread(target=self._run, args=(records,), daemon=True).start()

    def _run(self, records):
        try:
            self._read.set_result(records.read(np.minimum(self._rows, self._count - 1)))
        except BaseException as error:
            self._read.set_exception(error)

    def shapes(self) -> data.DeviceData:
        """What `get` gives, before it is there."""
        spec = functools.partial(jax.ShapeDtypeStruct, sharding=replicated(self._mesh))
        return data.DeviceData(spec((self._count, *self._shape), jnp.uint8), spec((self._count,), jnp.int32))

    def get(self) -> data.DeviceData:
        """The split, once it is read; DataError if it cannot be."""
        split, self._read = self._read.result(), None
        arrays = split.images, split.labels.astype(np.int32)
        parts = [to_devices(array, self._rows, self._padded, self._mesh) for array in arrays]
        whole = compiled(lambda parts: [part[: self._count] for part in parts], self._mesh)
        return data.DeviceData(*whole(parts))


class Resident:
    """The set lies whole, as uint8, on every device; batches are gathered inside the compiled step. It is decoded in threads
    from now on; what needs it waits.
    """

    waited = 0.0  # seconds that training waited for data

    def __init__(self, dataset: data.Dataset, mesh, rng, batch_size: int):
        self.mesh, self._batch_size, self._rng = mesh, batch_size, rng
        self._train, self._test = (_Replicated(split, dataset.image_shape, mesh) for split in (dataset.train, dataset.test))

    @functools.cached_property
    def train(self) -> data.DeviceData:
        """The training split."""
        return self._train.get()

    @functools.cached_property
    def test(self) -> data.DeviceData:
        """The test split."""
        return self._test.get()

    def source_shapes(self):
        """The shapes of a source of `chunks`, with which the loop can be compiled before there is one."""
        return self._train.shapes(), self._rng

    def load(self) -> None:
        """Returns when the set lies on the devices; DataError if it cannot be read."""
        _ = self.train, self.test

    @contextlib.contextmanager
    def chunks(self, start: int, counts, busy=lambda: False):
        """A context that gives an iterator of sources, one for each of `counts` steps from step `start` on.

        busy: () -> whether the devices compute meanwhile; to wait then is not to wait for data.
        """
        yield ((self.train, self._rng) for _ in counts)

    def begin(self, source, first_step, max_steps: int):
        """Inside jit: the function (i, step) -> batch of the i-th step after `first_step`."""
        split, rng = source
        num_examples = split.labels.shape[0]
        steps_per_epoch = num_examples // self._batch_size
        first_epoch = first_step // steps_per_epoch
        epochs = 1 + -(-max_steps // steps_per_epoch)
        orders = jnp.stack([data.epoch_order(rng, first_epoch + i, num_examples) for i in range(epochs)])

        def read(i, step):
            epoch, position = step // steps_per_epoch, step % steps_per_epoch
            order = orders[epoch - first_epoch]
            index = jax.lax.dynamic_slice_in_dim(order, position * self._batch_size, self._batch_size)
            return data.gather(split, jax.lax.with_sharding_constraint(index, sharded(self.mesh)))

        return read

    @contextlib.contextmanager
    def examples(self, name: str, batch_size: int):
        """A context that gives an iterator of (source, mask) over the split `name`, 'train' or 'test', in index order."""
        split = getattr(self, name)
        total = split.labels.shape[0]
        starts = range(0, total, batch_size)
        index = (np.arange(start, start + batch_size) for start in starts)
        yield (((split, np.minimum(rows, total - 1)), rows < total) for rows in index)

    def batch(self, source):
        """Inside jit: the batch of a source of `examples`."""
        split, index = source
        return data.gather(split, jax.lax.with_sharding_constraint(index, sharded(self.mesh)))


class Streamed:
    """The set is decoded ahead of the run, in worker processes; each process decodes the rows that its devices hold."""

    def __init__(self, dataset: data.Dataset, mesh, rng, batch_size: int, num_steps: int, max_steps: int, workers: int):
        self.mesh, self._dataset, self._workers = mesh, dataset, workers
        self.waited = 0.0
        self._batch_size, self._max_steps = batch_size, max_steps
        rows, key = own_rows(mesh, batch_size), np.asarray(jax.random.key_data(rng))
        self._batches = TrainBatches(dataset.train, key, batch_size, rows, num_steps, dataset.image_shape)

    def source_shapes(self):
        """None: its workers decode ahead while the loop compiles at its first call."""
        return None

    def load(self) -> None:
        """Nothing is read before it is needed."""

    @contextlib.contextmanager
    def chunks(self, start: int, counts, busy=lambda: False):
        """A context that gives an iterator of sources, one for each of `counts` steps from step `start` on.

        busy: () -> whether the devices compute meanwhile; to wait then is not to wait for data.
        """

        def assemble(batches):
            for count in counts:
                yield self._chunk([_next(batches) for _ in range(count)])

        with stream(self._batches, start, workers=self._workers) as batches, _Ahead(assemble(batches), self, busy) as chunks:
            yield chunks

    def _chunk(self, batches):
        chunk = {}
        for name, first in batches[0].items():
            array = np.zeros((self._max_steps, *first.shape), first.dtype)
            for i, batch in enumerate(batches):
                array[i] = batch[name]
            chunk[name] = to_devices(array, self._batches.rows, self._batch_size, self.mesh, axis=1)
        return chunk

    def begin(self, source, first_step, max_steps: int):
        """Inside jit: the function (i, step) -> batch of the i-th step after `first_step`."""

        def read(i, step):
            batch = {name: jax.lax.dynamic_index_in_dim(array, i, keepdims=False) for name, array in source.items()}
            return self.batch(batch)

        return read

    @contextlib.contextmanager
    def examples(self, name: str, batch_size: int):
        """A context that gives an iterator of (source, mask) over the split `name`, 'train' or 'test', in index order."""
        records = getattr(self._dataset, name)
        rows, total = own_rows(self.mesh, batch_size), len(records)
        batches = EvalBatches(records, batch_size, rows, self._dataset.image_shape)

        def sources(read):
            for start in range(0, total, batch_size):
                batch = {k: to_devices(v, rows, batch_size, self.mesh) for k, v in _next(read).items()}
                yield batch, np.arange(start, start + batch_size) < total

        with stream(batches, 0, workers=self._workers) as read, _Ahead(sources(read), self) as ahead:
            yield ahead

    def batch(self, source):
        """Inside jit: the batch of a source of `examples`."""
        return data.to_batch(source['image'], source['label'], source['index'])


class Domains:
    """Several sets at once, each with its own feed and its own order: a batch is {domain: its batch}.

    Splits are called 'DOMAIN/train' and 'DOMAIN/test'. unlabelled: domains whose labels no training step sees.
    """

    def __init__(self, feeds: dict, unlabelled=()):
        self._feeds, self._unlabelled = feeds, unlabelled
        self.batch = next(iter(feeds.values())).batch  # of examples: alike for feeds of one kind

    @property
    def waited(self) -> float:
        return sum(feed.waited for feed in self._feeds.values())

    def source_shapes(self):
        """As a feed's, of each domain; None if those have none."""
        shapes = {name: feed.source_shapes() for name, feed in self._feeds.items()}
        return None if None in shapes.values() else shapes

    def load(self) -> None:
        """As a feed's, of each domain."""
        for feed in self._feeds.values():
            feed.load()

    @contextlib.contextmanager
    def chunks(self, start: int, counts, busy=lambda: False):
        """As a feed's, of all domains."""
        with contextlib.ExitStack() as stack:
            each = [stack.enter_context(feed.chunks(start, counts, busy)) for feed in self._feeds.values()]
            yield (dict(zip(self._feeds, sources, strict=True)) for sources in zip(*each, strict=True))

    def begin(self, source, first_step, max_steps: int):
        """Inside jit: the function (i, step) -> batch of the i-th step after `first_step`."""
        reads = {name: feed.begin(source[name], first_step, max_steps) for name, feed in self._feeds.items()}

        def read(i, step):
            batch = {name: own(i, step) for name, own in reads.items()}
            for name in self._unlabelled:
                del batch[name]['label']
            return batch

        return read

    def examples(self, name: str, batch_size: int):
        """A context that gives an iterator of (source, mask) over the split `name`, in index order."""
        domain, _, split = name.partition('/')
        return self._feeds[domain].examples(split, batch_size)


def _next(iterator):
    """The next batch; DataError, in place of Grain's own errors, if a worker has died."""
    try:
        return next(iterator)
    except (RuntimeError, OSError) as error:
        reason = ' '.join(str(error).split())[:160]
        shared = isinstance(error, OSError) or 'exit code -7' in reason
        hint = '; workers pass batches through /dev/shm, which is too small (containers: 64 MB)' if shared else ''
        raise data.DataError(f'a data worker failed: {reason}{hint}') from error


class _Ahead:
    """An iterator run one item ahead in a thread; the seconds that its consumer waits while not `busy` are added to
    `account.waited`.
    """

    def __init__(self, iterator, account, busy=lambda: False):
        self._iterator, self._account, self._busy = iterator, account, busy
        self._ready: queue.Queue = queue.Queue(1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        # The workers that this thread starts inherit its mask: a terminal's or a cluster's signal to all processes must not
        # end one half-way through its start, which would leave the run waiting for it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            for item in itertools.chain(self._iterator, [StopIteration()]):
                if not self._put(item):
                    return
        except Exception as error:
            self._put(error)

    def _put(self, item) -> bool:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put(item, timeout=0.1)
                return True
        return False

    def __enter__(self):
        self._thread.start()
        return self

    def __iter__(self):
        return self

    def __next__(self):
        item = None
        while item is None:
            started, busy = time.monotonic(), self._busy()
            with contextlib.suppress(queue.Empty):
                item = self._ready.get(timeout=0.01 if busy else None)
            self._account.waited += 0.0 if busy else time.monotonic() - started
        if isinstance(item, Exception):
            raise item
        return item

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def check_memory(datasets, mesh) -> None:
    """RunError if sets, which lie whole on every device, would fill more than half of the smallest one."""
    limit, needed = device_memory(mesh), sum(dataset.nbytes for dataset in datasets)
    if needed > limit / 2:
        names = ' with '.join(repr(dataset.name) for dataset in datasets)
        raise RunError(
            f'data.name is {names}, which takes {needed / 2**30:.1f} GiB on every device; allowed: half of '
            f'a device, {limit / 2**31:.1f} GiB; set data.streaming=True, or smaller images (data.image_size)'
        )
