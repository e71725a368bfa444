"""A paper of a kind that none of the suite's is, in this one file: the engine trains, resumes, evaluates and reports it.

Its pipeline has a stage that sees no data (a prior over classes, learnt from noise alone), a stage that segments images of
two pooled domains with label maps, and a stage that trains nothing and judges what both parents left on an unseen domain.
"""

import dataclasses
import json
import shutil
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from gjax import methods
from gjax.evaluators import END, Means, Memory
from gjax.losses import binary_cross_entropy
from gjax.methods.core.contract import DataInfo, Method, Role, Stage
from gjax.methods.core.state import new_state, update_player
from gjax.study.report import report
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.loop import evaluate_run, train_and_evaluate
from gjax.train.run import Run
from gjax.train.store.files import read_json

NAME, IGNORE, SIDE = 'toy_segmentation', 7, 8
STAGES = ('prior', 'segment', 'judge')


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """Nothing to choose in evaluation."""


class Threshold(nn.Module):
    """Logits [B, H, W] of the brighter class: a slope, and an offset for each of D domains."""

    domains: int

    @nn.compact
    def __call__(self, images, domain):
        slope = self.param('slope', nn.initializers.constant(20.0), ())
        offset = self.param('offset', nn.initializers.zeros, (self.domains,))
        return slope * images[..., 0] + offset[domain][:, None, None]


@dataclasses.dataclass(frozen=True)
class Prior(Method):
    """The log-odds of the brighter class, learnt from noise: an offset b that minimises E (b - z)^2, z ~ N(1, 1)."""

    EVALUATION: ClassVar[type] = NoOptions
    net: Any
    optimizer: Any
    info: DataInfo
    evaluation: NoOptions

    @classmethod
    def roles(cls, sets):
        return {}

    def init(self, rng, batch):
        assert batch is None
        params = {'prior': {'b': jnp.zeros(())}}
        return new_state(rng, params, {'prior': {}}, {'prior': self.optimizer.init(params['prior'])})

    def step(self, state, batch):
        assert batch is None  # no data, by construction
        noise = 1 + jax.random.normal(state.step_rng(), (16,))
        loss, gradient = jax.value_and_grad(lambda p: jnp.mean((p['b'] - noise) ** 2))(state.params['prior'])
        state, norms = update_player(state, 'prior', gradient, self.optimizer)
        return state.replace(step=state.step + 1), {'loss/prior': loss, **norms}

    def evaluators(self):
        return (Memory(lambda state: {'prior': state.params['prior']['b']}),)


