"""Batches of a set larger than memory: decoded by Grain in worker processes, addressed by step.

Batch t is the same pure function of (seed, t) as in `batching`: the same examples in the same order, for any number of
workers and processes. So a run goes on at step t without reading what came before, and keeps no iterator state.
"""

import contextlib
import dataclasses
import functools
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading

import jax
import numpy as np

from gjax.data.batching import epoch_order
from gjax.data.dataset import DataError, Records


def _read(records: Records, index: np.ndarray, image_shape) -> dict[str, np.ndarray]:
    split = records.read(index)
    if split.images.shape[1:] != tuple(image_shape):
        raise DataError(
            f'images of shape {split.images.shape[1:]} among images of {tuple(image_shape)}; set data.image_size'
        )
    return {'image': split.images, 'label': split.labels.astype(np.int32), 'index': index.astype(np.int32)}


@dataclasses.dataclass(frozen=True, eq=False)
class TrainBatches:
    """The training batches of a run, as a random-access source; a process decodes only its `rows` of each.

    records: the split. key: words of the key that orders the epochs. batch_size: of the global batch. rows: which of its
    positions this process holds. num_steps: how many batches there are. image_shape: [H, W, C], the same for all images.
    """

    records: Records
    key: np.ndarray
    batch_size: int
    rows: np.ndarray
    num_steps: int
    image_shape: tuple[int, int, int]

    def __len__(self):
        return self.num_steps

    @functools.cached_property
    def _orders(self):
        return functools.lru_cache(2)(self._order)  # a batch needs one epoch's order; two meet where epochs do

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key != '_orders'}

    def _order(self, epoch: int) -> np.ndarray:
        with jax.default_device(_host_device()):
            rng = jax.random.wrap_key_data(self.key)
            return np.asarray(epoch_order(rng, epoch, len(self.records)))

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        """{'image': uint8 [b, H, W, C], 'label': int32 [b], 'index': int32 [b]}, b = len(rows)."""
        epoch, position = divmod(int(step), len(self.records) // self.batch_size)
        index = self._orders(epoch)[position * self.batch_size : (position + 1) * self.batch_size]
        return _read(self.records, index[self.rows], self.image_shape)


@dataclasses.dataclass(frozen=True, eq=False)
class EvalBatches:
    """A split in index order as batches of one size; the last repeats the last example. Fields as in `TrainBatches`."""

    records: Records
    batch_size: int
    rows: np.ndarray
    image_shape: tuple[int, int, int]

    def __len__(self):
        return -(-len(self.records) // self.batch_size)

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        index = np.minimum(int(number) * self.batch_size + self.rows, len(self.records) - 1)
        return _read(self.records, index, self.image_shape)


def _host_device():
    """A CPU device if this process may have one, else its first device."""
    try:
        return jax.local_devices(backend='cpu')[0]
    except RuntimeError:
        return jax.local_devices()[0]


def _start_worker(worker: int, workers: int) -> None:
    """A worker leaves signals to the run, never touches an accelerator, and ends when the run does, however it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # terminals and clusters send them to all processes at once
        signal.signal(number, signal.SIG_IGN)
    jax.config.update('jax_platforms', 'cpu')
    parent = multiprocessing.parent_process()

    def watch():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _start_tracker() -> None:
    """Starts the process that frees the shared memory which stopped workers leave.

    It is quiet about it: after a signal there always is some. Started later, by the thread that starts the first worker, it
    would lift that thread's block of signals.
    """
    options, sys.warnoptions = sys.warnoptions, ['ignore']
    try:
        multiprocessing.resource_tracker.ensure_running()
    finally:
        sys.warnoptions = options


@contextlib.contextmanager
def stream(batches, start: int, *, workers: int = 0, buffer: int = 2):
    """A context in which batches start, start + 1, ... are read ahead; gives their iterator.

    Args:
      batches: a `TrainBatches` or `EvalBatches`.
      start: the first batch.
      workers: processes that decode; 0: a thread of this one, or two where images are large.
      buffer: batches that each worker holds ready.

    Raises:
      DataError: from the iterator: an example cannot be read, or a worker has died.
    """
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain's workers ask absl's flags, which nobody here parses
    # Decoding small images holds Python's lock for most of its time: a second thread would only wait for the first.
    threads = 2 if not workers and min(batches.image_shape[:2]) >= 80 else 1
    reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer)
    dataset = grain.MapDataset.source(batches)[start:].to_iter_dataset(reading)
    if workers:
        _start_tracker()
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=buffer)
        dataset = dataset.mp_prefetch(options, worker_init_fn=_start_worker)
    iterator = iter(dataset)
    try:
        yield iterator
    finally:
        iterator.close()
