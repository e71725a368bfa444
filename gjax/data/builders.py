"""Builders of image sets that TFDS lacks or needs TensorFlow for: `gjax prepare NAME`, then config.data.name=NAME.

Files come from a folder where you put them, from a mirror, or from where they are published; known checksums are compared.
"""

import bz2
import contextlib
import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from gjax.data import sources
from gjax.data.dataset import DataError
from gjax.data.domain_sets import DomainNet, Office31, OfficeCaltech10, Pacs, PacsKfold
from gjax.data.downloads import File, read_tarred
from gjax.data.entries import is_hidden, is_image, listed, shown
from gjax.data.image_set import ImageSet
from gjax.data.summary import check_readable, summary

_LIBSVM = 'https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass'
_LINE = 2**16  # characters of a line of USPS, which has 256 pixels
_MOST_IMAGES = 2**20


class Usps(ImageSet):
    """USPS digits, 16 x 16 grey, 7,291 + 2,007 (Hull 1994), from LIBSVM's text files."""

    SHAPE = (16, 16, 1)
    SOURCE = f'{_LIBSVM}.html#usps'
    FILES = (
        File('usps.bz2', f'{_LIBSVM}/usps.bz2', 'ec16c51db3855ca6c91edd34d0e9b197'),
        File('usps.t.bz2', f'{_LIBSVM}/usps.t.bz2', '8ea070ee2aca1ac39742fdd1ef5ed118'),
    )

    def examples(self, split):
        path = self.fetch(self.FILES[split == 'test'])
        with bz2.open(path, 'rt', encoding='ascii') as lines:
            for i, line in enumerate(iter(lambda: lines.readline(_LINE), '')):
                if len(line) == _LINE:
                    raise DataError(f'{path.name} has a line {i + 1} of {_LINE:,} characters or more; allowed: fewer')
                label, *pairs = line.split()
                pixels = np.full(256, -1.0)
                for pair in pairs:
                    at, value = pair.split(':')
                    if not (1 <= int(at) <= 256 and -1 <= float(value) <= 1):
                        raise DataError(f'{path.name} has {shown(pair[:40])} in line {i + 1}; allowed: 1..256:-1..1')
                    pixels[int(at) - 1] = float(value)
                image = np.round(255 * (pixels.reshape(16, 16) + 1) / 2).clip(0, 255).astype(np.uint8)
                yield i, Image.fromarray(image), int(label) - 1


class MnistM(ImageSet):
    """MNIST-M, digits on photos, 32 x 32, 59,001 + 9,001 (Ganin et al. 2016, arXiv:1505.07818)."""

    SHAPE = (32, 32, 3)
    SOURCE = 'https://arxiv.org/abs/1505.07818'
    FILES = (
        File(
            'mnist_m.tar.gz',
            'https://cornell.box.com/shared/static/jado7quprg6hzzdubvwzh9umr75damwi',
            '859df31c91afe82e80e5012ba928f279',
        ),
    )

    def examples(self, split):
        path, missing = self.fetch(self.FILES[0]), set()
        with tarfile.open(path) as archive:
            labels = self._labels(path.name, archive, split)
            missing |= labels.keys()
            for member in archive.getmembers():
                *parents, name = Path(member.name).parts
                if parents[-1:] != [f'mnist_m_{split}'] or any(map(is_hidden, (*parents, name))) or not is_image(name):
                    continue
                if name not in labels:
                    raise DataError(f'{path.name}: {shown(member.name)} has no label; allowed: a label for every image')
                missing.discard(name)
                yield name, read_tarred(archive, member, path.name), labels[name]
        if missing:
            raise DataError(f'{path.name} lacks {len(missing)} {split} images that have labels ({listed(sorted(missing))})')

    @staticmethod
    def _labels(name: str, archive: tarfile.TarFile, split: str) -> dict[str, int]:
        """{image's name: class} of a split."""
        file = f'mnist_m_{split}_labels.txt'
        found = [
            member for member in archive.getmembers() if member.name.endswith(file) and not is_hidden(Path(member.name).name)
        ]
        if len(found) != 1:
            raise DataError(f'{name} holds {len(found)} files {file}; allowed: one')
        rows = read_tarred(archive, found[0], name).decode().split()
        labels = dict(zip(rows[::2], map(int, rows[1::2]), strict=True))
        if 2 * len(labels) < len(rows):
            raise DataError(f'{name}: {shown(found[0].name)} has two labels for one image; allowed: one')
        return labels


