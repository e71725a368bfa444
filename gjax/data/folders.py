"""Folders of images as data sets: which files count, which class and which split each belongs to."""

import collections
import dataclasses
import hashlib
import os
import re
import unicodedata
from pathlib import Path

import numpy as np

from gjax.data.classes import in_order
from gjax.data.dataset import DataError, Dataset, Split, image_fields
from gjax.data.entries import SUFFIXES, is_hidden, is_image, listed, shown
from gjax.data.images import opened, to_rgb

TENTH = 'a tenth of every class, by hash of the path'
_ROLES = {
    **dict.fromkeys(('train', 'training', 'trains', 'trn', 'trainval'), 'train'),
    **dict.fromkeys(('test', 'testing', 'tests', 'tst'), 'test'),
    **dict.fromkeys(('val', 'valid', 'validation', 'eval', 'evaluation', 'dev'), 'validation'),
}
_SHORT = {'tr': 'train', 'ts': 'test'}  # only beside one of the words that follow, as in imagesTr
_FILLERS = ('images', 'image', 'imgs', 'img', 'pictures', 'photos', 'dataset', 'data', 'set', 'split', 'folder')
_APART = ('unlabeled', 'unlabelled', 'unannotated', 'unseen', 'heldout', 'holdout')  # called so, a folder is no domain
_SPLITS = 'train with one of test, val, valid, validation, eval, dev, or with test and one of the others'


@dataclasses.dataclass(frozen=True)
class Tree:
    """What lies below a folder. Entries are tuples of the names on their way from it; hidden ones are not there."""

    images: tuple[tuple[str, ...], ...]  # sorted
    folders: tuple[tuple[str, ...], ...]
    others: tuple[tuple[str, ...], ...]  # files that are no images
    loops: tuple[tuple[str, ...], ...]  # links to a folder above them, which are not followed


def read_tree(root: Path, name: str) -> Tree:
    """Everything below `root` that is not hidden (`entries.is_hidden`); links to files and to folders are followed.

    name: how messages call the folder.

    Raises:
      DataError: a folder that cannot be listed, a link to nothing, or an image that is no file.
    """
    images, folders, others, loops = [], [], [], []
    waiting = [((), frozenset({os.path.realpath(root)}))]
    while waiting:
        parts, above = waiting.pop()
        try:
            with os.scandir(os.path.join(root, *parts)) as opened:
                found = list(opened)
        except OSError as error:
            raise DataError(f'{name}: folder {shown("/".join(parts))!r} cannot be listed: {error.strerror}') from error
        for entry in found:
            if is_hidden(entry.name):
                continue
            own = (*parts, entry.name)
            kind = _kind(entry)
            if kind == 'folder':
                real = os.path.realpath(entry.path)
                if real in above:
                    loops.append(own)
                else:
                    folders.append(own)
                    waiting.append((own, above | {real}))
            elif kind == 'file':
                (images if is_image(entry.name) else others).append(own)
            elif kind == 'nothing':
                raise DataError(f'{name}: {shown("/".join(own))} is a link to nothing; remove it, or put back what it names')
            elif is_image(entry.name):  # a pipe, a device or a socket is never opened
                raise DataError(f'{name}: {shown("/".join(own))} is no regular file; allowed: images')
            else:
                others.append(own)
    return Tree(*(tuple(sorted(each)) for each in (images, folders, others, loops)))


def _kind(entry: os.DirEntry) -> str:
    """'folder', 'file' or 'other' (a pipe, a device, a socket) for an entry or what it links to; else 'nothing'."""
    try:
        return 'folder' if entry.is_dir() else 'file' if entry.is_file() else 'other' if entry.stat() else ''
    except OSError:
        return 'nothing'


