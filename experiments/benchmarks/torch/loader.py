"""PyTorch's DataLoader over the same files; runs in a process without JAX (`peer.Peer`), so that its workers
may fork.

torchvision is not needed: the data sets are written out and do what its ImageFolder and a `tfds.data_source` do. Batches are
uint8 [B, H, W, 3]; `permute` makes them channels_last without a copy, which is the cheapest way to what a network takes.
"""

import os
import sys
import time

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, RandomSampler, default_collate

from experiments.benchmarks import measure

STREAMS = []


class Folder(Dataset):
    """class/image files as (uint8 [H, W, 3], label), squares of `side` pixels."""

    start = 'fork' if sys.platform == 'linux' else None  # PyTorch's own choice, which a spawned process no longer makes

    def __init__(self, root: str, side: int):
        classes = sorted(folder.path for folder in os.scandir(root) if folder.is_dir())
        self._files = [(os.path.join(folder, f), k) for k, folder in enumerate(classes) for f in sorted(os.listdir(folder))]
        self._side = side

    def __len__(self):
        return len(self._files)

    def __getitem__(self, row: int):
        file, label = self._files[row]
        with Image.open(file) as image:
            image = image.convert('RGB')
        if image.size != (self._side, self._side):
            image = image.resize((self._side, self._side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)), label


class Prepared(Dataset):
    """The training split of a prepared TFDS set; reads the records of a batch in one call, as TFDS sources can."""

    start = 'spawn'  # array_record's threads do not survive a fork: the worker would crash

    def __init__(self, name: str, directory: str):
        import tensorflow_datasets

        self._source = tensorflow_datasets.builder(name, data_dir=directory, try_gcs=False).as_data_source('train')

    def __len__(self):
        return len(self._source)

    def __getitem__(self, row: int):
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: list[int]):
        examples = self._source.__getitems__(rows)
        return [(torch.from_numpy(np.array(example['image'])), int(example['label'])) for example in examples]


DATASETS = {'folder': Folder, 'prepared': Prepared}


def _batches(dataset: Dataset, batch_size: int, workers: int):
    """An endless iterator of (images, labels) on the device."""
    torch.set_num_threads(1)  # as in its workers; on cores that others use too, more threads only wait for each other
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    # One permutation after the other in one pass, as ours: a pause after each would count too much on sets this small.
    sampler = RandomSampler(dataset, num_samples=1000 * len(dataset))
    options = {'sampler': sampler, 'batch_size': batch_size, 'drop_last': True, 'pin_memory': device == 'cuda'}
    if workers:
        options |= {'num_workers': workers, 'persistent_workers': True, 'multiprocessing_context': dataset.start}
    loader = DataLoader(dataset, **options)
    while True:
        for images, labels in loader:
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def examples(kind: str, options, rows):
    """(images, labels) of these rows as arrays, collated as for a batch."""
    dataset = DATASETS[kind](*options)
    images, labels = default_collate([dataset[row] for row in rows])
    return images.numpy(), labels.numpy()


def start(kind: str, options, batch_size: int, workers: int):
    """(number of a new stream of batches, seconds to its first batch)."""
    started = time.monotonic()
    STREAMS.append(_batches(DATASETS[kind](*options), batch_size, workers))
    next(STREAMS[-1])
    return len(STREAMS) - 1, time.monotonic() - started


def images_per_second(stream: int, batch_size: int, held: int, seconds: float) -> float:
    """As `measure.rate`, of the batches of a stream."""
    return measure.rate(STREAMS[stream], batch_size, held, seconds)


def stop() -> None:
    """Ends all streams."""
    while STREAMS:
        STREAMS.pop().close()
