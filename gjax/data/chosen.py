"""Which sets a config names: `*` for all domains of a folder, and the one that is left out of those trained on."""

import os
import re
from typing import NamedTuple

from gjax.data import sources
from gjax.data.dataset import DataError
from gjax.data.embedded import EMBEDDED, MADE_OF
from gjax.data.entries import is_hidden, is_image, listed, shown
from gjax.data.folders import check_domains

SOURCE, TARGET = 'source', 'target'
_VERSION = re.compile(r'\d+\.\d+\.\d+')  # the folders in which TFDS keeps a prepared configuration


class Named(NamedTuple):
    """A set that a config names."""

    short: str  # how the run and its metrics call it: 'photo'
    name: str  # how `sets.find` knows it: 'folder:pacs/photo'
    notes: tuple[str, ...] = ()  # what a reader of the run should know of how it was chosen


class Chosen(NamedTuple):
    """The sets of a config's section `data`."""

    sources: tuple[Named, ...]  # trained on, at least one
    target: Named | None
    unseen: tuple[Named, ...]


def choose(section) -> Chosen:
    """The sets that a config's section `data` names.

    A name with one `*` in its last part, in data.sources or data.unseen, stands for every set that it fits, in the order of
    their names: `folder:PATH/*` for the domains of a folder, `npz:PATH/pacs64_*.npz` for files, `pacs/*` for the prepared
    sets of several domains. Each is called by what `*` stands for in its name. data.unseen and data.target may name a set
    of data.sources, by its name or by how it is called; it is then none of the sources.

    Args:
      section: a mapping with the keys of a config's section `data`; sources, target and unseen may be missing.

    Raises:
      DataError: one line: two sets of one name, a `*` that nothing fits, no source left, an unseen set that is trained on
        or made of the images of one that is, or a name that means two sets.
    """
    data_dir, several = section.get('dir') or None, tuple(section.get('sources', ()))
    own = [one for name in several for one in _expanded(name, 'data.sources', data_dir)]
    unseen, target = [], None
    for name in section.get('unseen', ()):
        for one in _expanded(name, 'data.unseen', data_dir):
            unseen.append(_among(own, one, 'data.unseen', data_dir))
    if section.get('target', ''):
        target = _among(own, Named(TARGET, section['target']), 'data.target', data_dir)
        target = target._replace(short=TARGET)
        if any(one.name == target.name for one in unseen):
            raise DataError(f'data.unseen has {target.name!r}, and so has data.target; allowed: a set that no step sees')
    _check_names([*own, *([] if target is None else [target])])
    left_out = {one.name for one in (*unseen, *([] if target is None else [target]))}
    trained = [one for one in own if one.name not in left_out]
    if several and not trained:
        raise DataError(
            f'data.sources has {listed([one.short for one in own], 9)}, all of which data.unseen and data.target name; '
            'allowed: at least one that neither names'
        )
    trained = trained or [Named(SOURCE, section.get('name', ''))]
    _check_names([*trained, *([] if target is None else [target]), *unseen])
    _check_unseen(trained, target, unseen, 'data.sources' if several else 'data.name')
    return Chosen(tuple(trained), target, tuple(unseen))


def short_name(name: str) -> str:
    """How metrics call a set that is named without `*`: 'mnist5k', the file's or folder's name, 'office31_amazon'."""
    kind, colon, path = name.partition(':')
    if not colon:
        return name.replace('/', '_')
    last = path.rstrip('/').rsplit('/', 1)[-1]
    return last.removesuffix('.npz') if kind == 'npz' else last


def _among(own: list[Named], one: Named, key: str, data_dir: str | None) -> Named:
    """The source that `one` names, with a note that it was one; `one` itself where it names none.

    Raises:
      DataError: it is how a source is called, and the name of another set as well.
    """
    by_name = [source for source in own if source.name == one.name]
    by_short = [source for source in own if source.short == one.name]
    if by_short and not by_name and _is_a_set(one.name, data_dir):
        raise DataError(
            f'{key} is {shown(one.name)!r}, which is a data set, and how {shown(by_short[0].name)!r} of data.sources is '
            f'called; allowed: {shown(by_short[0].name)!r} for that, or a source of another name'
        )
    if len(found := by_name or by_short) != 1:
        return one
    return found[0]._replace(notes=(*found[0].notes, f'taken out of data.sources, as {key} names it'))


def _is_a_set(name: str, data_dir: str | None) -> bool:
    """Whether a name without ':' can be opened: an embedded set, or one that lies prepared in the TFDS directory."""
    base = name.partition('/')[0]
    return name in EMBEDDED or (base.isidentifier() and (sources.tfds_directory(data_dir) / base).is_dir())


