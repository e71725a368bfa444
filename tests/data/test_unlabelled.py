"""Sets without labels, from the file to the results: they are converted, drawn and measured, and numbers that need labels
are left out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import data, methods
from gjax.data.streaming import EvalBatches, TrainBatches
from gjax.evaluators import Examples
from gjax.evaluators.domains import AdaptationEvaluation, Embeddings, Selection, accuracy_by_class
from gjax.methods.core.adaptation import Adaptation
from gjax.methods.core.contract import Role, Sets
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.feeds import make_pools
from gjax.train.loop import evaluate_run, train_and_evaluate
from tests.data.trees import write
from tests.train.looks import TinyRun, dataset

KEY = jax.random.key(0)
SETS = Sets(('source',), 'target')


def bare(labelled: data.Dataset) -> data.Dataset:
    """The same set without its labels."""
    splits = {name: data.Split({'image': records.images}) for name, records in labelled.splits.items()}
    return dataclasses.replace(labelled, fields={'image': labelled.fields['image']}, **splits)


@pytest.fixture(scope='module')
def sets():
    return {'source': dataset('source', 0), 'target': bare(dataset('target', 60, 17, 25))}


def test_a_set_without_labels_is_converted_held_out_and_drawn(tmp_path):
    """Decoded before or when asked for."""
    write(tmp_path, '*50')
    lazy = data.find(f'folder:{tmp_path}')
    for whole in (lazy, lazy.load()):
        small = data.subset(data.with_validation(data.converted(whole, 2, 1), 0.2, 3), 20, 3, 'data.examples').load()
        assert {name: len(own) for name, own in small.splits.items()} == {'train': 20, 'validation': 9, 'test': 5}
        assert {name: list(own.columns) for name, own in small.splits.items()} == {name: ['image'] for name in small.splits}
        assert small.image_shape == (2, 2, 1)
        assert data.summary(small).endswith('no labels')


def test_batches_of_a_stream_have_no_labels(tmp_path):
    write(tmp_path, '*50')
    train = data.find(f'folder:{tmp_path}').train
    rows = np.arange(4)
    drawn = TrainBatches(train, lambda step: np.arange(8) + step, rows, 3, (4, 4, 3))[2]
    assert {name: len(values) for name, values in drawn.items()} == {'image': 4, 'index': 4}
    assert EvalBatches(train, np.arange(6), 4, rows, (4, 4, 3))[1].keys() == {'image', 'index'}


def test_a_target_needs_no_labels_and_fewer_classes_are_enough(tmp_path):
    images = np.zeros((40, 32, 32, 1), np.uint8)
    section = {'name': 'digits', 'dir': '', 'image_size': 0, 'target_examples': 0}
    for labels in ({}, {'train_labels': np.arange(40) % 4, 'test_labels': np.arange(40) % 4}):
        np.savez(tmp_path / 'a.npz', train_images=images, test_images=images, **labels)
        opened = data.open_sets(section | {'target': f'npz:{tmp_path}/a.npz'})
        assert opened['target'].num_classes == (10 if labels else 0)
        assert data.open_sets(section | {'target': '', 'unseen': (f'npz:{tmp_path}/a.npz',)}).keys() == {'source', 'a'}
    np.savez(tmp_path / 'a.npz', train_images=images, test_images=images)
    with pytest.raises(
        data.DataError, match=r"data.sources has 'npz:.*a.npz', which has no labels; allowed: labels, as its"
    ):
        data.open_sets(section | {'sources': ('digits', f'npz:{tmp_path}/a.npz'), 'target': ''})
    with pytest.raises(data.DataError, match=r'data.name has no labels, data.target has; allowed: labels in data.name'):
        data.open_sets(section | {'name': f'npz:{tmp_path}/a.npz', 'target': 'digits'})


def test_labels_that_a_method_trains_on_must_be_there(sets):
    make_pools(Adaptation.roles(SETS), sets, 2, KEY, domains=('source',))
    with pytest.raises(
        RunError, match=r"data.target is 'target', which has no labels; allowed: labels, which the method tr"
    ):
        make_pools(methods.find('target_only').roles(SETS), sets, 2, KEY, domains=('source',))
    alone = {'source': bare(sets['source'])}
    with pytest.raises(RunError, match=r"data\.name is 'source', which has no labels"):
        make_pools({'': Role(('source',), draw='classes')}, alone, 2, KEY, domains=('source',))
    assert make_pools({'': Role(('source',))}, alone, 2, KEY, domains=('source',))[''].role.fields == ('image',)


@pytest.mark.parametrize('name', ['supervised', 'dann'])
def test_a_classifier_of_no_classes_says_that_there_are_no_labels(name):
    cls = methods.find(name)
    method = cls(net=None, optimizer=None, info=methods.DataInfo(0, 9, 9, 9), evaluation=cls.EVALUATION())
    with pytest.raises(
        ValueError, match=r'the number of classes of data\.name is 0, for it has no labels; allowed: at least'
    ):
        method.fits()


def _features(state, batch):
    return state * batch['image'].reshape(len(batch['image']), -1)


def _logits(state, batch):
    return jnp.concatenate([_features(state, batch), jnp.full((len(batch['image']), 2), 0.05)], axis=1)


def _described(state, batch, *, rng):
    right = {'correct': _logits(state, batch).argmax(axis=-1) == batch['label']} if 'label' in batch else {}
    return right | {'level': batch['image'][:, 0, 0, 0]}


def test_what_needs_labels_is_left_out_of_the_findings_and_nothing_else(sets):
    run = TinyRun(sets, ('source',))
    run.trained = ('source', 'target')
    look = run.look(jnp.float32(1), 'end')
    labelled = TinyRun({'source': sets['source']}, ('source',)).look(jnp.float32(1), 'end')
    found = accuracy_by_class(_logits, 3)(look.state, look).metrics
    expected = accuracy_by_class(_logits, 3, of='')(labelled.state, labelled).metrics
    assert found == {f'source_{name}': value for name, value in expected.items()} | {
        'source_accuracy': found['source_accuracy']
    }
    embedded = Embeddings(_features, _logits, AdaptationEvaluation(probe_examples=8, pictures=10))(look.state, look)
    assert embedded.metrics.keys() == {'domain_accuracy', 'proxy_a_distance'}
    names = {f'{name}_{what}' for name in sets for what in ('embedding', 'prediction')} | {'source_label'}
    assert embedded.arrays['images'].keys() == names
    examples = Examples(_described)(look.state, look).arrays['examples']
    assert examples.keys() == {'source_correct', 'source_level', 'target_level'}
    look.log = [{'test/source_accuracy': 0.5}]
    assert Selection('target_accuracy', {'oracle': ('target_accuracy',)})(look.state, look).metrics == {}
    assert Adaptation.summarize_examples(None, {'source': {'correct': np.ones(2)}, 'target': {}}) == {}


@pytest.mark.slow
@pytest.mark.parametrize('streaming', [False, True])
def test_a_run_adapts_to_a_folder_of_images(tmp_path, streaming):
    write(tmp_path / 'images', '*60')
    options = {
        'data.target': f'folder:{tmp_path}/images',
        'data.examples': 64,
        'data.streaming': streaming,
        'data.channels': 3,
        'train.total_steps': 4,
        'train.eval_every_steps': 2,
        'train.steps_per_call': 2,
        'train.batch_size': 16,
        'net.widths': (4, 8),
        'evaluation.probe_examples': 40,
        'evaluation.pictures': 4,
    }
    config = configs.load('generate_to_adapt/digits.py:dann', options)
    results = train_and_evaluate(config, tmp_path / 'run')
    assert results['metrics'].keys() == {'source_accuracy', 'source_loss', 'domain_accuracy', 'proxy_a_distance'}
    assert evaluate_run(tmp_path / 'run') == results
    with np.load(tmp_path / 'run' / 'examples.npz') as examples:
        assert set(examples.files) == {'source_correct', 'source_confidence', 'target_confidence'}
        assert len(examples['target_confidence']) == 54
