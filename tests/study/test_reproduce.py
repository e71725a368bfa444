"""`gjax reproduce`: every shipped study is coherent, mistakes show before anything runs, README files get their tables."""

import json
import re

import pytest

from gjax import cli
from gjax.study import reproduce as studies
from gjax.study.claims import Study
from gjax.train import config as configs
from gjax.train.errors import RunError

STUDIES = sorted(path.parent.name for path in configs.experiments_dir().glob('*/study.py'))
IDS = r'(tickets|flow|iaat|gta|dmg)-\d'  # of the sentences of the papers' abstracts
TOY = """
from gjax.study.claims import Claim, Column, Study, Variant

STUDY = Study(
    name='toy',
    title='Toy',
    headline='wins',
    variants={'mini': [Variant(name, 'digits.py:supervised', {'train.total_epochs': 1 + i}) for i, name in enumerate('ab')]},
    claims=[Claim('wins', 'b beats a', 'clean_accuracy', 'b', minus='a', at_least=0.05)],
    tables={'How accurate (%)?': {'clean_accuracy': Column('clean')}},
    derive=lambda directories: {},
    figures=lambda directories: {},
    note=lambda config: f'Over {config["data"]["name"]}.',
    seeds=(0, 1),
)
"""


@pytest.mark.parametrize('name', STUDIES)
def test_every_shipped_study_is_coherent(name):
    study = studies.load_study(name)
    assert study.name == name
    assert study.headline in {claim.name for claim in study.claims if 'mini' in (claim.scales or ('mini',))}
    assert all(set(claim.scales) <= set(study.variants) for claim in study.claims)
    assert len({claim.name for claim in study.claims}) == len(study.claims)
    for scale, variants in study.variants.items():
        names = {variant.name for variant in variants}
        assert len(names) == len(variants)
        rows = names | set(study.rows)
        for variant in variants:
            configs.load(str(configs.experiments_dir() / name / variant.config), variant.overrides)
        for claim in (claim for claim in study.claims if scale in (claim.scales or (scale,))):
            asked = {claim.run, claim.minus or claim.run}
            if claim.over:
                asked = {f'{row}/{suffix}' for row in asked for suffix in claim.over}
                assert len(asked & names) >= 1 + bool(claim.minus), (scale, claim.name)
                assert not {row for row in asked - names if row.partition('/')[2] in {n.partition('/')[2] for n in names}}
            else:
                assert asked <= rows, (scale, claim.name)
            assert claim.at_least is not None or claim.at_most is not None
            assert not claim.id or re.fullmatch(IDS, claim.id)


def test_default_seeds():
    assert {name: studies.load_study(name).seeds for name in STUDIES} == {
        'dmg': (0, 1, 2, 3, 4),
        'flow_robustness': (0, 1, 2),
        'generate_to_adapt': (0, 1, 2),
        'iaat': (0, 1, 2, 3, 4),
        'lottery_tickets': (0, 1, 2),
    }


