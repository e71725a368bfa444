"""A set in one line, for whoever starts a run; and whether its images can be read at all."""

import itertools

import numpy as np

from gjax.data.dataset import Dataset
from gjax.data.entries import listed, shown

_FEW = 5  # so many classes are listed, one by one


def summary(dataset: Dataset) -> str:
    """The set on one line: how many examples each split has and where it comes from, the classes with their numbers of
    images, what a split lacks, and what is left out.

    'folder:x: 315 train / 45 test (a tenth of every class, by hash of the path), 3 classes (cat 120, dog 130, emu 110), left
    out: 2 files (.xcf; cat/a.xcf, dog/b.xcf)'. No image is read for it, so sets in TFDS's files have no numbers by class.
    """
    sizes = []
    for name, records in dataset.splits.items():
        origin = dataset.origins.get(name, '')
        sizes.append(f'{len(records)} {name}{f" ({origin})" if origin else ""}')
    return shown(', '.join([f'{dataset.name}: {" / ".join(sizes)}', *_classes(dataset), *dataset.notes]))


def _classes(dataset: Dataset) -> list[str]:
    label = dataset.fields.get('label')
    if label is None:
        return ['no labels']
    if label.kind == 'map':
        return [f'maps of {label.classes} classes']
    text = f'{label.classes} {"class" if label.classes == 1 else "classes"}'
    known = {name: records.known_labels() for name, records in dataset.splits.items()}
    if any(labels is None for labels in known.values()):
        return [text]
    counts = dict(
        zip(*(each.tolist() for each in np.unique(np.concatenate(list(known.values())), return_counts=True)), strict=True)
    )

    def name(k):
        return shown(dataset.class_names[k]) if dataset.class_names else str(k)

    if label.classes <= _FEW:
        text += f' ({", ".join(f"{name(k)} {counts.get(k, 0)}" for k in range(label.classes))})'
    else:
        least, most = (choose(counts, key=lambda k: (counts[k], k)) for choose in (min, max))
        text += f' (from {counts[least]} of {name(least)} to {counts[most]} of {name(most)})'
    found = [text]
    for split, labels in known.items():
        present = set(np.unique(labels).tolist())
        if lacking := label.classes - len(present):
            absent = itertools.islice((k for k in range(label.classes) if k not in present), 4)
            found.append(
                f'no {split} images of {lacking} {"class" if lacking == 1 else "classes"} ({listed(map(name, absent))})'
            )
    return found


def check_readable(dataset: Dataset) -> None:
    """Reads the first and the last example of every split; DataError, one line, if one cannot be read."""
    for records in dataset.splits.values():
        for row in dict.fromkeys((0, len(records) - 1)):
            records.read(np.asarray([row]))
