"""Landed methods over more sets than their papers had: two sources pooled, an unseen one measured beside them."""

import dataclasses
import json
import re
import zipfile

import numpy as np
import pytest

from gjax import data
from gjax.data import builders, domainnet
from gjax.data.downloads import File
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.loop import train_and_evaluate
from gjax.train.run import Run
from tests.cli.runner import fails, gjax, tiny_flags
from tests.contract.cases import tiny_config
from tests.data.trees import encoded


@pytest.fixture(scope='module')
def sets(tmp_path_factory):
    """Names of four small domains of two classes, by light."""
    folder = tmp_path_factory.mktemp('sets')
    for light, name in enumerate(('dark', 'dusk', 'day', 'noon')):
        rng, arrays = np.random.default_rng(light), {}
        for split, count in (('train', 40), ('test', 24)):
            labels = np.arange(count, dtype=np.int32) % 2
            images = 40 * light + 60 * labels[:, None, None, None] + rng.integers(0, 40, (count, 8, 8, 1))
            arrays |= {f'{split}_images': images.astype(np.uint8), f'{split}_labels': labels}
        np.savez(folder / f'{name}.npz', **arrays)
    return {path.stem: f'npz:{path}' for path in folder.glob('*.npz')}


def _results(case, sets, folder, **changes):
    config = configs.copy(tiny_config(case, sets['dark'], data__padding=0))
    # An early end: what is measured counts here.
    short = {'train.total_steps': 4, 'train.eval_every_steps': 2, 'train.checkpoint_every_steps': 0, 'train.batch_size': 8}
    configs.override(config, short | {key.replace('__', '.'): value for key, value in changes.items()})
    return train_and_evaluate(config, folder)['metrics']


def test_radii_of_two_sources_are_told_apart(sets, tmp_path):
    both = (sets['dark'], sets['day'])
    metrics = _results(
        'iaat', sets, tmp_path / 'run', data__sources=both, data__unseen=(sets['dusk'],), data__validation=0.25
    )
    for name in ('dark', 'day', 'dusk'):
        assert 0 <= metrics[f'{name}_robust_accuracy'] <= metrics[f'{name}_clean_accuracy'] <= 1
        assert f'{name}_accuracy_at_{8 / 255:.4f}' in metrics
    assert {'dark_radius_margin_correlation', 'day_radius_margin_correlation'} <= metrics.keys()
    with np.load(tmp_path / 'run/examples.npz') as examples:
        assert {len(examples[f'{name}_radius']) for name in ('dark', 'day')} == {30}  # a quarter is held out
        assert not any(name.startswith('dusk') for name in examples.files)
    lines = [json.loads(line) for line in (tmp_path / 'run/metrics.jsonl').read_text().splitlines()]
    assert any('validation/day_clean_accuracy' in line for line in lines)


def test_columns_that_a_method_does_not_take_are_refused_in_every_set(sets, monkeypatch):
    config = tiny_config('iaat', sets['dark'], data__unseen=(sets['noon'],))

    open_sets = data.open_sets

    def opened(*arguments):
        dark, noon = open_sets(*arguments).values()
        fields = noon.fields | {'cloud': data.Field('points', (3,), 'float32')}
        return {'source': dark, 'noon': dataclasses.replace(noon, fields=fields)}

    monkeypatch.setattr(data, 'open_sets', opened)
    words = f'noon, {sets["noon"]}, has columns of kind points; allowed for iaat: image, label'
    with pytest.raises(RunError, match=f'^{re.escape(words)}$'):
        Run(config)


