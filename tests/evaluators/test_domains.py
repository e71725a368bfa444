"""What is measured and drawn of two domains: the linear classifier of domains, snapshots, the study's figures."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from gjax import data
from gjax.evaluators import END, Findings
from gjax.evaluators.domains import AdaptationEvaluation, Embeddings, Selection, accuracy_by_class
from gjax.metrics import told_apart
from gjax.train import config as configs
from gjax.train.loop import train_and_evaluate
from gjax.train.store.files import read_arrays
from gjax.train.store.records import read_metrics
from tests.train.looks import TinyRun, dataset, levels

RNG = np.random.default_rng(0)
TINY = {
    'data.name': 'digits',
    'data.target': 'digits',
    'data.examples': 64,
    'data.target_examples': 48,
    'train.total_steps': 4,
    'train.eval_every_steps': 2,
    'train.steps_per_call': 2,
    'train.batch_size': 16,
    'net.widths': (4, 8),
    'net.generator_width': 4,
    'net.discriminator_width': 4,
    'net.noise': 8,
    'evaluation.probe_examples': 60,
    'evaluation.pictures': 40,
}


def _parts(shift, counts=(300, 200)):
    return [RNG.normal(size=(count, 3)) + shift * i for i, count in enumerate(counts)]


@pytest.mark.parametrize(('shift', 'accuracy', 'slack'), [(0.0, 0.5, 0.08), (20.0, 1.0, 0.0)])
def test_domains_told_apart(shift, accuracy, slack):
    """Not at all, or always, however many examples of each there are."""
    found = told_apart(_parts(shift), _parts(shift, (100, 900)))
    assert abs(found['domain_accuracy'] - accuracy) <= slack
    assert found['proxy_a_distance'] == pytest.approx(4 * found['domain_accuracy'] - 2)


def test_domains_are_equally_many():
    """A domain ten times as large does not make 'always that one' right more than half of the time."""
    same = [np.zeros((500, 2)), np.zeros((50, 2))]
    assert told_apart(same, same)['domain_accuracy'] == 0.5


def _features(state, batch):
    """The level, and its square, of images [B, 1, 1, 1]."""
    level = state * batch['image'][:, 0, 0, 0]
    return jnp.stack([level, level**2], axis=1)


def _logits(state, batch):
    level = batch['image'][:, 0, 0, 0]
    return jnp.stack([level, jnp.full(len(level), 0.05)], axis=1)


@pytest.fixture(scope='module')
def tiny():
    return TinyRun({'source': dataset('source', 0, 30, 11), 'target': dataset('target', 60, 17, 25)}, ('source', 'target'))


def test_embeddings_of_chosen_rows_are_slices_of_all(tiny):
    """Ten pictures of 25 and of 11; the classifier of domains sees the eight of each that are drawn."""
    look = tiny.look(jnp.float32(3), 'end')
    found = Embeddings(_features, _logits, AdaptationEvaluation(probe_examples=8, pictures=10))(look.state, look)
    shown = found.arrays['images']
    for name in ('source', 'target'):
        test = tiny.datasets[name].test
        rows = data.drawn_rows(tiny.datasets[name], 'test', 10, 0)
        assert np.bincount(test.labels[rows], minlength=3).min() >= 3  # every class
        own = np.asarray(levels(tiny, name, 'test'))[rows]
        np.testing.assert_allclose(shown[f'{name}_embedding'], _features(3, {'image': own.reshape(-1, 1, 1, 1)}), rtol=1e-6)
        np.testing.assert_array_equal(shown[f'{name}_label'], test.labels[rows])
        np.testing.assert_array_equal(shown[f'{name}_prediction'], np.where(own >= np.float32(0.05), 0, 1))
        assert len(shown[f'{name}_label']) == 10
    parts = []
    for split in ('train', 'test'):
        parts.append([])
        for name in tiny.datasets:
            own = levels(tiny, name, split)[data.drawn_rows(tiny.datasets[name], split, 8, 0)]
            parts[-1].append(np.asarray(_features(3, {'image': own.reshape(-1, 1, 1, 1)})))
    expected = told_apart(*parts)
    assert found.metrics == pytest.approx(expected)
    assert found.metrics['domain_accuracy'] == 1.0  # levels from 0 on and from 60 on


def test_embeddings_measure_only_what_they_keep(tiny):
    """Two batches of 8 rows of each of two sets, where all rows would be twenty-two."""
    look, rows = tiny.look(jnp.float32(3), 'log'), []
    wrapped = look.rows
    look.rows = lambda *arguments, rows_seen=rows, **options: (
        rows_seen.append(len(options['rows'])) or wrapped(*arguments, **options)
    )
    found = Embeddings(_features, _logits, AdaptationEvaluation(probe_examples=8, pictures=10))(look.state, look)
    assert max(rows) <= 8
    assert found.arrays == {}  # pictures are of the end
    nothing = Embeddings(_features, _logits, AdaptationEvaluation(probe_examples=0, pictures=0))
    assert nothing(look.state, look) == Findings({})


def test_classes_are_counted_in_the_splits_that_the_target_has():
    """Here the source alone has a validation split."""
    run = TinyRun({'source': dataset('source', 0, validation=5), 'target': dataset('target', 60, 17, 25)}, ('source',))
    look = run.look(jnp.float32(1))
    found = accuracy_by_class(_logits, 3)(look.state, look).metrics
    right = np.where(levels(run, 'target', 'test') >= np.float32(0.05), 0, 1) == run.datasets['target'].test.labels
    assert found['target_accuracy'] == pytest.approx(right.mean())
    by_class = [right[run.datasets['target'].test.labels == k].mean() for k in range(3)]
    assert [found[f'target_class_{k}_accuracy'] for k in range(3)] == pytest.approx(by_class)
    assert found['target_mean_class_accuracy'] == pytest.approx(np.mean(by_class))
    assert [name for name in found if name.startswith('validation')] == [
        'validation_source_accuracy',
        'validation_source_loss',
    ]


@pytest.mark.parametrize(
    ('validated', 'expected'),
    [
        (True, {'target_accuracy_selected_by_source': 0.3, 'target_accuracy_oracle': 0.7}),
        (False, {'target_accuracy_selected_by_source': 0.6, 'target_accuracy_oracle': 0.7}),
    ],
)
def test_selection_is_by_validation_where_it_was_logged_and_else_by_the_test_split(tiny, validated, expected):
    """The last of the best; lines without an evaluation do not count."""
    rows = [(0.5, 0.9, 0.3), (0.9, 0.2, 0.4), (0.8, 0.1, 0.7), (0.9, 0.1, 0.6)]
    lines = [{'step': 0, 'loss/classifier': 1.0}]
    for step, (tested, held_out, target) in enumerate(rows, 1):
        line = {'step': step, 'test/source_accuracy': tested, 'test/target_accuracy': target}
        lines.append(line | ({'validation/source_accuracy': held_out} if validated else {}))
    by = {'selected_by_source': ('validation_source_accuracy', 'source_accuracy'), 'oracle': ('target_accuracy',)}
    selection = Selection('target_accuracy', by)
    look = tiny.look(jnp.float32(0), 'end', lines)
    assert selection(look.state, look).metrics == expected
    assert selection.when == END
    empty = tiny.look(jnp.float32(0), 'end')
    assert selection(empty.state, empty).metrics == {}


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """{run of the study: [directory]} of two runs of four steps."""
    root, found = tmp_path_factory.mktemp('domains'), {}
    for method in ('source_only', 'generate_to_adapt'):
        config = configs.load(f'generate_to_adapt/digits.py:{method},mnist5k_to_digits', TINY)
        train_and_evaluate(config, root / method)
        found[f'{method}/mnist5k_to_digits'] = {0: root / method}
    return found


@pytest.mark.slow
def test_a_run_says_how_far_the_domains_met(runs):
    for seeds in runs.values():
        metrics = json.loads((seeds[0] / 'results.json').read_text())['metrics']
        assert 0 <= metrics['domain_accuracy'] <= 1
        assert metrics['proxy_a_distance'] == pytest.approx(4 * metrics['domain_accuracy'] - 2)
        shown = read_arrays(seeds[0] / 'images.npz')
        for domain in ('source', 'target'):
            assert len(shown[f'{domain}_embedding']) == len(shown[f'{domain}_label']) == len(shown[f'{domain}_prediction'])
    for seeds in runs.values():  # and at every evaluation, as at the end
        lines = [line for line in read_metrics(seeds[0] / 'metrics.jsonl') if 'test/target_accuracy' in line]
        assert [line['step'] for line in lines] == [2, 4]
        metrics = json.loads((seeds[0] / 'results.json').read_text())['metrics']
        names = [name for name in metrics if '_class_' in name]
        assert len(names) == 11
        for name in ('domain_accuracy', 'proxy_a_distance', *names):
            assert lines[-1][f'test/{name}'] == metrics[name]
            assert f'test/{name}' in lines[0]
    snapshots = sorted((runs['generate_to_adapt/mnist5k_to_digits'][0] / 'snapshots').glob('*.npz'))
    assert [int(path.stem) for path in snapshots] == [2, 4]
    arrays = read_arrays(snapshots[0])
    for domain in ('source', 'target'):
        assert arrays[f'{domain}_images'].shape == arrays[f'{domain}_generated'].shape == (16, 16, 16, 1)
        assert arrays[f'{domain}_generated'].dtype == np.uint8
        assert arrays[f'{domain}_generated'].std() > 0


@pytest.mark.slow
def test_the_studys_figures_and_rows(runs):
    study = configs.load_module(configs.experiments_dir() / 'generate_to_adapt' / 'study.py')
    drawn = study.figures(runs)
    names = ('accuracy', 'embeddings', 'generated')
    assert set(drawn) == {f'mnist5k_to_digits_{name}.png' for name in names}
    assert all(figure.axes for figure in drawn.values())
    rows = study.derive(runs)
    for row in rows.values():
        assert row[0]['mnist5k_to_digits'] == row[0]['target_accuracy']
