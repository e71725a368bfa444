"""The base of the builders of image sets: a TFDS builder that decodes every image once before it is stored."""

import io
import os
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds
from PIL import Image

from gjax.data.dataset import DataError
from gjax.data.downloads import File, fetch
from gjax.data.entries import shown
from gjax.data.images import opened, to_channels, to_rgb

_DIGITS = tuple('0123456789')


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
        seen, own = set(), self.info.full_name.rpartition('/')[0]
        for key, image, label in self.examples(split):
            name = f'{own} {split}: {shown(os.fsdecode(key) if isinstance(key, bytes) else str(key))}'
            if key in seen:
                raise DataError(f'{name} is there twice; allowed: each class/image once')
            seen.add(key)
            if not 0 <= label < len(self.CLASSES):
                raise DataError(f'{name} has the class {label}; allowed: 0..{len(self.CLASSES) - 1}')
            if isinstance(image, bytes):
                image = _checked(image, name, self.SHAPE[-1])
            yield key, {'image': image, 'label': label}


def _checked(content: bytes, name: str, channels: int) -> io.BytesIO | Image.Image:
    """An encoded image as it is stored: as it is if it is grey or has its colours in three channels.

    Others, with a palette, CMYK or with transparency, become RGB as in folders (`images.to_rgb`), without loss.

    Args:
      content: the encoded image.
      name: how messages call it.
      channels: of the set, 1 or 3.

    Raises:
      DataError: it cannot be decoded, or has other colours than a grey set.
    """
    with opened(io.BytesIO(content), name) as image:
        if channels == 3 and image.mode not in ('L', 'RGB'):
            return Image.fromarray(to_rgb(image))
        to_channels(image, channels)
    return io.BytesIO(content)
