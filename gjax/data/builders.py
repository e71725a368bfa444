"""Builders of image sets that TFDS lacks, prepared without TensorFlow: `gjax prepare NAME`, then config.data.name=NAME.

Files come from a folder where you put them, from a mirror, or from where they are published; known checksums are compared.
"""

import bz2
import contextlib
import dataclasses
import hashlib
import io
import os
import shutil
import sys
import tarfile
import urllib.request
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from gjax.data import sources
from gjax.data.dataset import DataError
from gjax.data.entries import is_hidden, is_image, listed, shown
from gjax.data.folders import held_out
from gjax.data.summary import check_readable, summary

_LIBSVM = 'https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass'
_DIGITS = tuple('0123456789')


@dataclasses.dataclass(frozen=True)
class File:
    """A published file. url: '' where there is none that a program may read. md5: '' where none is known."""

    name: str
    url: str = ''
    md5: str = ''


def _digest(path: Path) -> str:
    with open(path, 'rb') as stream:
        return hashlib.file_digest(stream, 'md5').hexdigest()


def fetch(file: File, folder: Path, *, mirror: str = '') -> Path:
    """The file in `folder`, downloaded if it is not there: from MIRROR/NAME, or from where it is published.

    Raises:
      DataError: it is nowhere to be had, or it is not the published one; the message says what to do.
    """
    path = folder / file.name
    if not path.is_file():
        url = f'{mirror.rstrip("/")}/{file.name}' if mirror else file.url
        advice = f'put it into {folder} (--manual_dir), or name a --mirror that has it'
        if not url:
            raise DataError(f'{file.name} is not in {folder}, and no public link to it can be read by a program; {advice}')
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f'{path.name}.{os.getpid()}.partial')
        try:
            with urllib.request.urlopen(url, timeout=60) as stream, open(partial, 'wb') as out:
                shutil.copyfileobj(stream, out)
            partial.replace(path)
        except (OSError, ValueError) as error:
            raise DataError(
                f'{file.name} cannot be downloaded from {url} ({" ".join(str(error).split())[:120]}); {advice}'
            ) from error
        finally:
            partial.unlink(missing_ok=True)
    if file.md5 and (found := _digest(path)) != file.md5:
        raise DataError(f'{path} has the MD5 sum {found}; the published file has {file.md5}: remove it to download it again')
    return path


class ImageSet(tfds.core.GeneratorBasedBuilder):
    """A set of labelled images; subclasses say which files they need and what is in them."""

    VERSION = tfds.core.Version('1.0.0')
    SHAPE: ClassVar[tuple] = (None, None, 3)
    CLASSES: ClassVar[tuple] = _DIGITS
    FILES: ClassVar[tuple] = ()
    SOURCE: ClassVar[str] = ''
    folder: Path  # where the files are, set by `prepare`
    mirror: str = ''

    def _info(self):
        features = {
            'image': tfds.features.Image(shape=self.SHAPE),
            'label': tfds.features.ClassLabel(names=list(self.CLASSES)),
        }
        features = tfds.features.FeaturesDict(features)
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=features,
            supervised_keys=('image', 'label'),
            homepage=self.SOURCE,
        )

    @property
    def left_out(self) -> str:
        """Which of its files it does not use, in words; known once `examples` has run."""
        return ''

    def fetch(self, file: File) -> Path:
        return fetch(file, self.folder, mirror=self.mirror)

    def examples(self, split: str):
        """Yields (key, encoded image or PIL image, label) of 'train' or 'test'."""
        raise NotImplementedError

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in ('train', 'test')}

    def _generate_examples(self, split):
        for key, image, label in self.examples(split):
            yield key, {'image': io.BytesIO(image) if isinstance(image, bytes) else image, 'label': label}


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
        with bz2.open(path, 'rt') as lines:
            for i, line in enumerate(lines):
                label, *pairs = line.split()
                pixels = np.full(256, -1.0)
                for pair in pairs:
                    at, value = pair.split(':')
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
        labels, path = {}, self.fetch(self.FILES[0])
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name.endswith(f'mnist_m_{split}_labels.txt'):
                    rows = archive.extractfile(member).read().decode().split()
                    labels = dict(zip(rows[::2], map(int, rows[1::2]), strict=True))
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name)
                if name.parent.name == f'mnist_m_{split}' and name.name in labels:
                    yield name.name, archive.extractfile(member).read(), labels[name.name]


