"""The sets that the benchmarks read, made on the spot from the embedded digits and scikit-learn's two photos."""

import contextlib
import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from gjax import data

BILINEAR = Image.Resampling.BILINEAR
JPEG = {'format': 'JPEG', 'quality': 90}
RECORDS = 'benchmark_digits'


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large everything is. Digits and photos: files for training (a tenth more for the test split), side, batch size."""

    digits: int = 4000
    small: int = 32
    small_batch: int = 128
    photos: int = 1000
    large: int = 224
    large_batch: int = 16


def make(root: Path, scale: Scale) -> None:
    """Writes three sets below `root`: records/ (TFDS, PNG), digits/ and photos/ (folders of JPEGs)."""
    dataset = data.load('mnistm5k')
    for split, count in (('train', scale.digits), ('test', scale.digits // 10)):
        _write(root / 'digits' / split, _digits(getattr(dataset, split), count, scale.small))
    for seed, (split, count) in enumerate((('train', scale.photos), ('test', scale.photos // 10))):
        _write(root / 'photos' / split, _patches(np.random.default_rng(seed), count, scale.large))
    _prepare(root / 'records', dataset, scale)


def _write(folder: Path, examples) -> None:
    for number, (image, label) in enumerate(examples):
        file = folder / f'{label}' / f'{number:05d}.jpg'
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file, **JPEG)


def _digits(split: data.Split, count: int, side: int):
    """Yields (image, label): `count` digits from the whole of `split`, so that no class is missing."""
    examples = split.read(np.arange(count) * len(split) // count)
    for image, label in zip(examples.images, examples.labels, strict=True):
        yield Image.fromarray(image).resize((side, side), BILINEAR), int(label)


def _patches(rng, count: int, side: int):
    """Yields (image, label): patches of the photos, a little larger than `side`, so that reading them resizes them."""
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    for number in range(count):
        photo = photos[number % len(photos)]
        extent = int(rng.integers(min(photo.size) // 2, min(photo.size)))
        left, top = (int(rng.integers(0, length - extent + 1)) for length in photo.size)
        width, height = (int(rng.uniform(1.12, 1.34) * side) for _ in range(2))
        yield photo.resize((width, height), BILINEAR, box=(left, top, left + extent, top + extent)), number % 10


def _prepare(folder: Path, dataset: data.Dataset, scale: Scale) -> None:
    """The same digits as a TFDS set in array_record format."""
    import tensorflow_datasets as tfds

    # Unregistered: reading then finds it by its files, as it would any prepared set.
    class BenchmarkDigits(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version('1.0.0')

        def _info(self):
            image = tfds.features.Image(shape=(scale.small, scale.small, 3))
            features = {'image': image, 'label': tfds.features.ClassLabel(num_classes=dataset.num_classes)}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, _):
            counts = {'train': scale.digits, 'test': scale.digits // 10}
            return {split: self._generate_examples(split, count) for split, count in counts.items()}

        def _generate_examples(self, split, count):
            for number, (image, label) in enumerate(_digits(getattr(dataset, split), count, scale.small)):
                yield f'{number:05d}', {'image': image, 'label': label}

    config = tfds.download.DownloadConfig(try_download_gcs=False)
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # it prints that it downloads
        BenchmarkDigits(data_dir=folder, file_format='array_record').download_and_prepare(download_config=config)
