"""Scores of samples and codes: a named extractor, trained once, and numbers that say what they were measured with."""

import json
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from gjax import metrics
from gjax.train import config as configs
from gjax.train.devices import data_mesh
from gjax.train.errors import RunError
from gjax.train.extractors import Extractor
from gjax.train.loop import evaluate_run, train_and_evaluate
from gjax.train.run import Run
from gjax.train.store.cache import cache_dir
from gjax.train.store.checkpoint import Checkpointer
from tests.contract.cases import tiny_config
from tests.inception import random_state_dict
from tests.states import assert_equal

EXTRACTOR = """
from tests.contract.cases import tiny_config

def get_config():
    config = tiny_config('supervised', {data!r}, train__total_steps=20, evaluation__steps=1)
    return config.unlock()
"""


def _store(file, images, labels):
    """One npz whose two splits are the same."""
    np.savez(file, train_images=images, train_labels=labels, test_images=images, test_labels=labels)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """(data name, extractor config) of toy images; class 1 is bright on the right."""
    folder = tmp_path_factory.mktemp('scores')
    rng = np.random.default_rng(0)
    labels = np.arange(60, dtype=np.int32) % 2
    right = (np.arange(8) >= 4)[None, None, :, None]
    images = rng.integers(0, 120, (60, 8, 8, 1)) + 110 * (right == labels[:, None, None, None])
    _store(folder / 'toy.npz', images.astype(np.uint8), labels)
    (folder / 'extractor.py').write_text(EXTRACTOR.format(data=f'npz:{folder}/toy.npz'))
    return f'npz:{folder}/toy.npz', str(folder / 'extractor.py')


@pytest.fixture
def config(data, tmp_path, monkeypatch):
    monkeypatch.setenv('GJAX_CACHE', str(tmp_path / 'cache'))
    return lambda case, **more: tiny_config(case, data[0], evaluation__extractor=data[1], evaluation__samples=50, **more)


def _assert_other_weights_have_another_name(folder, config, protocol):
    """Weights that lie in the cache under the same name are told apart by what they are."""
    own = Run(configs.read(folder / 'config.json'), data_mesh())
    with Checkpointer(folder / 'checkpoints') as checkpoints:
        state, step = checkpoints.restore_latest(own.template)
        checkpoints.save(step + 1, state.replace(params=jax.tree.map(lambda leaf: leaf + 1e-6, state.params)))
        checkpoints.wait()
    run = Run(config)
    run.prepare_evaluators()
    (found,) = (evaluator.protocol for evaluator in run.evaluators if 'samples' in evaluator.protocol)
    assert found.split()[0] == protocol.split()[0] == 'contract'
    assert found != protocol


def test_a_vae_is_scored_and_the_extractor_is_trained_once(config, tmp_path):
    results = train_and_evaluate(config('vae'), tmp_path / 'vae')
    names = ('frechet_distance', 'inception_score', 'reconstruction_frechet_distance', 'linear_probe_accuracy')
    assert all(np.isfinite(results['metrics'][name]) for name in names)
    assert results['metrics']['linear_probe_accuracy'] > 0.9
    assert results['protocol'].startswith('last step, test split; contract ')
    assert results['protocol'].endswith(', 50 samples')
    pictures = np.load(tmp_path / 'vae' / 'images.npz')
    assert pictures['generated'].shape == (64, 8, 8, 1)
    assert pictures['originals'].dtype == pictures['reconstructions'].dtype == np.uint8
    (extractor,) = (path for path in (cache_dir() / 'extractors').iterdir() if path.is_dir())
    before = (extractor / 'results.json').stat().st_mtime_ns
    assert evaluate_run(tmp_path / 'vae') == results
    train_and_evaluate(config('gan'), tmp_path / 'gan')
    assert (extractor / 'results.json').stat().st_mtime_ns == before
    assert len([path for path in (cache_dir() / 'extractors').iterdir() if path.is_dir()]) == 1
    _assert_other_weights_have_another_name(extractor, config('vae'), results['protocols']['frechet_distance'])
    gan = json.loads((tmp_path / 'gan/results.json').read_text())['metrics']
    assert 'frechet_distance' in gan
    assert 'linear_probe_accuracy' not in gan