def split_role(name: str) -> tuple[str, str]:
    """('train', 'test' or 'validation', the other words) of a folder's name that means a split, or ('', '').

    Case, separators and words such as 'images' and 'set' do not count: 'Train', 'ImagesTr' and 'trainset' are
    ('train', ''), 'ILSVRC2012_img_val' is ('validation', 'ilsvrc 2012'), 'trainA' is ('train', 'a'). What is for training
    and validation, as 'trainval', is for training.
    """
    roles, rest = [], []
    apart = re.sub(r'(?<=[a-z])(?=[A-Z])', ' ', name)
    words = re.findall(r'[^\W\d_]+|\d+', apart.lower())
    if not set(words).isdisjoint(_FILLERS):
        words = [_SHORT.get(word, word) for word in words]
    for word in words:
        stem = next((word.removesuffix(f) for f in _FILLERS if word.endswith(f) and word.removesuffix(f) in _ROLES), word)
        if stem in _ROLES:
            roles.append(_ROLES[stem])
        elif word not in _FILLERS:
            rest.append(word)
    if set(roles) == {'train', 'validation'}:
        roles = ['train']
    return (roles[0], ' '.join(rest)) if len(roles) == 1 else ('', '')


def _glued(name: str) -> set[tuple[str, str]]:
    """Every (role, stem) of a name in which a split's word and a stem touch: 'cattrain' has ('train', 'cat')."""
    own = _letters(name)
    places = ((word, found.span()) for word in _ROLES for found in re.finditer(word, own))
    return {(_ROLES[word], own[:start] + own[end:]) for word, (start, end) in places if end - start < len(own)}


def _letters(name: str) -> str:
    """A name without case and separators."""
    return re.sub(r'[\W_]', '', name.lower())


def _roles(names) -> dict[str, tuple[str, str]]:
    """{name: its role and the other words}, as `split_role` has them.

    A name whose words are not apart, as 'cattrain' or 'testcat', has a role where another one has the same stem and another
    role.
    """
    roles = {own: split_role(own) for own in names}
    stems = {own: {(role, _letters(rest))} if role else _glued(own) for own, (role, rest) in roles.items()}
    held = collections.defaultdict(set)  # {stem: roles}
    for pairs in stems.values():
        for role, stem in pairs:
            held[stem].add(role)
    for own in names:
        pairs = sorted(pair for pair in stems[own] if len(held[pair[1]]) > 1)
        if pairs and not roles[own][0]:
            roles[own] = pairs[0]
    return {own: (role, _letters(rest)) for own, (role, rest) in roles.items()}


def _rests(roles) -> tuple[set[str], set[str]]:
    """The other words of names that mean a training split, and of those that mean another one (see `split_role`)."""
    return {rest for role, rest in roles if role == 'train'}, {rest for role, rest in roles if role not in ('', 'train')}


def _look_apart(names) -> bool:
    """Whether domains of these names are not to be pooled, though which is which split does not follow.

    One is called unlabeled, unseen or held out, or one begins or ends with 'train' and another one with 'test'.
    """
    own = [_letters(name) for name in names]
    train, test = ({name for name in own if name.startswith(word) or name.endswith(word)} for word in ('train', 'test'))
    return any(word in name for name in own for word in _APART) or bool(train - test and test - train)


def _splits(name: str, first: set[str], depth: int) -> dict[str, str]:
    """{first folder: split} where the first folders of a tree are splits; {} where none looks like one.

    At depth 3 (first/class/image) a single folder that is called like a split looks like one. At depth 2 (first/image) it
    may be a class, unless all are, or a training and a test folder come together.

    Raises:
      DataError: some look like splits, and which is which does not follow.
    """
    roles = _roles(first)
    trains, others = _rests(roles.values())
    if depth == 3:
        pairs = {(role, rest) for role, rest in roles.values() if role}
        met = len({rest for _, rest in pairs}) < len(pairs)  # two splits of one stem
        look = met or bool(trains and others) or '' in trains | others or _look_apart(first)
    else:
        look = bool(trains & others) or all(role and not rest for role, rest in roles.values())
    if not look:
        return {}
    named = {own: role for own, (role, _) in roles.items()}
    counts = collections.Counter(named.values())
    alike = len({rest for _, rest in roles.values()}) == 1
    if not alike or counts['train'] != 1 or len(counts) != len(first) or not 2 <= len(first) <= 3 or '' in counts:
        raise DataError(
            f'{name} holds {", ".join(map(shown, sorted(first)))}; allowed: {_SPLITS}; name a single folder as '
            'folder:PATH/NAME'
        )
    if 'test' not in counts:
        named = {own: 'train' if role == 'train' else 'test' for own, role in named.items()}
    return named


