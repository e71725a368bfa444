"""Claims are judged on paired means, tables carry mean and spread, and the shipped study is coherent."""

import json

import numpy as np
import pytest

from gjax.study import reproduce as studies
from gjax.train import config as configs
from gjax.train.errors import RunError

METRICS = {
    'a': {0: {'clean_accuracy': 0.90, 'mean_radius': 0.1}, 1: {'clean_accuracy': 0.94, 'mean_radius': 0.1}},
    'b': {0: {'clean_accuracy': 0.86}, 1: {'clean_accuracy': 0.88}},
}


def test_a_claim_is_the_mean_of_paired_differences():
    claim = studies.Claim('c', 'a beats b', 'clean_accuracy', 'a', minus='b', at_least=0.05)
    judged = claim.judge(METRICS)
    assert judged['holds']
    assert judged['mean'] == pytest.approx(0.05)
    assert judged['std'] == pytest.approx(np.std([0.04, 0.06], ddof=1))
    assert judged['seeds'] == 2
    assert not studies.Claim('c', '', 'clean_accuracy', 'a', minus='b', at_least=0.06).judge(METRICS)['holds']
    assert not studies.Claim('c', '', 'clean_accuracy', 'a', minus='b', at_most=0.04).judge(METRICS)['holds']
    assert studies.Claim('c', '', 'clean_accuracy', 'a', at_least=0.9).judge(METRICS)['mean'] == pytest.approx(0.92)
    missing = studies.Claim('c', 'none', 'missing', 'a', minus='b', at_least=0, deviation={'mini': 'small'}).judge(METRICS)
    assert (missing['holds'], missing['mean'], missing['seeds'], missing['deviation']) == (None, None, 0, 'small')
    assert '| none | not measured |  | >= 0 |' in studies.claims_table({'c': missing})


def test_results_table():
    table = studies.results_table(METRICS, {'clean_accuracy': 'clean', 'mean_radius': 'radius'})
    assert '| a | 2 | 92.0 ± 2.8 | 25.5 ± 0.0 |' in table
    assert '| b | 2 | 87.0 ± 1.4 |  |' in table
    odd = studies.results_table({'a|<b>_*\n': METRICS['b']}, {'clean_accuracy': 'clean'})
    assert odd.splitlines()[2] == r'| a\|&lt;b&gt;\_\*\\n | 2 | 87.0 ± 1.4 |'


def test_update_between(tmp_path):
    file = tmp_path / 'README.md'
    file.write_text('head\n<!-- t -->\nold\n<!-- /t -->\ntail\n')
    studies.update_between(file, 't', 'new\n')
    assert file.read_text() == 'head\n<!-- t -->\nnew\n<!-- /t -->\ntail\n'
    with pytest.raises(RunError, match='has no section'):
        studies.update_between(file, 'u', '')


@pytest.mark.parametrize('path', sorted(p.parent.name for p in configs.experiments_dir().glob('*/study.py')))
def test_every_shipped_study_is_coherent(path):
    study = studies.load_study(path)
    for scale, runs in study.runs.items():
        names = {run.name for run in runs}
        assert len(names) == len(runs)
        names |= set(study.rows)
        for run in runs:
            configs.load(str(configs.experiments_dir() / path / run.config), run.overrides)
        for claim in study.claims:
            assert {claim.run, claim.minus or claim.run} <= names, (scale, claim.name)
            assert claim.at_least is not None or claim.at_most is not None


def test_unknown_study_and_scale():
    with pytest.raises(RunError, match="no study 'iat'; known: flow_robustness, generate_to_adapt, iaat"):
        studies.load_study('iat')
    with pytest.raises(RunError, match=r'README\.md has no section <!-- iaat paper -->'):
        studies.reproduce('iaat', scale='paper', update_readme=True)
    with pytest.raises(RunError, match="--scale is 'big'; allowed: mini, paper"):
        studies.reproduce('iaat', scale='big')


def test_a_chain_whose_stages_were_measured_differently_is_not_concluded(tmp_path, monkeypatch):
    for seed, protocol in ((0, 'a 1, 10 samples'), (1, 'a 1, 10 samples; a 2, 10 samples')):
        folder = tmp_path / f'seed{seed}'
        folder.mkdir()
        content = {'metrics': {'dense/frechet_distance': 1.0}, 'protocol': protocol}
        (folder / 'results.json').write_text(json.dumps(content))
    study = studies.Study('x', {}, [], {}, lambda _: {}, lambda _: {}, lambda _: '')
    directories = {'run': {seed: tmp_path / f'seed{seed}' for seed in (0, 1)}}
    with pytest.raises(
        RunError, match='the distances of run do not compare: they were measured as a 1, 10 samples, a 2, 10'
    ):
        studies._conclude(study, 'mini', directories, tmp_path)


def test_rows_of_generate_to_adapt_are_means_over_all_transfers(tmp_path):
    directories = {}
    for run, accuracy in (('dann/a_to_b', 0.5), ('dann/b_to_c', 0.7), ('saturating/b_to_c', 0.9)):
        directories[run] = {3: tmp_path / run}
        directories[run][3].mkdir(parents=True)
        content = {'metrics': {'target_accuracy': accuracy, 'source_accuracy': 1.0, 'target_class_0_accuracy': 0.0}}
        (directories[run][3] / 'results.json').write_text(json.dumps(content))
    rows = studies.load_study('generate_to_adapt').derive(directories)
    assert rows['dann'] == {3: {'a_to_b': 0.5, 'b_to_c': 0.7, 'target_accuracy': pytest.approx(0.6), 'source_accuracy': 1.0}}
    assert rows['saturating'] == {3: {'b_to_c': 0.9}}