def test_the_distance_of_the_data_to_itself_is_nothing_and_noise_is_far(config):
    run = Run(config('vae'))
    extractor = Extractor(run.config.evaluation.extractor, run)
    images = jax.numpy.asarray(np.load(run.config.data.name.removeprefix('npz:'))['train_images'] / np.float32(255))
    rng = jax.random.key(0)
    sets = {'data': images, 'noise': jax.random.uniform(rng, images.shape), 'shifted': 0.9 * images}
    found = {k: metrics.gaussian_statistics(extractor(extractor.variables, x)['features']) for k, x in sets.items()}
    distances = {name: metrics.frechet_distance(found['data'], statistics) for name, statistics in found.items()}
    assert distances['data'] == pytest.approx(0, abs=1e-4)
    assert distances['data'] < distances['shifted'] < distances['noise']


def test_two_runs_at_once_train_one_extractor(config):
    runs = [Run(config(case)) for case in ('vae', 'gan')]
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda run: Extractor(run.config.evaluation.extractor, run), runs))
    assert made[0].name == made[1].name
    assert_equal(made[0].variables, made[1].variables)


@pytest.mark.slow
def test_without_an_extractor_there_is_no_distance_and_a_plain_autoencoder_has_no_samples(data, config, tmp_path):
    plain = train_and_evaluate(tiny_config('gan', data[0]), tmp_path / 'gan')
    assert 'frechet_distance' not in plain['metrics']
    autoencoder = train_and_evaluate(config('autoencoder', evaluation__probe=False), tmp_path / 'ae')['metrics']
    assert 'reconstruction_frechet_distance' in autoencoder
    assert 'frechet_distance' not in autoencoder
    assert 'linear_probe_accuracy' not in autoencoder


def test_an_extractor_of_other_images_is_refused_before_anything_is_trained(data, config, tmp_path):
    _store(tmp_path / 'other.npz', np.zeros((20, 12, 12, 1), np.uint8), np.arange(20) % 2)
    mismatched = tiny_config('vae', f'npz:{tmp_path}/other.npz', evaluation__extractor=data[1], net__widths=(4, 4))
    with pytest.raises(RunError, match=r'trained on images of \(8, 8, 1\); allowed: one of \(12, 12, 1\)'):
        train_and_evaluate(mismatched, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()
    assert not (tmp_path / 'cache').exists()


@pytest.mark.slow
def test_inception_scores_by_the_weights_of_a_file(data, tmp_path):
    file = tmp_path / 'weights.npz'
    np.savez(file, **random_state_dict('fid'))
    options = {'evaluation__extractor': f'inception:{file}', 'evaluation__samples': 24}
    results = train_and_evaluate(tiny_config('gan', data[0], **options), tmp_path / 'gan')
    assert results['protocol'].startswith('last step, test split; inception-v3 (fid) ')
    assert results['protocol'].endswith(' of 8-bit images, 24 samples')
    assert np.isfinite(results['metrics']['frechet_distance'])
    assert 1 <= results['metrics']['inception_score'] <= 1008


def test_bad_inception_weights_are_refused_before_anything_is_trained(data, tmp_path):
    def train(file):
        train_and_evaluate(tiny_config('gan', data[0], evaluation__extractor=f'inception:{file}'), tmp_path / 'gan')

    with pytest.raises(RunError, match=r'missing.npz is damaged and cannot be read'):
        train(tmp_path / 'missing.npz')
    np.savez(tmp_path / 'other.npz', weight=np.zeros(3))
    with pytest.raises(RunError, match=r'other.npz.: these are not the weights of Inception-v3'):
        train(tmp_path / 'other.npz')
    assert not (tmp_path / 'gan').exists()
