"""Two domains at once: images made alike, and batches that are each a pure function of (seed, step)."""

import contextlib

import jax
import numpy as np
import pytest

from gjax import data
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.run import Run


def test_sets_of_other_sizes_and_colours_are_made_alike():
    grey = data.load('mnist5k', image_size=32, channels=3)
    assert grey.image_shape == grey.train.images.shape[1:] == (32, 32, 3)
    np.testing.assert_array_equal(grey.train.images[..., 0], grey.train.images[..., 2])
    plain = data.load('mnist5k')
    np.testing.assert_allclose(grey.train.images.mean(), plain.train.images.mean(), rtol=0.02)
    back = data.load('syndigits', channels=1).train.images
    expected = data.load('syndigits').train.images @ np.asarray([0.299, 0.587, 0.114])
    np.testing.assert_allclose(back[..., 0], expected, atol=1)


def test_sets_on_disk_are_converted_when_read(tmp_path):
    from PIL import Image

    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        for i in range(30):
            Image.fromarray(np.full((9, 7, 3), 8 * i, np.uint8)).save(tmp_path / name / f'{i}.png')
    dataset = data.find(f'folder:{tmp_path}', image_size=4, channels=1)
    assert dataset.image_shape == (4, 4, 1)
    assert dataset.train.read(np.arange(3)).images.shape == (3, 4, 4, 1)


def _config(**overrides):
    config = configs.load('generate_to_adapt/digits.py:source_only,mnist5k_to_mnistm5k', overrides)
    return config


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'data.target': ''}, r"data.target is ''; allowed: the set to which source_only adapts"),
        ({'data.target': 'digit'}, r"data.target is 'digit' \(did you mean digits\?\); allowed"),
        ({'data.image_size': 0}, r'data.target has images of \(28, 28, 3\); allowed: \(28, 28, 3\)'),
        ({'data.channels': 0}, r'data.target has images of \(16, 16, 3\); allowed: \(16, 16, 1\).*set data.image_size'),
        ({'data.channels': 2}, r'data.channels is 2; allowed: 0, 1, 3'),
        ({'train.batch_size': 4400}, r'train.batch_size is 4400; allowed: at most 4000'),
    ],
)
def test_what_does_not_fit_is_refused(overrides, message):
    if overrides == {'data.image_size': 0}:
        section = _config(**overrides).data
        assert data.target_from_config(section, data.from_config(section)).image_shape == (28, 28, 3)  # these two are alike
        return
    with pytest.raises((data.DataError, RunError), match=message):
        Run(_config(**overrides))


def test_other_classes_are_refused(tmp_path):
    digits = data.load('digits')
    few = digits.train.labels < 3
    arrays = {'train_images': digits.train.images[few], 'train_labels': digits.train.labels[few]}
    arrays |= {'test_images': arrays['train_images'][:9], 'test_labels': arrays['train_labels'][:9]}
    np.savez(tmp_path / 'few.npz', **arrays)
    with pytest.raises(data.DataError, match=r'data.target has 3 classes; allowed: 10, as data.name has'):
        Run(_config(**{'data.target': f'npz:{tmp_path}/few.npz'}))


def test_one_domain_is_enough_for_other_methods():
    with pytest.raises(RunError, match=r"data.target is 'digits'; allowed: '' \(supervised knows one domain\)"):
        Run(configs.load('iaat/digits.py:supervised', {'data.target': 'digits'}))


@pytest.mark.parametrize('streaming', [False, True])
def test_batches_of_both_domains_are_functions_of_seed_and_step(streaming, meshes):
    """Other lengths, orders of their own; the target's labels do not come with them."""
    options = {'data.target': 'digits', 'data.streaming': streaming, 'train.batch_size': 40, 'train.steps_per_call': 7}
    run = Run(_config(**options), meshes[8])
    assert run.info.steps_per_epoch == 1437 // 40

    def read(source, step):
        return run.feed.begin(source, step, 1)(0, step)

    with run.feed.chunks(33, [1] * 4) as sources:
        batches = [jax.device_get(jax.jit(read)(source, np.int32(33 + i))) for i, source in enumerate(sources)]
    assert set(batches[0]['source']) == {'image', 'label', 'index'}
    assert set(batches[0]['target']) == {'image', 'index'}
    other = Run(_config(**options | {'data.streaming': False}), meshes[1])
    with contextlib.closing(other.advance(other.init(), 0)), other.feed.chunks(35, [1]) as sources:
        again = jax.device_get(other.feed.begin(next(iter(sources)), np.int32(35), 1)(0, np.int32(35)))
    for domain in ('source', 'target'):
        np.testing.assert_array_equal(batches[2][domain]['index'], again[domain]['index'])
    train = data.target_from_config(run.config.data, data.from_config(run.config.data)).train
    index = batches[1]['target']['index']
    np.testing.assert_allclose(batches[1]['target']['image'], train.images[index] / np.float32(255), atol=1e-6)
    assert len(set(index)) == 40
    labelled = Run(configs.load('generate_to_adapt/digits.py:target_only,mnist5k_to_mnistm5k', options), meshes[1])
    with labelled.feed.chunks(0, [1]) as sources:
        batch = labelled.feed.begin(next(iter(sources)), np.int32(0), 1)(0, np.int32(0))
    assert 'label' in batch['target']
