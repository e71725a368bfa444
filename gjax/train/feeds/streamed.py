"""Sets that are decoded ahead of the run, in worker processes; each process decodes the rows that its devices hold."""

import contextlib
import itertools
import queue
import signal
import threading
import time

import jax
import numpy as np

from gjax import data, signals
from gjax.data.streaming import EvalBatches, TrainBatches, stream
from gjax.train.feeds.placement import own_rows, to_devices
from gjax.train.feeds.pools import Pool

CHUNK_BYTES = 2**28  # a streamed chunk of several steps takes no more than this, unless one batch does


class Streamed:
    """A feed of streamed sets, with the functions of `Resident`."""

    def __init__(
        self,
        datasets: dict[str, data.Dataset],
        pools: dict[str, Pool],
        mesh,
        *,
        num_steps: int,
        max_steps: int,
        workers: int,
    ):
        self.mesh, self._datasets, self._pools, self._workers = mesh, datasets, pools, workers
        self.waited, self._max_steps, self._batches, self._starts = 0.0, max_steps, {}, {}
        for role, pool in pools.items():
            order = data.HostDraw(pool.draw, np.asarray(jax.random.key_data(pool.rng)))
            rows = own_rows(mesh, pool.draw.batch_size)
            shape = datasets[pool.role.sets[0]].image_shape
            self._batches[role] = TrainBatches(pool.records, order, rows, num_steps, shape)
            for own, start in zip(pool.role.sets, (0, *pool.records.bounds), strict=False):
                self._starts.setdefault((own, 'train'), start)

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
        with contextlib.ExitStack() as stack:

            def assemble(role, batches):
                for count in counts:
                    yield self._chunk(role, [_next(batches) for _ in range(count)])

            each = {}
            for role, own in self._batches.items():
                batches = stack.enter_context(stream(own, start, workers=self._workers))
                each[role] = stack.enter_context(_Ahead(assemble(role, batches), self, busy))
            yield ({role: next(chunks) for role, chunks in each.items()} for _ in counts)

    def _chunk(self, role: str, batches):
        chunk = {}
        for name, first in batches[0].items():
            array = np.zeros((self._max_steps, *first.shape), first.dtype)
            for i, batch in enumerate(batches):
                array[i] = batch[name]
            size = self._pools[role].draw.batch_size
            chunk[name] = to_devices(array, self._batches[role].rows, size, self.mesh, axis=1)
        return chunk

    def begin(self, source, first_step, max_steps: int):
        """Inside jit: the function (i, step) -> {role: batch} of the i-th step after `first_step`."""

        def read(i, step):
            found = {}
            for role, pool in self._pools.items():
                arrays = source[role].items()
                batch = {name: jax.lax.dynamic_index_in_dim(array, i, keepdims=False) for name, array in arrays}
                found[role] = pool.batch(self.batch(batch))
            return found

        return read

    @contextlib.contextmanager
    def examples(self, name: str, split: str, batch_size: int, rows=None):
        """A context that gives an iterator of (source, mask) over a split of the set `name`, in index order.

        rows: only these rows of it, in this order. The 'index' of a training example is its place in the pool.
        """
        records = self._datasets[name].splits[split]
        chosen = np.arange(len(records)) if rows is None else np.asarray(rows)
        places = own_rows(self.mesh, batch_size)
        batches = EvalBatches(records, chosen, batch_size, places, self._datasets[name].image_shape)

        def sources(read):
            for start in range(0, len(chosen), batch_size):
                columns = _next(read)
                columns['index'] = columns['index'] + np.int32(self._starts.get((name, split), 0))
                batch = {k: to_devices(v, places, batch_size, self.mesh) for k, v in columns.items()}
                yield batch, np.arange(start, start + batch_size) < len(chosen)

        with stream(batches, 0, workers=self._workers) as read, _Ahead(sources(read), self) as ahead:
            yield ahead

    def batch(self, source) -> dict:
        """Inside jit: the batch of a source of `examples`."""
        columns = {name: values for name, values in source.items() if name != 'index'}
        return data.to_batch(columns, source['index'])


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
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.STOPS)
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