def _check_names(every: list[Named]) -> None:
    shorts = [one.short for one in every]
    if bad := [short for short in shorts if short.startswith('validation')]:
        raise DataError(f'a set of data.sources or data.unseen is called {bad[0]!r}; allowed: names that do not begin so')
    if twice := sorted({short for short in shorts if shorts.count(short) > 1}):
        raise DataError(
            f'data.sources, data.target and data.unseen have two sets called {twice[0]!r}; allowed: each name once'
        )


def _check_unseen(trained: list[Named], target: Named | None, unseen: list[Named], key: str) -> None:
    """DataError if a set that is trained on, from `key` or data.target, shows what an unseen set shows."""
    for own_key, own in [(key, one) for one in trained] + [('data.target', one) for one in (target,) if one]:
        for one in unseen:
            if one.name == own.name:
                raise DataError(f'data.unseen has {one.name!r}, and so has {own_key}; allowed: a set that no step sees')
            if one.name in MADE_OF.get(own.name, ()) or own.name in MADE_OF.get(one.name, ()):
                made, base = (one.name, own.name) if one.name in MADE_OF else (own.name, one.name)
                raise DataError(
                    f"data.unseen has {one.name!r} and {own_key} has {own.name!r}, but {made} is made of {base}'s images: "
                    'what it shows is not unseen; allowed: one of the two'
                )


def _expanded(name: str, key: str, data_dir: str | None) -> list[Named]:
    """The sets for which a name of `key` stands: itself, or all that fit its `*`."""
    if '*' not in name:
        return [Named(short_name(name), name)]
    kind, colon, path = name.partition(':') if name.startswith(('npz:', 'folder:')) else ('', '', name)
    head, slash, tail = path.rpartition('/')
    if name.count('*') != 1 or '*' not in tail or not (colon or slash):
        raise DataError(
            f"{key} has {name!r}; allowed: one '*', in the last part of a name: folder:PATH/*, npz:PATH/*.npz or NAME/*"
        )
    if kind:
        fits, notes = _files(kind, head + slash, tail, name, key)
    else:
        fits, notes = _prepared(head, tail, data_dir), ()
    if not fits:
        what = {'folder': 'folder', 'npz': 'file'}.get(kind, 'prepared set; run gjax prepare')
        raise DataError(f'{key} has {name!r}, but there is no such {what}')
    found = [Named(stands_for, f'{kind}{colon}{head}{slash}{entry}') for stands_for, entry in fits]
    return [found[0]._replace(notes=notes), *found[1:]]


def _fits(entries, tail: str) -> list[tuple[str, str]]:
    """(what `*` in `tail` stands for, the entry) of the entries that it fits, sorted; never for nothing."""
    start, _, end = tail.partition('*')
    least = len(start) + len(end) + 1
    fits = [entry for entry in entries if len(entry) >= least and entry.startswith(start) and entry.endswith(end)]
    return sorted((entry[len(start) : len(entry) - len(end)], entry) for entry in fits)


def _files(kind: str, folder: str, tail: str, name: str, key: str) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """What fits in a folder: folders for `folder:`, else all; and a note of the files that lie beside its domains.

    Raises:
      DataError: the folder cannot be listed; of `folder:`, images beside the domains, or folders that are splits.
    """
    try:
        with os.scandir(folder or '.') as opened:
            entries = {entry.name: entry.is_dir() for entry in opened if not is_hidden(entry.name)}
    except OSError as error:
        raise DataError(f'{key} has {name!r}, but {folder!r} cannot be listed: {error.strerror}') from error
    if kind == 'npz':
        return _fits([entry for entry, is_folder in entries.items() if not is_folder], tail), ()
    fits = _fits([entry for entry, is_folder in entries.items() if is_folder], tail)
    files = sorted(entry for entry, is_folder in entries.items() if not is_folder)
    if images := [file for file in files if is_image(file)]:
        raise DataError(f'{key} has {name!r}, but {shown(images[0])} lies beside the domains; allowed: domain/class/image')
    check_domains(name, [entry for _, entry in fits])
    notes = (f'beside the domains: {len(files)} {"file" if len(files) == 1 else "files"} ({listed(files)})',)
    return fits, notes if files else ()


def _prepared(base: str, tail: str, data_dir: str | None) -> list[tuple[str, str]]:
    """The prepared configurations of the set `base` in the TFDS directory that fit."""
    folder = sources.tfds_directory(data_dir) / base
    if not base.isidentifier() or not folder.is_dir():
        return []
    ready = [own for own in folder.iterdir() if own.is_dir() and any(_VERSION.fullmatch(v) for v in os.listdir(own))]
    return _fits([own.name for own in ready], tail)
