"""The study of domain-specific masks: its rows, its claims, its figures."""

import json

import numpy as np
import pytest

from gjax.study import reproduce as studies
from gjax.train import config as configs

FIGURES = configs.load_module(configs.experiments_dir() / 'dmg/figures.py')
MASKS = {
    'conv3': np.array([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]]),
    'fc': np.array([[[1.0, 1.0]], [[1.0, 1.0]]]),  # of elements
}


def test_rows_are_means_over_the_domains_left_out(tmp_path):
    directories = {}
    for run, inside, outside in (('dmg/a', 0.8, 0.5), ('dmg/b', 0.6, 0.7), ('no_overlap/a', 0.9, 0.4)):
        directories[run] = {3: tmp_path / run}
        directories[run][3].mkdir(parents=True)
        metrics = {'in_domain_accuracy': inside, 'out_of_domain_accuracy': outside, 'a_accuracy': 0.0}
        (directories[run][3] / 'results.json').write_text(json.dumps({'metrics': metrics}))
    rows = studies.load_study('dmg').derive(directories)
    means = {'in_domain_accuracy': pytest.approx(0.7), 'out_of_domain_accuracy': pytest.approx(0.6)}
    assert rows['dmg'] == {3: {'a': 0.5, 'b': 0.7, **means}}
    assert rows['no_overlap'] == {3: {'a': 0.4}}


def test_claims_pair_runs_by_seed_and_domain():
    """A network whose masks are all on shows no specific units and no difference under the wrong mask."""
    study = studies.load_study('dmg')
    metrics = {}
    for method, accuracy in (('dmg', 0.8), ('aggregate', 0.7), ('multi_head', 0.7)):
        for i, unseen in enumerate(('mnist5k', 'digits', 'syndigits')):
            for seed in (0, 1):
                own = {'in_domain_accuracy': accuracy + 0.01 * i, 'out_of_domain_accuracy': 0.6 + 0.001 * seed}
                own |= {'wrong_mask_accuracy': own['in_domain_accuracy'], 'domain_specific_units': 0.0, 'empty_masks': 0.0}
                metrics.setdefault(f'{method}/{unseen}', {})[seed] = own
    judged = {claim.name: claim.judge(metrics) for claim in study.claims}
    assert {name: own['verdict'] for name, own in judged.items()} == {
        'above_aggregate_in_domain': 'holds',
        'not_below_aggregate_out_of_domain': 'holds',
        'not_below_multi_head_out_of_domain': 'holds',
        'masks_are_specific': 'does not hold',
        'some_units_are_specific': 'does not hold',
        'no_mask_is_empty': 'holds',
    }
    assert {own['pairs'] for own in judged.values()} == {6}
    assert judged['above_aggregate_in_domain']['mean'] == pytest.approx(0.1)


def _texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_figures_show_the_masks():
    overlap = FIGURES.overlap_of_masks(MASKS, ('a', 'b'))
    assert _texts(overlap) == ['100', '33', '33', '100', *['100'] * 4]
    assert [axis.get_title() for axis in overlap.axes] == ['conv3: 75% of units in use', 'fc: 100% of units in use']
    units = FIGURES.units_by_domains(MASKS)
    heights = [bar.get_height() for bar in units.axes[0].patches]
    assert heights == [0.25, 0.5, 0.25, 0.0, 0.0, 1.0]
    assert units.axes[0].get_title() == '33% of units are specific'
    metrics = {
        f'{own}_accuracy_with_{source}': 0.1 * i + 0.5 * j for i, own in enumerate('abu') for j, source in enumerate('ab')
    }
    shown = FIGURES.accuracy_by_mask(metrics, ('a', 'b', 'u'), ('a', 'b'))
    assert _texts(shown) == ['0', '50', '10', '60', '20', '70']
