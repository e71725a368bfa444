"""Encoded images from outside: which formats are opened, and their pixels. One door for folders, archives and records."""

import contextlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from gjax.data.dataset import DataError

# Those of `entries.SUFFIXES`. Pillow chooses a decoder by content, whatever a file is called, and some of its decoders start
# other programs (EPS: Ghostscript).
FORMATS = ('PNG', 'JPEG', 'BMP', 'WEBP')


@contextlib.contextmanager
def opened(stream: BinaryIO, name: str) -> Iterator[Image.Image]:
    """A context that gives the image of a stream, if its content is of one of `FORMATS`.

    Args:
      stream: the encoded image.
      name: how messages call it.

    Raises:
      DataError: another format, or anything that is raised while the image is opened or, in the context, decoded.
    """
    try:
        with Image.open(stream, formats=FORMATS) as image:
            yield image
    except UnidentifiedImageError as error:
        raise DataError(f'{name} is not a readable image: it is damaged, or none of {", ".join(FORMATS)}') from error
    except Exception as error:  # decoders raise whatever they come upon
        reason = ' '.join(str(error).split())[:160] or type(error).__name__
        raise DataError(f'{name} is not a readable image: {reason}') from error


def to_rgb(image: Image.Image, size: int = 0) -> np.ndarray:
    """uint8 [H, W, 3], as a square of `size` pixels if that is not 0; ValueError for pixels of more than 8 bits."""
    _check_depth(image)
    if image.mode != 'RGB':
        image = image.convert('RGB')
    if size and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def to_channels(image: Image.Image, channels: int) -> np.ndarray:
    """uint8 [H, W, channels] as TFDS decodes its records: grey images are repeated, nothing else is converted.

    Raises:
      ValueError: pixels of more than 8 bits, or another number of channels.
    """
    _check_depth(image)
    pixels = np.asarray(image, np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[-1] not in (1, channels):
        raise ValueError(f'it has {pixels.shape[-1]} channels (mode {image.mode}); allowed: 1 or {channels}')
    return pixels if pixels.shape[-1] == channels else np.repeat(pixels, channels, axis=-1)


def _check_depth(image: Image.Image) -> None:
    if image.mode[0] in 'IF':  # Pillow would cut them off at 255
        raise ValueError(f'its pixels have more than 8 bits (mode {image.mode})')