@pytest.mark.slow
def test_a_density_is_measured_of_an_unseen_set(sets, tmp_path):
    metrics = _results('flow_robustness', sets, tmp_path / 'run', data__unseen=(sets['noon'],))
    for name in ('source', 'noon'):
        assert np.isfinite(metrics[f'{name}_bits_per_dim'])
        assert np.isfinite(metrics[f'{name}_attacked_bits_per_dim'])
    assert np.isfinite(
        metrics['train_bits_per_dim'] if 'train_bits_per_dim' in metrics else metrics['source_train_bits_per_dim']
    )
    with pytest.raises(ValueError, match=r'evaluation\.ood, evaluation\.pictures are set with 2 sources; allowed: one'):
        _results('flow_adversarial', sets, tmp_path / 'two', data__sources=(sets['dark'], sets['day']))


@pytest.mark.slow
def test_adaptation_from_two_sources_selects_by_their_mean(sets, tmp_path):
    changes = {'data__sources': (sets['dark'], sets['dusk']), 'data__target': sets['day'], 'data__unseen': (sets['noon'],)}
    metrics = _results('dann', sets, tmp_path / 'run', **changes)
    assert metrics['source_accuracy'] == pytest.approx((metrics['dark_accuracy'] + metrics['dusk_accuracy']) / 2)
    assert {
        'target_accuracy',
        'target_accuracy_selected_by_source',
        'target_train_accuracy',
        'noon_accuracy',
    } <= metrics.keys()
    assert 'proxy_a_distance' not in metrics  # of three domains it means nothing
    assert 0 <= metrics['domain_accuracy'] <= 1


def _prepare_domainnet(domain, folder, monkeypatch):
    """A domain of DomainNet with 16 + 8 small images of two classes."""
    files, lines = {}, {'train': [], 'test': []}
    for number in range(24):
        name = f'{domain}/{("airplane", "ambulance")[number % 2]}/{domain}_{number}.jpg'
        files[name] = encoded(number + 100 * (number % 2), 'JPEG', 8)
        lines['test' if number < 8 else 'train'].append(f'{name} {1 + 2 * (number % 2)}')
    with zipfile.ZipFile(folder / f'{domain}.zip', 'w') as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    for split, own in lines.items():
        (folder / f'{domain}_{split}.txt').write_text('\n'.join(own))
        monkeypatch.setitem(domainnet.LISTS[domain], split, File(f'{domain}_{split}.txt'))
    monkeypatch.setitem(domainnet.ARCHIVES, domain, File(f'{domain}.zip'))
    builders.prepare(f'domainnet/{domain}', str(folder / 'tfds'), manual_dir=str(folder))


@pytest.mark.slow
def test_domains_of_domainnet_are_left_out_in_turn_and_streamed(tmp_path, monkeypatch):
    for domain in ('clipart', 'real', 'sketch'):
        _prepare_domainnet(domain, tmp_path, monkeypatch)
    options = {'data.dir': tmp_path / 'tfds', 'data.sources': 'domainnet/*', 'data.streaming': True, 'data.image_size': 8}
    options |= {'train.batch_size': 16, 'train.eval_batch_size': 16, 'train.checkpoint_every_epochs': 0}
    command = [
        'sweep',
        '--config=iaat/digits.py:supervised',
        f'--workdir={tmp_path}/runs',
        '--over',
        'data.unseen=real,sketch',
        '--jobs=1',
    ]
    done = gjax(*command, *tiny_flags(**options), GJAX_PROGRESS='1')
    assert done.returncode == 0, done.stderr
    for own, others in (('real', ('clipart', 'sketch')), ('sketch', ('clipart', 'real'))):
        results = json.loads((tmp_path / f'runs/unseen={own}/results.json').read_text())
        assert {f'{name}_clean_accuracy' for name in (own, *others)} <= results['metrics'].keys()
    assert 'real: domainnet/real: 16 train / 8 test, 345 classes, taken out of data.sources, as data.unseen' in done.stderr
    _prepare_domainnet('painting', tmp_path, monkeypatch)
    line = 'began with the sets clipart, sketch, real; its config now names clipart, painting, sketch, real'
    fails(gjax('eval', f'--workdir={tmp_path}/runs/unseen=real'), line)
