"""Folders of images for tests: every image has a colour of its own, by which it is known again."""

import functools
import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

# What Pillow gives to Ghostscript.
EPS = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n%%EOF\n'


@functools.cache
def encoded(number: int, kind: str = 'PNG', size: int = 4) -> bytes:
    """An image of one colour that only `number` has."""
    stream = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), (number // 256, number % 256, 7), np.uint8)).save(stream, kind)
    return stream.getvalue()


def number_of(image: np.ndarray) -> int:
    """The number of an image [H, W, 3] of `encoded`, of a format without loss."""
    return int(image[0, 0, 0]) * 256 + int(image[0, 0, 1])


def write(root: Path, *files: str, start: int = 0) -> None:
    """Writes images numbered from `start`; a name that ends with '*N' stands for N files of that beginning: 'cat/*3'."""
    for name in files:
        stem, star, count = name.partition('*')
        names = [f'{stem}{i:03d}.png' for i in range(int(count))] if star else [name]
        for own in names:
            path = os.path.join(root, own)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, 'wb') as stream:
                stream.write(encoded(start))
            start += 1


def contents(dataset) -> dict[str, dict[int, str]]:
    """{split: {image's number: name of its class, '' without labels}} of a set."""
    found = {}
    for name, records in dataset.splits.items():
        split = records.read(np.arange(len(records)))
        labels = split.columns.get('label')
        names = [''] * len(split) if labels is None else [dataset.class_names[k] for k in labels]
        found[name] = dict(zip(map(number_of, split.images), names, strict=True))
        assert len(found[name]) == len(records)
    return found