def check_domains(name: str, folders) -> None:
    """DataError unless the folders of a tree folder/class/image may all be domains; name: how messages call the tree."""
    if _splits(name, set(folders), 3):
        raise DataError(
            f'{name} holds {listed(sorted(folders))}, the splits of one set; allowed: folders of domains, or '
            'folder:PATH for the set'
        )


def held_out(files, groups) -> np.ndarray:
    """Which files are held out for testing, bool [N]: of every group a tenth, those whose paths have the smallest hashes.

    Of a group of two or more it is at least one. The choice depends on nothing but the paths, so it is the same on every
    machine; a file that is added to a group moves at most one of the others.

    Args:
      files: N paths relative to the set's folder, with '/'; names that are no text are hashed by their bytes.
      groups: N, the class of each.
    """
    digests = [hashlib.sha256(os.fsencode(file)).digest() for file in files]
    members = collections.defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    held = np.zeros(len(digests), bool)
    for rows in members.values():
        count = max(1, (len(rows) + 5) // 10) if len(rows) > 1 else 0
        held[sorted(rows, key=digests.__getitem__)[:count]] = True
    return held


def stack(name: str, images: list[np.ndarray]) -> np.ndarray:
    """Images [H, W, C] of one size as [N, H, W, C]; DataError, naming the set, for several sizes."""
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise DataError(f'{name} holds images of {len(shapes)} sizes, e.g. {sorted(shapes)[:2]}; set data.image_size')
    return np.stack(images)


@dataclasses.dataclass(frozen=True, eq=False)
class FolderRecords:
    """One split of a folder tree, decoded file by file."""

    name: str
    root: Path
    files: tuple[str, ...]
    labels: np.ndarray | None  # int32 [N]; None where there are none
    image_size: int

    def __len__(self):
        return len(self.files)

    def _pixels(self, file: str) -> np.ndarray:
        name = f'{self.name}: {shown(file)}'
        try:
            with open(f'{self.root}/{file}', 'rb') as stream, opened(stream, name) as image:
                return to_rgb(image, self.image_size)
        except OSError as error:  # of `open`
            raise DataError(f'{name} is not a readable image: {error.strerror}') from error

    def read(self, rows) -> Split:
        columns = {'image': stack(self.name, [self._pixels(self.files[row]) for row in rows])}
        return Split(columns if self.labels is None else columns | {'label': self.labels[rows]})

    def class_labels(self) -> np.ndarray:
        return self.labels

    def known_labels(self) -> np.ndarray | None:
        return self.labels


def folder(path: str, image_size: int = 0, key: str = 'data.name') -> Dataset:
    """A Dataset from image files, all of which lie at one depth below `path`:

    - class/image, or domain/class/image, whose domains are pooled. A tenth of every class is the test split (`held_out`).
    - train/class/image with test/class/image, where folders may also be called training, train_images, Train_Set, ... and
      testing, val, valid, validation, eval, dev, ... in any case, or 'cattrain' and 'cattest', of one stem. A validation
      folder is the test split, or beside a test folder the validation split.
    - image, or train/image with test/image: a set without labels.

    Classes are the names of the class folders, sorted as numbers if all are integers, else as text. Hidden and system
    entries are skipped (`entries.is_hidden`), links are followed, and what else is not used is counted in the set's notes.

    Args:
      path: the folder.
      image_size: side to which images are resized when read; 0 keeps them.
      key: how messages call the setting.

    Raises:
      DataError: no such folder, no images, images at several depths, folders that look like splits and cannot be told apart
        or lie below others, a link to nothing, or, when read, a file that is no image or sizes that differ without
        `image_size`.
    """
    root, name = Path(path), f'folder:{path}'
    if not root.is_dir():
        raise DataError(f'{key} is {name!r}, but there is no such folder; it should hold class/image files')
    tree = read_tree(root, name)
    examples = {len(parts): '/'.join(parts) for parts in reversed(tree.images)}
    if not examples:
        raise DataError(f'{name} holds no images ({", ".join(SUFFIXES)}){_left_out(tree, ", but ")}')
    if len(examples) > 1 or (depth := len(tree.images[0])) > 3:
        found = ', '.join(map(shown, (examples[depth] for depth in sorted(examples))))
        raise DataError(
            f'{name} holds images at depths {sorted(examples)} ({found}); allowed: all class/image, all domain/class/image '
            'or, without labels, all in one folder'
        )
    first = {parts[0] for parts in tree.images} if depth > 1 else set()
    second = {parts[1] for parts in tree.images} if depth > 2 else set()
    if set.intersection(*_rests(_roles(second).values())):
        raise DataError(
            f'{name} holds {listed(sorted(second), 5)} below {listed(sorted(first))}; allowed: split/class/image, or '
            'without labels split/image, as in folder:PATH/NAME'
        )
    named = _splits(name, first, depth) if first else {}
    labelled = depth - bool(named) > 1
    files = ['/'.join(parts) for parts in tree.images]
    of_image = [unicodedata.normalize('NFC', parts[-2]) if labelled else '' for parts in tree.images]
    classes = {own: k for k, own in enumerate(in_order(set(of_image)))} if labelled else {}
    if named:
        split_of = [named[parts[0]] for parts in tree.images]
    else:
        split_of = ['test' if held else 'train' for held in held_out(files, of_image)]
    records = {}
    for split in dict.fromkeys(('train', 'test', *split_of)):
        rows = [row for row, own in enumerate(split_of) if own == split]
        if not rows:
            raise DataError(f'{name} holds too few images: none falls into the {split} split')
        labels = np.asarray([classes[of_image[row]] for row in rows], np.int32) if labelled else None
        records[split] = FolderRecords(name, root, tuple(files[row] for row in rows), labels, image_size)
    fields = image_fields(records['train'].read([0]).images.shape[1:], len(classes))
    return Dataset(
        name,
        records['train'],
        records['test'],
        fields,
        tuple(classes),
        records.get('validation'),
        origins={} if named else {'test': TENTH if labelled else TENTH.replace(' of every class', '')},
        notes=_notes(tree, first if depth == 3 and not named else ()),
    )


def _notes(tree: Tree, domains) -> tuple[str, ...]:
    """What a reader of the set should know of its folder: pooled domains, folders without images, files left out."""
    used = {parts[:depth] for parts in tree.images for depth in range(1, len(parts))}
    # Below a folder without images there are none either.
    empty = ['/'.join(own) for own in tree.folders if own not in used and (len(own) == 1 or own[:-1] in used)]
    notes = [f'{len(domains)} domains together ({listed(sorted(domains))})'] if len(domains) > 1 else []
    notes += [f'without images: {listed(empty)}'] if empty else []
    left = _left_out(tree, '')
    return (*notes, *([f'left out: {left}'] if left else []))


def _left_out(tree: Tree, start: str) -> str:
    """'2 files (.xcf; cat/a.xcf, cat/b.xcf)' and links that lead back, after `start`; '' if there are none."""
    found = []
    if tree.others:
        counts = collections.Counter(os.path.splitext(parts[-1])[1].lower() or 'no suffix' for parts in tree.others)
        kinds = [f'{shown(kind)} {count}' if len(counts) > 1 else shown(kind) for kind, count in counts.most_common(5)]
        more = ', ...' if len(counts) > 5 else ''
        files = 'file' if len(tree.others) == 1 else 'files'
        names = listed(map('/'.join, tree.others))
        found.append(f'{len(tree.others)} {files} ({", ".join(kinds)}{more}; {names})')
    if tree.loops:
        links = 'link' if len(tree.loops) == 1 else 'links'
        found.append(f'{len(tree.loops)} {links} to a folder above ({listed(map("/".join, tree.loops))})')
    return start + ', '.join(found) if found else ''