class SynDigits(ImageSet):
    """Synthetic Digits, 32 x 32, 479,400 + 9,553 (Ganin et al. 2016, arXiv:1505.07818), from Matlab files."""

    SHAPE = (32, 32, 3)
    SOURCE = 'https://arxiv.org/abs/1505.07818'
    FILES = (File('synth_train_32x32.mat'), File('synth_test_32x32.mat'))

    def examples(self, split):
        from scipy.io import loadmat, whosmat

        path = self.fetch(self.FILES[split == 'test'])
        shapes = {name: (tuple(shape), kind) for name, shape, kind in whosmat(path)}
        if lacking := [name for name in ('X', 'y') if name not in shapes]:
            raise DataError(f'{path.name} lacks {", ".join(lacking)}; needed: X, y')
        (shape, kind), (counts, _) = shapes['X'], shapes['y']
        if shape[:-1] != self.SHAPE or kind != 'uint8' or shape[-1] > _MOST_IMAGES:
            raise DataError(
                f'{path.name} has X of {kind} {shape}; allowed: uint8 (32, 32, 3, N), N at most {_MOST_IMAGES:,}'
            )
        if sorted(counts) != [1, shape[-1]] and counts != shape[-1:]:
            raise DataError(f'{path.name} has {shape[-1]} images and labels of {counts}; allowed: ({shape[-1]}, 1)')
        content = loadmat(path, variable_names=('X', 'y'))
        images, labels = content['X'], content['y'].ravel()
        if len(bad := labels[~np.isin(labels, range(11))]):
            raise DataError(f'{path.name} has the label {bad[0]}; allowed: 0..9, and 10 for 0')
        for i, label in enumerate(labels):
            yield i, Image.fromarray(np.ascontiguousarray(images[..., i])), int(label) % 10


BUILDERS = {
    'usps': Usps,
    'mnist_m': MnistM,
    'syn_digits': SynDigits,
    'office31': Office31,
    'office_caltech10': OfficeCaltech10,
    'pacs': Pacs,
    'pacs_kfold': PacsKfold,
    'domainnet': DomainNet,
}


def names() -> list[str]:
    """What `prepare` knows; sets of several domains as NAME/DOMAIN."""
    own = {name: getattr(builder, 'DOMAINS', ('',)) for name, builder in BUILDERS.items()}
    return [f'{name}/{domain}'.rstrip('/') for name, domains in own.items() for domain in domains]


def prepare(name: str, data_dir: str | None = None, *, manual_dir: str | None = None, mirror: str = '') -> Path:
    """Prepares a set, in array_record format, if it is not there yet, and reads an image of every split back.

    While a set is made every image is decoded once. The set in one line goes to stderr.

    Args:
      name: one of `names()`; a set of several domains without one prepares them all.
      data_dir: the TFDS directory; default TFDS_DATA_DIR, else ~/tensorflow_datasets.
      manual_dir: where published files are, or are put; default DATA_DIR/downloads/SET.
      mirror: a URL under which they lie by name; default GJAX_MIRROR, else where they are published.

    Returns:
      The folder of the (last) prepared set.

    Raises:
      DataError: an unknown name; a file that is missing, not the published one, without examples, or with an image that
        cannot be decoded, two of one name, or images and labels that do not fit; a set that cannot be read back.
    """
    base, _, domain = name.partition('/')
    if name not in names() and name not in BUILDERS:
        raise DataError(f'there is no set {name!r} to prepare; known: {", ".join(names())}')
    if os.environ.get('GJAX_PROGRESS') == '0':
        tfds.disable_progress_bar()
    domains = (domain,) if domain else getattr(BUILDERS[base], 'DOMAINS', ('',))
    directory, ready = sources.tfds_directory(data_dir), None
    for own in domains:
        options = {'config': own} if own else {}
        builder = BUILDERS[base](data_dir=str(directory), file_format='array_record', **options)
        builder.folder = Path(manual_dir) if manual_dir else directory / 'downloads' / base
        builder.mirror = mirror or os.environ.get('GJAX_MIRROR', '')
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        try:
            with contextlib.redirect_stdout(sys.stderr):  # TFDS tells what it does
                builder.download_and_prepare(download_config=config)
        except DataError:
            raise
        except Exception as error:
            reason = ' '.join(str(error).split())[:160]
            if 'No examples were yielded' in reason:
                reason = f'they hold no images of {f"{base}/{own}".rstrip("/")}'
            raise DataError(f'{base} cannot be prepared from the files in {builder.folder}: {reason}') from error
        ready = Path(builder.data_dir)
        _check_prepared(f'{base}/{own}'.rstrip('/'), directory, ready, builder.left_out)
    return ready


def _check_prepared(name: str, directory: Path, ready: Path, left_out: str) -> None:
    """Says in one line, on stderr, what has been prepared; DataError if it cannot be read."""
    try:
        dataset = sources.tfds(name, str(directory))
        check_readable(dataset)
    except DataError as error:
        raise DataError(f'{error}, from other files: remove {ready} before') from error
    print(', '.join([summary(dataset), *([shown(left_out)] if left_out else [])]), file=sys.stderr)
