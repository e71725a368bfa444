"""Encoded images from outside: the formats that are meant are decoded as Pillow decodes them, and no other is opened."""

import contextlib
import io
import os

import numpy as np
import pytest
from PIL import Image

from gjax import data
from gjax.data import images
from gjax.data.sources import TfdsRecords
from tests.data.trees import EPS, write


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A program called gs, first in PATH, that leaves the file which this is the path of."""
    (tmp_path / 'bin').mkdir()
    program, trace = tmp_path / 'bin' / 'gs', tmp_path / 'started'
    program.write_text(f'#!/bin/sh\n: > {trace}\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', f'{program.parent}:{os.environ["PATH"]}')
    monkeypatch.setattr('PIL.EpsImagePlugin.gs_binary', None)  # what an earlier search has found
    return trace


def _encoded(kind, mode='RGB'):
    rng, stream = np.random.default_rng(0), io.BytesIO()
    image = Image.fromarray(rng.integers(0, 256, (8, 6, 3)).astype(np.uint8)).convert(mode)
    image.save(stream, kind)
    return stream.getvalue()


def test_an_image_file_starts_no_program(tmp_path, ghostscript):
    write(tmp_path / 'set', 'cat/*4')
    for file in ('0.png', '0.jpg'):
        (tmp_path / 'set' / 'cat' / file).write_bytes(EPS)
        with pytest.raises(
            data.DataError, match=rf'cat/{file[0]}\.\w+ is not a readable image: it is damaged, or none of PNG'
        ) as caught:
            data.load(f'folder:{tmp_path}/set')
        assert str(caught.value).isprintable()
        assert not ghostscript.exists()
        (tmp_path / 'set' / 'cat' / file).unlink()
    with contextlib.suppress(OSError):  # Pillow would have
        Image.open(io.BytesIO(EPS)).load()
    assert ghostscript.exists()


def test_a_record_starts_no_program(ghostscript):
    records = TfdsRecords('x', '/nowhere', 'train', 0, 0, 3)
    records.__dict__['_source'] = [{'image': EPS}]
    with pytest.raises(data.DataError, match=r'cannot be read \(example 0 is not a readable image: it is damaged, or none'):
        records.read([0])
    assert not ghostscript.exists()


def test_what_is_beside_the_image_of_a_record_is_not_decoded(tmp_path, ghostscript):
    import tensorflow_datasets as tfds

    image, label = tfds.features.Image(shape=(8, 6, 3)), tfds.features.ClassLabel(num_classes=2)
    others = {'mask': tfds.features.Image(), 'frames': tfds.features.Sequence(tfds.features.Image())}
    others |= {'parts': {'image': tfds.features.Image()}, 'boxes': tfds.features.Sequence({'a': tfds.features.Image()})}

    class Crowded(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version('1.0.0')

        def _info(self):
            features = tfds.features.FeaturesDict({'image': image, 'label': label, **others})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples() for split in ('train', 'test')}

        def _generate_examples(self):
            content = {'mask': io.BytesIO(EPS), 'frames': [io.BytesIO(EPS)], 'parts': {'image': io.BytesIO(EPS)}}
            content |= {'boxes': [{'a': io.BytesIO(EPS)}]}
            yield 0, {'image': io.BytesIO(_encoded('PNG')), 'label': 1, **content}

    config = tfds.download.DownloadConfig(try_download_gcs=False)
    Crowded(data_dir=str(tmp_path / 'tfds'), file_format='array_record').download_and_prepare(download_config=config)
    dataset = data.load('crowded', str(tmp_path / 'tfds'))
    np.testing.assert_array_equal(dataset.train.images[0], np.asarray(Image.open(io.BytesIO(_encoded('PNG')))))
    assert data.find('crowded', str(tmp_path / 'tfds')).train.class_labels().tolist() == [1]
    assert not ghostscript.exists()


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'BMP', 'WEBP', 'MPO'])
def test_what_is_meant_is_decoded_as_ever(tmp_path, kind):
    """MPO is what telephones write as JPEG."""
    content = _encoded(kind)
    with images.opened(io.BytesIO(content), 'x') as image:
        np.testing.assert_array_equal(images.to_rgb(image), np.asarray(Image.open(io.BytesIO(content))))


@pytest.mark.parametrize('kind', ['GIF', 'TIFF', 'PPM', 'TGA', 'ICO', 'PCX', 'SGI', 'JPEG2000'])
def test_other_formats_are_refused(kind):
    with (
        pytest.raises(data.DataError, match='x is not a readable image: it is damaged, or none of PNG, JPEG, BMP, WEBP'),
        images.opened(io.BytesIO(_encoded(kind)), 'x'),
    ):
        pass


@pytest.mark.parametrize(('mode', 'channels'), [('RGB', 3), ('L', 3), ('L', 1), ('P', 1), ('1', 1)])
def test_records_are_decoded_as_tfds_decodes_them(mode, channels):
    import tensorflow_datasets as tfds

    content = _encoded('PNG', mode)
    with images.opened(io.BytesIO(content), 'x') as image:
        found = images.to_channels(image, channels)
    feature = tfds.features.Image(shape=(None, None, channels))
    np.testing.assert_array_equal(found, feature.decode_example_np_with_pil(content, channels))
    assert found.dtype == np.uint8


@pytest.mark.parametrize(
    ('mode', 'channels', 'message'),
    [('RGBA', 3, r'4 channels \(mode RGBA\); allowed: 1 or 3'), ('I;16', 1, 'more than 8 bits')],
)
def test_what_does_not_fit_a_record_is_refused(mode, channels, message):
    content = io.BytesIO()
    Image.new(mode, (4, 4)).save(content, 'PNG')
    with pytest.raises(data.DataError, match=message), images.opened(content, 'x') as image:
        images.to_channels(image, channels)


def test_whatever_a_decoder_raises_names_the_image():
    content = _encoded('PNG')
    for end in range(1, len(content) - 30, 7):  # Pillow does not ask for the end
        with (
            pytest.raises(data.DataError, match='x is not a readable image: ') as caught,
            images.opened(io.BytesIO(content[:end]), 'x') as image,
        ):
            images.to_rgb(image)
        assert str(caught.value).isprintable()
    for error in (RuntimeError('two\nlines'), MemoryError(), RecursionError(), EOFError()):
        with (
            pytest.raises(data.DataError, match=f'x is not a readable image: (two lines|{type(error).__name__})'),
            images.opened(io.BytesIO(content), 'x'),
        ):
            raise error