class SynDigits(ImageSet):
    """Synthetic Digits, 32 x 32, 479,400 + 9,553 (Ganin et al. 2016, arXiv:1505.07818), from Matlab files."""

    SHAPE = (32, 32, 3)
    SOURCE = 'https://arxiv.org/abs/1505.07818'
    FILES = (File('synth_train_32x32.mat'), File('synth_test_32x32.mat'))

    def examples(self, split):
        from scipy.io import loadmat

        content = loadmat(self.fetch(self.FILES[split == 'test']), variable_names=('X', 'y'))
        images, labels = content['X'], content['y'].ravel()
        for i, label in enumerate(labels):
            yield i, Image.fromarray(np.ascontiguousarray(images[..., i])), int(label) % 10


class _Domains(ImageSet):
    """Sets of several domains, one TFDS configuration each: an archive of .../DOMAIN/.../CLASS/image.

    Hidden and system entries are skipped as in folders (`entries.is_hidden`); other files of the domain that are no images
    of its classes are left out, and counted.
    """

    DOMAINS: ClassVar[tuple] = ()
    _left: tuple[str, ...] = ()

    @property
    def left_out(self):
        files = 'file' if len(self._left) == 1 else 'files'
        return f'left out: {len(self._left)} {files} ({listed(self._left)})' if self._left else ''

    def archives(self) -> tuple[File, ...]:
        """The files that hold this domain, the first that is there counts."""
        raise NotImplementedError

    @contextlib.contextmanager
    def _members(self):
        """A context that gives {path in the archive: function that reads it}, sorted; links in an archive are followed."""
        archives = self.archives()
        here = [file for file in archives if (self.folder / file.name).is_file()]
        try:
            path = self.fetch((here or archives)[0])
        except DataError as error:
            if here:
                raise
            others = ', '.join(file.name for file in archives[1:])
            raise DataError(f'{error}; one of these does, too: {others}') from error
        with contextlib.ExitStack() as stack:
            if zipfile.is_zipfile(path):
                archive = stack.enter_context(zipfile.ZipFile(path))
                names = {name: (lambda name=name: archive.read(name)) for name in archive.namelist()}
            else:
                archive = stack.enter_context(tarfile.open(path))
                files = [member for member in archive.getmembers() if not member.isdir()]
                names = {m.name: (lambda m=m: archive.extractfile(m).read()) for m in files}
            yield dict(sorted(names.items()))

    def examples(self, split):
        domain = self.builder_config.name
        with self._members() as members:
            own, left = {}, []  # {path: class}, paths
            for name in members:
                parts = Path(name).parts
                if name.endswith('/') or any(map(is_hidden, parts)) or domain not in parts[:-1]:
                    continue
                if is_image(name) and domain in parts[:-2] and parts[-2] in self.CLASSES:
                    own[name] = self.CLASSES.index(parts[-2])
                else:
                    left.append(name)
            self._left = tuple(left)
            for (name, label), take in zip(own.items(), self.takes(list(own), list(own.values()), split), strict=True):
                if take:
                    key = '/'.join(Path(name).parts[-2:]).encode('utf-8', 'surrogateescape')  # any name has a key
                    yield key, members[name](), label

    def takes(self, names: list[str], labels: list[int], split: str):
        """Which of the images, by their paths in the archive and their classes, belong to the split: N bools."""
        raise NotImplementedError


def _configs(names, version=ImageSet.VERSION):
    return [tfds.core.BuilderConfig(name=name, version=version) for name in names]


