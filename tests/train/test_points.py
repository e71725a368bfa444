"""A method on points [N, D] from an .npz file: the engine trains, resumes, streams and measures it as it does on images."""

import dataclasses
import json
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import data, methods
from gjax.evaluators import END, Means
from gjax.methods.core.contract import DataInfo, Method, Role
from gjax.methods.core.state import new_state
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.loop import evaluate_run, train_and_evaluate
from gjax.train.run import Run

COUNT, STEPS, RATE = 48, 5, 0.5


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """Nothing to choose in evaluation."""


@dataclasses.dataclass(frozen=True)
class NearestMean(Method):
    """The mean of every class, to which each step goes a part of the way; a point's class is that of the nearest mean."""

    NETS: ClassVar[dict] = {'small_cnn': None}  # it has none
    KINDS: ClassVar[tuple] = ('points', 'label')
    EVALUATION: ClassVar[type] = NoOptions
    net: Any
    optimizer: Any
    info: DataInfo
    evaluation: NoOptions
    rate: float = RATE

    @classmethod
    def roles(cls, sets):
        return {'': Role(sets.sources)}

    def init(self, rng, batch):
        means = jnp.zeros((self.info.num_classes, *self.info.image_shape))
        return new_state(rng, {'means': means}, {}, {})

    def step(self, state, batch):
        assert set(batch) == {'points', 'label', 'index'}
        own = jax.nn.one_hot(batch['label'], self.info.num_classes)
        means = state.params['means']
        change = own.T @ batch['points'] / own.sum(axis=0)[:, None] - means
        means = means + self.rate * change
        return state.replace(step=state.step + 1, params={'means': means}), {'loss': jnp.mean(change**2)}

    def evaluators(self):
        def accuracy(state, batch, *, rng):
            distances = jnp.sum((batch['points'][:, None] - state.params['means'][None]) ** 2, axis=-1)
            return {'accuracy': (distances.argmin(axis=1) == batch['label']).astype(jnp.float32)}

        return (Means(accuracy, when=END, splits=('test',), needs=('label',)),)


def _arrays(seed, shift=0.0):
    rng, arrays = np.random.default_rng(seed), {}
    for split, count in (('train', COUNT), ('test', 30)):
        labels = np.arange(count, dtype=np.int32) % 3
        points = rng.normal(size=(count, 2)) + 2 * np.eye(3, 2)[labels] + shift
        arrays |= {f'{split}_images': points.astype(np.float32), f'{split}_labels': labels}
    return arrays


def _accuracy(means, arrays):
    distances = ((arrays['test_images'][:, None] - means[None]) ** 2).sum(axis=-1)
    return np.mean(distances.argmin(axis=1) == arrays['test_labels'])


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Of batches that are the whole set, and another set of points that is only measured."""
    monkeypatch.setitem(methods._registered, 'nearest_mean', NearestMean)
    np.savez(tmp_path / 'own.npz', **_arrays(0))
    np.savez(tmp_path / 'far.npz', **_arrays(1, shift=1.0))
    config = configs.base_config()
    config.method = {'name': 'nearest_mean'}
    config.data.update(name=f'npz:{tmp_path}/own.npz', unseen=(f'npz:{tmp_path}/far.npz',), validation=0.0)
    config.train.update(batch_size=COUNT, eval_batch_size=16, total_steps=STEPS, total_epochs=0, checkpoint_every_steps=2)
    configs.complete(config)
    return config


def _expected():
    """The accuracies of the means after STEPS steps, by NumPy: the batch is the set, so its order does not matter."""
    arrays = _arrays(0)
    means = np.stack([arrays['train_images'][arrays['train_labels'] == k].mean(axis=0) for k in range(3)])
    means = means * (1 - (1 - RATE) ** STEPS)
    return {'source_accuracy': _accuracy(means, arrays), 'far_accuracy': _accuracy(means, _arrays(1, shift=1.0))}


def test_points_are_trained_on_and_measured(config, tmp_path):
    results = train_and_evaluate(config, tmp_path / 'run')
    assert results['metrics'] == pytest.approx(_expected(), abs=1e-6)
    assert 0.5 < results['metrics']['source_accuracy'] < 1  # neither trivial nor chance
    sets = json.loads((tmp_path / 'run/data.json').read_text(encoding='utf-8'))['sets']
    assert {name: own['fields']['points'] for name, own in sets.items()} == {'source': ['points', 2], 'far': ['points', 2]}
    with pytest.raises(data.DataError, match=r"^evaluation.ood has 'digits', images of \(.*\); allowed: \(2,\)"):
        Run(config).look(None, 'end').other_set('digits', 'evaluation.ood')
    config.data.image_size = 8
    with pytest.raises(
        data.DataError, match=r'data.image_size, data.channels are 8, 0; allowed: 0 for npz:.*own.npz, which'
    ):
        Run(config)


@pytest.mark.slow
def test_points_are_streamed_and_resumed(config, tmp_path):
    config.data.streaming = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Means, '__call__', lambda *_: (_ for _ in ()).throw(RunError('stopped before the evaluation')))
        with pytest.raises(RunError, match='stopped'):
            train_and_evaluate(config, tmp_path / 'run')
    results = train_and_evaluate(config, tmp_path / 'run')
    assert json.loads((tmp_path / 'run/run.json').read_text(encoding='utf-8'))['resumed_at'] == STEPS
    assert results['metrics'] == pytest.approx(_expected(), abs=1e-6)
    assert evaluate_run(tmp_path / 'run')['metrics'] == results['metrics']


def test_a_method_of_images_refuses_points(config):
    config.method = {'name': 'supervised'}
    configs.complete(config)
    with pytest.raises(
        RunError, match=r'^source, npz:.*, has columns of kind points; allowed for supervised: image, label$'
    ):
        Run(config)
