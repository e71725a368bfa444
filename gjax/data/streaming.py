"""Batches of a set larger than memory: decoded by Grain in worker processes, addressed by step.

Batch t is the same pure function of (seed, t) as in `batching`: the same examples in the same order, for any number of
workers and processes. So a run goes on at step t without reading what came before, and keeps no iterator state.
"""

import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading

import jax
import numpy as np

from gjax import signals
from gjax.data.dataset import DataError, Records
from gjax.data.pool import HostDraw


def _read(records: Records, index: np.ndarray, image_shape) -> dict[str, np.ndarray]:
    columns = dict(records.read(index).columns)
    first = columns['image' if 'image' in columns else 'points']
    if first.shape[1:] != tuple(image_shape):
        raise DataError(f'images of shape {first.shape[1:]} among images of {tuple(image_shape)}; set data.image_size')
    labels = {'label': _as_stored(columns['label'])} if 'label' in columns else {}
    return {**columns, **labels, 'index': index.astype(np.int32)}


def _as_stored(labels: np.ndarray) -> np.ndarray:
    """Classes as int32; label maps, which are large, as they are."""
    return labels if labels.ndim == 3 else labels.astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class TrainBatches:
    """The training batches of a role, as a random-access source; a process decodes only its `rows` of each."""

    records: Records  # the pool
    order: HostDraw
    rows: np.ndarray  # which positions of a batch this process holds
    num_steps: int  # how many batches there are
    image_shape: tuple[int, ...]  # of one image, the same for all

    def __len__(self):
        return self.num_steps

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        """{'image': uint8 [b, H, W, C], 'label': int32 [b] or uint8 maps, if there are labels, 'index': int32 [b]}, b =
        len(rows)."""
        return _read(self.records, self.order(step)[self.rows], self.image_shape)


@dataclasses.dataclass(frozen=True, eq=False)
class EvalBatches:
    """Examples of a split as batches of one size; the last repeats the last example."""

    records: Records
    chosen: np.ndarray  # rows of the split, in the order in which they come
    batch_size: int
    rows: np.ndarray  # which positions of a batch this process holds
    image_shape: tuple[int, ...]

    def __len__(self):
        return -(-len(self.chosen) // self.batch_size)

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        place = np.minimum(int(number) * self.batch_size + self.rows, len(self.chosen) - 1)
        return _read(self.records, self.chosen[place], self.image_shape)


def _start_worker(worker: int, workers: int) -> None:
    """A worker leaves signals to the run, never touches an accelerator, and ends when the run does, however it ends."""
    for number in signals.STOPS:  # terminals and clusters send them to all processes at once
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