class Office31(_Domains):
    """Office-31: amazon (2,817), dslr (498) and webcam (795) images of 31 classes (Saenko et al. 2010). Both splits hold all
    images of a domain: adaptation and its evaluation use the same, unlabelled ones."""

    SOURCE = 'https://faculty.cc.gatech.edu/~judy/domainadapt/'
    DOMAINS = ('amazon', 'dslr', 'webcam')
    BUILDER_CONFIGS = _configs(DOMAINS)
    CLASSES = (
        'back_pack',
        'bike',
        'bike_helmet',
        'bookcase',
        'bottle',
        'calculator',
        'desk_chair',
        'desk_lamp',
        'desktop_computer',
        'file_cabinet',
        'headphones',
        'keyboard',
        'laptop_computer',
        'letter_tray',
        'mobile_phone',
        'monitor',
        'mouse',
        'mug',
        'paper_notebook',
        'pen',
        'phone',
        'printer',
        'projector',
        'punchers',
        'ring_binder',
        'ruler',
        'scissors',
        'speaker',
        'stapler',
        'tape_dispenser',
        'trash_can',
    )
    _SHARED: ClassVar[dict] = {
        'amazon': 'https://cloud.tsinghua.edu.cn/f/05640442cd904c39ad60/?dl=1',
        'dslr': 'https://cloud.tsinghua.edu.cn/f/a069d889628d4b468c32/?dl=1',
        'webcam': 'https://cloud.tsinghua.edu.cn/f/4c4afebf51384cf1aa95/?dl=1',
    }

    def archives(self):
        domain = self.builder_config.name
        names = ('domain_adaptation_images.tar.gz', 'domain_adaptation_images.zip', 'office31.tar.gz', 'office31.zip')
        return (File(f'{domain}.tgz', self._SHARED[domain]), *map(File, names))

    def takes(self, names, labels, split):
        return [True] * len(names)


class Pacs(_Domains):
    """PACS: art_painting, cartoon, photo and sketch images of 7 classes, 9,991 (Li et al. 2017). A tenth of every class, by
    hash of the path, is the test split (`folders.held_out`); the published folds are of the same images."""

    VERSION = tfds.core.Version('1.1.0')  # 1.0.0 held out a tenth of all images, not of every class
    SHAPE = (227, 227, 3)
    SOURCE = 'https://arxiv.org/abs/1710.03077'
    DOMAINS = ('art_painting', 'cartoon', 'photo', 'sketch')
    BUILDER_CONFIGS = _configs(DOMAINS, VERSION)
    CLASSES = ('dog', 'elephant', 'giraffe', 'guitar', 'horse', 'house', 'person')

    def archives(self):
        return tuple(map(File, ('PACS.zip', 'pacs.zip', 'PACS.tar.gz')))

    def takes(self, names, labels, split):
        return held_out(['/'.join(Path(name).parts[-3:]) for name in names], labels) == (split == 'test')


BUILDERS = {'usps': Usps, 'mnist_m': MnistM, 'syn_digits': SynDigits, 'office31': Office31, 'pacs': Pacs}


def names() -> list[str]:
    """What `prepare` knows; sets of several domains as NAME/DOMAIN."""
    own = {name: getattr(builder, 'DOMAINS', ('',)) for name, builder in BUILDERS.items()}
    return [f'{name}/{domain}'.rstrip('/') for name, domains in own.items() for domain in domains]


def prepare(name: str, data_dir: str | None = None, *, manual_dir: str | None = None, mirror: str = '') -> Path:
    """Prepares a set, in array_record format, if it is not there yet, and reads an image of every split.

    The set in one line goes to stderr.

    Args:
      name: one of `names()`; a set of several domains without one prepares them all.
      data_dir: the TFDS directory; default TFDS_DATA_DIR, else ~/tfds.
      manual_dir: where published files are, or are put; default DATA_DIR/downloads/SET.
      mirror: a URL under which they lie by name; default GJAX_MIRROR, else where they are published.

    Returns:
      The folder of the (last) prepared set.

    Raises:
      DataError: an unknown name, a file that is missing or not the published one, one without examples, or a set that cannot
        be read back.
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
