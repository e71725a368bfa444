"""Builders of sets of several domains, one TFDS configuration each: by an archive alone, or with published lists."""

from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from gjax.data import domainnet
from gjax.data.dataset import DataError
from gjax.data.downloads import File, members, read_member
from gjax.data.entries import is_hidden, is_image, listed, shown
from gjax.data.folders import held_out
from gjax.data.image_set import ImageSet


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

    def _archive(self) -> Path:
        """The first of `archives` that is there, else the first, downloaded."""
        archives = self.archives()
        here = [file for file in archives if (self.folder / file.name).is_file()]
        try:
            return self.fetch((here or archives)[0])
        except DataError as error:
            if here:
                raise
            others = ', '.join(file.name for file in archives[1:])
            raise DataError(f'{error}; one of these does, too: {others}' if others else str(error)) from error

    def examples(self, split):
        domain = self.builder_config.name
        with members(self._archive()) as readers:
            own, left = {}, []  # {path: class}, paths
            for name in readers:
                parts = Path(name).parts
                if any(map(is_hidden, parts)) or domain not in parts[:-1]:
                    continue
                if is_image(name) and domain in parts[:-2] and parts[-2] in self.CLASSES:
                    own[name] = self.CLASSES.index(parts[-2])
                else:
                    left.append(name)
            self._left = tuple(left)
            for (name, label), take in zip(own.items(), self.takes(list(own), list(own.values()), split), strict=True):
                if take:
                    key = '/'.join(Path(name).parts[-2:]).encode('utf-8', 'surrogateescape')  # any name has a key
                    yield key, readers[name](), label

    def takes(self, names: list[str], labels: list[int], split: str):
        """Which of the images, by their paths in the archive and their classes, belong to the split: N bools.

        All by default, for adaptation and its evaluation use the same, unlabelled images.
        """
        return [True] * len(names)


class _Listed(_Domains):
    """Sets of several domains whose splits are published as lists, a line `DOMAIN/CLASS/IMAGE LABEL` for each image.

    Images of the domain that no list names are left out, and counted. An image that a list names and the archive lacks, or
    whose folder is another class than its label, is refused.
    """

    FIRST_LABEL: ClassVar[int] = 0  # the label of the first class in the lists
    _both = 0  # images that both lists name

    @property
    def left_out(self):
        both = f'{self._both} {"image" if self._both == 1 else "images"} in both lists' if self._both else ''
        return ', '.join(filter(None, (super().left_out, both)))

    def lists(self) -> dict[str, File]:
        """The list of each split of this domain, by 'train' and 'test'."""
        raise NotImplementedError

    def _read_list(self, file: File) -> dict[str, int]:
        """{DOMAIN/CLASS/IMAGE: class, from 0} of a list."""
        path, found = self.fetch(file), {}
        with open(path, 'rb') as stream:
            text = read_member(stream, path.name, path.stat().st_size).decode()
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            image, _, label = line.strip().rpartition(' ')
            at = int(label) - self.FIRST_LABEL if label.isdecimal() else -1
            parts, is_class = image.split('/'), 0 <= at < len(self.CLASSES)
            if not is_class or len(parts) != 3 or parts[:2] != [self.builder_config.name, self.CLASSES[at]]:
                first, last = self.FIRST_LABEL, self.FIRST_LABEL + len(self.CLASSES) - 1
                raise DataError(
                    f'{path.name} has {shown(line[:80])!r} in line {number}; allowed: {self.builder_config.name}/'
                    f'CLASS/IMAGE and the label of CLASS, {first} for {self.CLASSES[0]} to {last} for {self.CLASSES[-1]}'
                )
            if image in found:
                raise DataError(f'{path.name} has {shown(image)!r} twice; allowed: each image once')
            found[image] = at
        return found

    def examples(self, split):
        domain, lists = self.builder_config.name, {own: self._read_list(file) for own, file in self.lists().items()}
        self._both = len(lists['train'].keys() & lists['test'].keys())
        archive = self._archive()
        with members(archive) as readers:
            found, left = {}, []  # {DOMAIN/CLASS/IMAGE: path in the archive}, paths
            for name in readers:
                parts = Path(name).parts
                if any(map(is_hidden, parts)) or domain not in parts[:-1]:
                    continue
                image = '/'.join(parts[-3:])
                if not any(image in own for own in lists.values()):
                    left.append(name)
                elif image in found:
                    raise DataError(f'{archive.name} holds {shown(image)} twice, {shown(found[image])} and {shown(name)}')
                else:
                    found[image] = name
            self._left = tuple(left)
            if missing := sorted(lists[split].keys() - found.keys()):
                raise DataError(
                    f'{archive.name} lacks {len(missing):,} images that {self.lists()[split].name} names ({listed(missing)})'
                )
            for image, label in lists[split].items():
                key = image.removeprefix(f'{domain}/').encode('utf-8', 'surrogateescape')
                yield key, readers[found[image]](), label


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