def test_unknown_study_and_scale():
    with pytest.raises(RunError, match="no study 'iat'; known: dmg, flow_robustness, generate_to_adapt, iaat"):
        studies.load_study('iat')
    with pytest.raises(RunError, match=r'README\.md has no section <!-- iaat paper -->'):
        studies.reproduce('iaat', scale='paper', update_readme=True)
    with pytest.raises(RunError, match="--scale is 'big'; allowed: mini, small, paper"):
        studies.reproduce('iaat', scale='big')


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with the study `toy`, whose runs of the seeds 0 and 1 are finished; its README files have the markers."""
    folder, shipped = tmp_path / 'experiments' / 'toy', configs.experiments_dir()
    folder.mkdir(parents=True)
    (folder / 'study.py').write_text(TOY)
    (folder / 'digits.py').write_text((shipped / 'iaat' / 'digits.py').read_text())
    (folder / 'README.md').write_text('before\n<!-- toy mini -->\n<!-- /toy mini -->\nafter\n')
    other = '| [Other](experiments/other/README.md) | claim | 1 | 2 | 3 of 4 | 5 | x |\n'
    (tmp_path / 'README.md').write_text(f'<!-- papers -->\n| paper |\n| --- |\n{other}<!-- /papers -->\n')
    monkeypatch.setattr(configs, 'experiments_dir', lambda: folder.parent)
    for row, (name, accuracies) in enumerate({'a': (0.5, 0.52), 'b': (0.7, 0.72)}.items()):
        for seed, accuracy in enumerate(accuracies):
            run = tmp_path / 'runs' / name / f'seed{seed}'
            run.mkdir(parents=True)
            config = configs.load(f'{folder}/digits.py:supervised', {'train.total_epochs': 1 + row, 'seed': seed})
            (run / 'config.json').write_text(configs.to_json(config))
            (run / 'results.json').write_text(json.dumps({'metrics': {'clean_accuracy': accuracy}, 'protocol': 'last step'}))
            (run / 'run.json').write_text(json.dumps({'seconds': 90.0}))
    return tmp_path


def test_readme_files_get_the_tables_and_one_row(checkout):
    summary = studies.reproduce('toy', workdir=checkout / 'runs', update_readme=True)
    assert not summary['complete']
    assert (summary['seeds'], summary['minutes']) == ([0, 1], 3.0)
    judged = summary['claims']['wins']
    assert (judged['verdict'], judged['holds'], judged['pairs']) == ('holds', True, 2)
    assert json.loads((checkout / 'runs' / 'study.json').read_text())['claims'] == summary['claims']
    own = (checkout / 'experiments' / 'toy' / 'README.md').read_text()
    assert own == f'before\n<!-- toy mini -->\n{summary["table"]}<!-- /toy mini -->\nafter\n'
    assert '| a | 2 | 51.0 ± 1.4 |' in own
    assert '\nOver mnistm5k.\n' in own
    *_, other, row, _ = (checkout / 'README.md').read_text().splitlines()
    assert other == '| [Other](experiments/other/README.md) | claim | 1 | 2 | 3 of 4 | 5 | x |'
    assert row.startswith('| [Toy](experiments/toy/README.md) | b beats a | +0.2000 ± 0.0000: holds |  | 1 of 1 | 3 | ')
    before = (checkout / 'README.md').read_text()
    again = studies.reproduce('toy', workdir=checkout / 'runs', update_readme=True)
    assert again['complete']
    assert (checkout / 'README.md').read_text() == before


def test_one_seed_is_concluded_but_shows_nothing(checkout, capsys):
    assert cli.main(['reproduce', 'toy', '--seeds=1', f'--workdir={checkout / "runs"}']) == 0
    assert '| b beats a | not shown | +0.2000; 1 | ≥ 0.05 |' in capsys.readouterr().out
    assert json.loads((checkout / 'runs' / 'study.json').read_text())['claims']['wins']['holds'] is None


def test_a_readme_without_markers_is_refused_before_anything_is_written(checkout):
    (checkout / 'README.md').write_text('none')
    with pytest.raises(RunError, match='has no section <!-- papers -->'):
        studies.reproduce('toy', workdir=checkout / 'elsewhere', update_readme=True)
    assert not (checkout / 'elsewhere').exists()


def test_figures_of_the_study_belong_to_what_a_conclusion_depends_on(checkout):
    studies.reproduce('toy', workdir=checkout / 'runs')
    assert studies.reproduce('toy', workdir=checkout / 'runs')['complete']
    (checkout / 'experiments' / 'toy' / 'figures.py').write_text('# drawn otherwise\n')
    assert not studies.reproduce('toy', workdir=checkout / 'runs')['complete']


@pytest.mark.parametrize(
    ('protocols', 'distance', 'compared'),
    [
        (('a 1, 10 samples', 'a 2, 10 samples; x'), True, 'a 1, 10 samples | a 2, 10 samples'),
        (
            ('last step, test split', 'last step, test split; a 1, 10 samples'),
            True,
            'an unknown extractor | a 1, 10 samples',
        ),
        (('last step, test split; a 1, 10 samples', 'worst case of pgd; a 1, 10 samples'), True, ''),
        (('worst case of pgd: 5 steps', 'worst case of pgd: 9 steps'), False, ''),
    ],
)
def test_distances_of_different_extractors_are_not_concluded(tmp_path, protocols, distance, compared):
    for seed, protocol in enumerate(protocols):
        folder = tmp_path / f'seed{seed}'
        folder.mkdir()
        metrics = {'dense/frechet_distance' if distance else 'clean_accuracy': 1.0}
        (folder / 'results.json').write_text(json.dumps({'metrics': metrics, 'protocol': protocol}))
        (folder / 'config.json').write_text('{}')
    nothing = lambda _: {}  # noqa: E731
    study = Study('x', 'X', '', {}, [], {}, derive=nothing, figures=nothing, note=lambda _: '')
    directories = {'run': {seed: tmp_path / f'seed{seed}' for seed in (0, 1)}}
    if compared:
        with pytest.raises(
            RunError, match=f'frechet_distance of run does not compare: it was measured as {re.escape(compared)}$'
        ):
            studies._conclude(study, 'mini', directories, tmp_path)
    else:
        assert studies._conclude(study, 'mini', directories, tmp_path)['claims'] == {}


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


def test_claims_of_generate_to_adapt_pair_runs_by_seed_and_transfer():
    study = studies.load_study('generate_to_adapt')
    transfers = ('mnist5k_to_mnistm5k', 'mnist5k_to_digits', 'syndigits_to_mnist5k')
    metrics = {
        f'{method}/{transfer}': {seed: {'target_accuracy': base + 0.01 * (i + seed)} for seed in (0, 1)}
        for method, base in (('generate_to_adapt', 0.8), ('source_only', 0.7))
        for i, transfer in enumerate(transfers)
    }
    (claim,) = [claim for claim in study.claims if claim.name == 'above_source_only']
    judged = claim.judge(metrics)
    assert (judged['pairs'], judged['seeds'], judged['verdict']) == (6, 2, 'holds')
    assert judged['mean'] == pytest.approx(0.1)