@dataclasses.dataclass(frozen=True)
class ToySegmentation(Method):
    """The segmenter of the pipeline; the stage `prior` trains another method."""

    NETS: ClassVar[dict] = {'small_cnn': None}  # it makes its own network
    KINDS: ClassVar[tuple] = ('image', 'map')
    EVALUATION: ClassVar[type] = NoOptions
    net: Any
    optimizer: Any
    info: DataInfo
    evaluation: NoOptions
    slope: float = 1.0

    @classmethod
    def roles(cls, sets):
        return {'': Role(sets.sources, fields=('image', 'label', 'domain'), draw='equal')}

    def stages(self):
        return (
            Stage('prior', overrides={'train.total_steps': 6}),
            Stage('segment', ('prior',)),
            Stage('judge', ('prior', 'segment'), trains=False),
        )

    def at(self, stage):
        return Prior(self.net, self.optimizer, self.info, self.evaluation) if stage == 'prior' else self

    def init(self, rng, batch):
        params = Threshold(len(self.info.domains)).init(rng, batch['image'], jnp.zeros(len(batch['image']), jnp.int32))
        params = {'net': params['params']}
        return new_state(rng, params, {'net': {}}, {'net': self.optimizer.init(params['net'])})

    def begin(self, stage, state, parents, batch, *, rng):
        net = state.params['net']
        if stage == 'segment':
            net = {**net, 'offset': net['offset'] + parents['prior'].params['prior']['b']}
        if stage == 'judge':
            net = parents['segment'].params['net']
        return state.replace(params={'net': net})

    def logits(self, state, images, domain):
        return Threshold(len(self.info.domains)).apply({'params': state.params['net']}, images, domain)

    def step(self, state, batch):
        assert set(batch) == {'image', 'label', 'domain', 'index'}
        counted = (batch['label'] != self.info.label.ignore).astype(jnp.float32)

        def loss(params):
            logits = Threshold(len(self.info.domains)).apply({'params': params}, batch['image'], batch['domain'])
            each = binary_cross_entropy(logits, batch['label'] == 1)
            return jnp.sum(each * counted) / jnp.sum(counted)

        value, gradient = jax.value_and_grad(loss)(state.params['net'])
        state, norms = update_player(state, 'net', gradient, self.optimizer)
        shares = [jnp.mean(batch['domain'] == i) for i in range(len(self.info.domains))]
        return state.replace(step=state.step + 1), {'loss/net': value, 'first_share': shares[0], **norms}

    def evaluators(self):
        def pixels(state, batch, *, rng):
            domain = batch.get('domain', jnp.zeros(len(batch['image']), jnp.int32))
            right = (self.logits(state, batch['image'], domain) > 0) == (batch['label'] == 1)
            counted = batch['label'] != self.info.label.ignore
            return {'right': jnp.mean(right, (1, 2), where=counted)}

        return (Means(pixels), Means(pixels, when=END, sets=self.info.unseen, splits=('train',)))


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """The config of the pipeline over two domains of bright squares on a dark ground, and an unseen domain between them."""
    folder = tmp_path_factory.mktemp('toy')
    rng = np.random.default_rng(0)
    for name, light, count in (('day', 100, 24), ('night', 0, 32), ('dusk', 50, 16)):
        arrays = {'ignore': np.asarray(IGNORE)}
        for split in ('train', 'test'):
            maps = (rng.integers(0, 3, (count, SIDE // 2, SIDE // 2)) == 0).astype(np.uint8).repeat(2, 1).repeat(2, 2)
            images = light + 120 * maps[..., None] + rng.integers(0, 30, (count, SIDE, SIDE, 1))
            maps[:, 0] = IGNORE
            arrays |= {f'{split}_images': images.astype(np.uint8), f'{split}_labels': maps}
        np.savez(folder / f'{name}.npz', **arrays)
    methods.register(NAME, ToySegmentation)
    own = configs.base_config()
    own.experiment = own.method.name = NAME
    own.data.update(sources=tuple(f'npz:{folder}/{name}.npz' for name in ('day', 'night')), padding=1)
    own.data.update(unseen=(f'npz:{folder}/dusk.npz',), flip=True, padding_mode='constant')
    own.train.update(batch_size=16, eval_batch_size=16, steps_per_call=4, total_steps=80, eval_every_steps=40)
    own.train.checkpoint_every_steps = 40
    own.optimizer.update(name='rmsprop', learning_rate=0.3)
    configs.complete(own)
    yield own.lock()
    methods._registered.pop(NAME)


@pytest.fixture(scope='module')
def trained(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp('toy_runs') / 'whole'
    return train_and_evaluate(config, folder), folder


def test_the_pipeline_trains_and_judges(trained):
    results, folder = trained
    assert {path.name for path in folder.iterdir() if path.is_dir()} == set(STAGES)
    metrics = results['metrics']
    assert 0 < metrics['prior/prior'] < 2
    for domain in ('day', 'night'):  # a tenth of its training images is held out
        for split in ('', 'validation_'):
            assert metrics[f'segment/{split}{domain}_right'] > 0.95
    assert metrics['judge/day_right'] == metrics['segment/day_right']
    assert read_json(folder / 'judge/run.json')['parent'] == f'{folder}/prior, {folder}/segment'
    assert (folder / 'judge/checkpoints').is_dir()
    lines = [json.loads(line) for line in (folder / 'segment/metrics.jsonl').read_text().splitlines()]
    assert {line['first_share'] for line in lines if 'first_share' in line} == {0.5}
    assert any('validation/day_right' in line for line in lines)
    # One offset cannot suit a domain between both: the unseen one is measured, on the split that is asked for.
    assert 0.3 < metrics['judge/train_dusk_right'] < metrics['judge/day_right']
    assert results['protocol'] == 'last step, test split'


def test_it_resumes_bit_for_bit_and_evaluates_again(config, trained, tmp_path):
    results, folder = trained
    shutil.copytree(folder, tmp_path / 'again')
    for path in (tmp_path / 'again').rglob('results.json'):
        path.unlink()
    shutil.rmtree(tmp_path / 'again/segment/checkpoints/80')
    shutil.rmtree(tmp_path / 'again/judge')
    assert train_and_evaluate(config, tmp_path / 'again') == results
    assert json.loads((tmp_path / 'again/segment/run.json').read_text())['resumed_at'] == 40
    for stage in STAGES:
        logs = [(root / stage / 'metrics.jsonl').read_text() for root in (folder, tmp_path / 'again')]
        assert logs[0] == logs[1]
        own = {name.removeprefix(f'{stage}/'): v for name, v in results['metrics'].items() if name.startswith(f'{stage}/')}
        assert evaluate_run(folder / stage)['metrics'] == pytest.approx(own)


def test_one_device_equals_eight(config, trained, tmp_path, meshes):
    alone = train_and_evaluate(config, tmp_path / 'alone', mesh=meshes[1])
    assert alone['metrics'] == pytest.approx(trained[0]['metrics'], abs=1e-5)


def test_it_is_reported_beside_others(trained, tmp_path):
    text = report([trained[1] / stage for stage in STAGES], tmp_path / 'report', ('day_right',))
    assert text.count('| complete |') == len(STAGES)


def test_a_stream_gives_the_same_run(config, trained, tmp_path):
    own = configs.copy(config)
    configs.override(own, {'data.streaming': True})
    assert train_and_evaluate(own, tmp_path / 'streamed')['metrics'] == pytest.approx(trained[0]['metrics'], abs=1e-5)


def test_mistakes_are_refused_in_one_line(config):
    def changed(**changes):
        own = configs.copy(config)
        configs.override(own, {key.replace('__', '.'): value for key, value in changes.items()})
        return own

    with pytest.raises(RunError, match=r"data\.target is 'digits'; allowed: '' \(toy_segmentation knows one domain\)"):
        Run(changed(data__target='digits'))
    day = config.data.sources[0]
    three = (*config.data.sources, f'{day}')
    with pytest.raises(ValueError, match="two sets called 'day'; allowed: each name once"):
        Run(changed(data__sources=three))
    with pytest.raises(ValueError, match=r'data\.unseen has images of \(28, 28, 3\); allowed: \(8, 8, 1\)'):
        Run(changed(data__unseen=('mnistm5k',)))
    with pytest.raises(RunError, match=r"stage is 'defend'; allowed: prior, segment, judge"):
        Run(changed(stage='defend'))


def test_a_config_of_epochs_is_refused_where_there_are_none(config):
    @dataclasses.dataclass(frozen=True)
    class Alone(Prior):
        NETS: ClassVar[dict] = {'small_cnn': None}

    methods.register('toy_prior', Alone)
    own = ml_collections.ConfigDict(config.to_dict())
    own.method = {'name': 'toy_prior'}
    own.data.update(sources=(), unseen=(), name='a set that nobody opens')
    own.train.update(total_steps=0, total_epochs=2)
    with pytest.raises(RunError, match=r'train\.total_epochs is 2; allowed: 0, for toy_prior sees no data; set steps or ex'):
        Run(own)
    own.train.update(total_steps=3, total_epochs=0)
    assert Run(own).info.steps_per_epoch == 3
    methods._registered.pop('toy_prior')