class OfficeCaltech10(_Domains):
    """Office-Caltech10: amazon (958), caltech (1,123), dslr (157) and webcam (295) images of the 10 classes that Office-31
    and Caltech-256 share, in folders that are called as in Office-31 (Gong et al. 2012). Both splits hold all images of a
    domain, as of Office-31: none is published. Classes beside the 10 are left out."""

    SOURCE = 'https://faculty.cc.gatech.edu/~judy/domainadapt/'
    DOMAINS = ('amazon', 'caltech', 'dslr', 'webcam')
    BUILDER_CONFIGS = _configs(DOMAINS)
    CLASSES = (
        'back_pack',
        'bike',
        'calculator',
        'headphones',
        'keyboard',
        'laptop_computer',
        'monitor',
        'mouse',
        'mug',
        'projector',
    )

    def archives(self):
        # The link is that of the Transfer Learning Library, of which no checksum is published.
        shared = File('officecaltech.tgz', 'https://cloud.tsinghua.edu.cn/f/e93f2e07d93243d6b57e/?dl=1')
        names = ('office_caltech_10.zip', 'office_caltech_10.tar.gz', f'{self.builder_config.name}.zip')
        return (shared, *map(File, names))


_PACS = tuple(map(File, ('PACS.zip', 'pacs.zip', 'PACS.tar.gz')))


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
        return _PACS

    def takes(self, names, labels, split):
        return held_out(['/'.join(Path(name).parts[-3:]) for name in names], labels) == (split == 'test')


class PacsKfold(_Listed):
    """PACS by the published lists: train is DOMAIN_train_kfold.txt, test is DOMAIN_crossval_kfold.txt, about a tenth.

    The third published list, DOMAIN_test_kfold.txt, is of all images of a domain, those of both splits together.
    """

    SHAPE = Pacs.SHAPE
    SOURCE = Pacs.SOURCE
    DOMAINS = Pacs.DOMAINS
    BUILDER_CONFIGS = _configs(DOMAINS)
    CLASSES = Pacs.CLASSES
    FIRST_LABEL = 1

    def archives(self):
        return _PACS

    def lists(self):
        own = self.builder_config.name
        return {'train': File(f'{own}_train_kfold.txt'), 'test': File(f'{own}_crossval_kfold.txt')}


class DomainNet(_Listed, skip_registration=True):  # TFDS has a builder of this name, which needs TensorFlow
    """DomainNet, cleaned version: clipart (48,129), infograph (51,605), painting (72,266), quickdraw (172,500), real
    (172,947) and sketch (69,128) images of 345 classes, by the published lists (Peng et al. 2019, arXiv:1812.01754).
    They are stored under the name and with the features that TFDS's own builder gives them."""

    name = 'domainnet'
    SOURCE = 'http://ai.bu.edu/M3SDA/'
    BUILDER_CONFIGS = _configs(domainnet.ARCHIVES)
    DOMAINS = tuple(domainnet.ARCHIVES)
    CLASSES = domainnet.CLASSES

    def archives(self):
        return (domainnet.ARCHIVES[self.builder_config.name],)

    def lists(self):
        return domainnet.LISTS[self.builder_config.name]
