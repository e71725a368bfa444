"""The data sets that a config names: one source or several, a target, unseen ones; by name, of one form."""

import dataclasses

from gjax.data import sources
from gjax.data.chosen import TARGET, choose
from gjax.data.classes import aligned, check_class_names, named
from gjax.data.convert import converted, subset, with_validation
from gjax.data.dataset import DataError, Dataset
from gjax.data.embedded import EMBEDDED
from gjax.data.folders import folder


def find(
    name: str,
    data_dir: str | None = None,
    image_size: int = 0,
    channels: int = 0,
    *,
    key: str = 'data.name',
    others: tuple[str, ...] = (),
) -> Dataset:
    """The data set `name`; folders and TFDS sets are decoded when read.

    Args:
      name: an embedded set (digits, mnist5k, mnistm5k, syndigits), 'npz:PATH', 'folder:PATH', or a TFDS name.
      data_dir: where prepared TFDS sets lie; default TFDS_DATA_DIR.
      image_size: side to which images are resized; 0 keeps them.
      channels: 3 repeats grey images, 1 takes the luma of coloured ones; 0 keeps them.
      key: the config key that has the name, for messages.
      others: what else the key may name, for messages.

    Raises:
      DataError: unknown name, missing or malformed data; one line that says what to do.
    """
    return converted(_find(name, data_dir, image_size, key, others), image_size, channels)


def _find(name: str, data_dir: str | None, image_size: int, key: str, others: tuple[str, ...]) -> Dataset:
    if name in EMBEDDED:
        return EMBEDDED[name]()
    kind, _, path = name.partition(':')
    if kind == 'npz' and path:
        return sources.npz(path, key)
    if kind == 'folder' and path:
        return folder(path, image_size, key)
    if sources.is_tfds(name, data_dir):
        return sources.tfds(name, data_dir, image_size, key)
    hint = sources.nearest(name, [*others, *EMBEDDED, *sources.OWN, *sources.tfds_names()])
    allowed = ', '.join((*others, *EMBEDDED))
    raise DataError(f'{key} is {name!r}{hint}; allowed: {allowed}, npz:PATH, folder:PATH or a TFDS name')


def load(name: str, data_dir: str | None = None, image_size: int = 0, channels: int = 0) -> Dataset:
    """`find`, with all splits decoded into memory."""
    return find(name, data_dir, image_size, channels).load()


def set_names(section) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """(sources, target, unseen): how a run calls the sets of a config's section `data`; see `chosen.choose`.

    Raises:
      DataError: as `chosen.choose`.
    """
    own, target, unseen = choose(section)
    return tuple(one.short for one in own), TARGET if target else '', tuple(one.short for one in unseen)


def from_config(section, seed: int = 0) -> Dataset:
    """The (first) source of a config's section `data`; seed: draws the examples, where not all are asked for."""
    return next(iter(open_sets(section, seed, sources_only=True).values()))


def open_sets(section, seed: int = 0, *, sources_only: bool = False) -> dict[str, Dataset]:
    """All sets of a config's section `data`, by the names of `set_names`; images and classes are those of the first.

    The others' labels are put into its order (`classes.aligned`); they may lack classes, and a target or unseen set may have
    no labels at all.

    Args:
      section: a mapping; keys that older run directories lack are at their defaults.
      seed: draws the examples, where not all are asked for, and those held out for validation.
      sources_only: leaves out the target and the unseen sets.

    Raises:
      DataError: as `find`, in the words of the key that names the set; other classes or another image shape.
    """
    (own, target, unseen), several = choose(section), section.get('sources', ())
    asked = [(one, 'data.sources' if several else 'data.name', section.get('examples', 0), 'data.examples') for one in own]
    if target and not sources_only:
        asked.append((target, 'data.target', section['target_examples'], 'data.target_examples'))
    if not sources_only:
        asked += [(one, 'data.unseen', 0, '') for one in unseen]
    class_names = check_class_names(section.get('class_names', ()))
    found: dict[str, Dataset] = {}
    for one, key, count, count_key in asked:
        others = tuple(source.short for source in own if several and key in ('data.unseen', 'data.target'))
        form = section['image_size'], section.get('channels', 0)
        opened = find(one.name, section['dir'] or None, *form, key=key, others=others)
        opened = named(opened, class_names, key, whole=not found)
        if found:
            first_key = 'its first' if key == asked[0][1] else asked[0][1]
            opened = made_alike(opened, next(iter(found.values())), key, first_key)
        if key != 'data.unseen':
            opened = with_validation(opened, section.get('validation', 0.0), seed)
            opened = subset(opened, count, seed, count_key)
        found[one.short] = dataclasses.replace(opened, notes=(*opened.notes, *one.notes)) if one.notes else opened
    return found


def made_alike(other: Dataset, first: Dataset, key: str, first_key: str = 'data.name') -> Dataset:
    """The set with labels that mean what those of the first set mean (`classes.aligned`), if it has the first one's form.

    Raises:
      DataError: in the words of `key` and `first_key`, which have the sets: other classes, image shapes or columns.
    """
    unlabelled = 'label' not in other.fields
    if unlabelled and 'label' in first.fields and key == 'data.sources':
        raise DataError(f'{key} has {other.name!r}, which has no labels; allowed: labels, as {first_key} has')
    if not unlabelled and 'label' not in first.fields:
        raise DataError(f'{first_key} has no labels, {key} has; allowed: labels in {first_key}, or in neither')
    kinds, expected = ({name: (f.kind, f.ignore) for name, f in of.fields.items()} for of in (other, first))
    if not unlabelled and kinds['label'] == expected['label']:
        other = aligned(other, first, key, first_key)
    if other.image_shape != first.image_shape:
        raise DataError(
            f'{key} has images of {other.image_shape}; allowed: {first.image_shape}, as {first_key} has: set '
            'data.image_size, data.channels'
        )
    for name, (kind, ignore) in expected.items():
        if kinds.get(name) != (kind, ignore) and not (unlabelled and name == 'label'):
            own = kinds.get(name, ('nothing', None))
            ignored = [f' ignoring {value}' if value is not None else '' for value in (own[1], ignore)]
            raise DataError(f'{key} has {own[0]}{ignored[0]} as {name}; allowed: {kind}{ignored[1]}, as {first_key} has')
    return other
