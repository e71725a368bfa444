"""Markdown tables: mean and spread in declared units, at most seven columns, one paper's row replaced alone."""

import dataclasses
import re

import pytest

from gjax.study import tables
from gjax.study.claims import Claim, Column, Study, Variant
from gjax.study.reproduce import load_study
from gjax.train import config as configs
from gjax.train.errors import RunError

METRICS = {
    'a': {0: {'accuracy': 0.90, 'radius': 0.1, 'bits': 2.0}, 1: {'accuracy': 0.94, 'radius': 0.1, 'bits': 2.5}},
    'b': {0: {'accuracy': 0.86}, 1: {'accuracy': 0.88}},
}
STUDIES = sorted(path.parent.name for path in configs.experiments_dir().glob('*/study.py'))
ROOT = configs.experiments_dir().parent
TOY = Study(
    name='toy',
    title='A toy',
    headline='wins',
    variants={'mini': [Variant('a', 'a.py'), Variant('b', 'b.py'), Variant('more', 'a.py', extra=True)]},
    claims=[
        Claim('wins', 'a beats b', 'accuracy', 'a', minus='b', at_least=0.01, paper='5 points'),
        Claim('never', 'nobody measured it', 'absent', 'a', at_most=1.0),
    ],
    tables={
        'How accurate?': {'accuracy': Column('accuracy (%)')},
        'How many bits?': {'bits': Column('bits', 1, 2), 'absent': Column('absent')},
        'Nothing?': {'absent': Column('absent')},
    },
    derive=lambda _: {},
    figures=lambda _: {},
    note=lambda _: 'how',
)


def _summary(metrics=METRICS):
    return {'metrics': metrics, 'claims': {claim.name: claim.judge(metrics) for claim in TOY.claims}, 'note': 'How.'}


def _tables(text):
    """Every markdown table as its lines."""
    return re.findall(r'(?:^\|.*\|$\n?)+', text, re.MULTILINE)


def _width(line):
    return len(re.split(r'(?<!\\)\|', line.strip().strip('|')))


def test_units_are_declared():
    columns = {'accuracy': Column('clean'), 'radius': Column('radius (/255)', 255), 'bits': Column('bits', 1, 2)}
    lines = tables.results_table(METRICS, columns).splitlines()
    assert lines[0] == '| run | seeds | clean | radius (/255) | bits |'
    assert lines[2:] == ['| a | 2 | 92.0 ± 2.8 | 25.5 ± 0.0 | 2.25 ± 0.35 |', '| b | 2 | 87.0 ± 1.4 |  |  |']
    assert tables.results_table({'b': {0: {'accuracy': 0.5}}}, columns).splitlines()[2] == '| b | 1 | 50.0 |'
    assert tables.results_table(METRICS, {'absent': Column('absent')}) == ''
    odd = tables.results_table({'a|<b>_*\n': METRICS['b']}, {'accuracy': Column('clean')})
    assert odd.splitlines()[2] == r'| a\|&lt;b&gt;\_\*\\n | 2 | 87.0 ± 1.4 |'


def test_a_study_has_a_table_a_question_then_its_claims():
    text = tables.study_tables(TOY, 'mini', _summary())
    assert re.findall('^#### (.*)$', text, re.MULTILINE) == ['How accurate?', 'How many bits?', 'Which claims hold?']
    accuracy, bits, claims = map(str.splitlines, _tables(text))
    assert [line.split(' | ')[0] for line in accuracy[2:]] == ['| a', '| b']
    assert bits[2:] == ['| a | 2 | 2.25 ± 0.35 |']
    assert '\nHow.\n' in text
    assert claims[2:] == [
        '| a beats b | not shown | +0.0500 ± 0.0141; 2; ≥ -0.0131 | ≥ 0.01 | 5 points |  |',
        '| nobody measured it | not measured |  | ≤ 1 |  |  |',
    ]


def test_rows_of_a_study_and_of_one_table():
    metrics = METRICS | {'more': METRICS['b'], 'derived': METRICS['b']}
    for changes, rows in (
        ({}, ['a', 'b', 'more']),
        ({'rows': ('derived', 'a', 'not measured')}, ['derived', 'a']),
        ({'only': {'How accurate?': ('b', 'more')}}, ['b', 'more']),
    ):
        text = tables.study_tables(dataclasses.replace(TOY, **changes), 'mini', _summary(metrics))
        assert [line.split(' | ')[0].removeprefix('| ') for line in _tables(text)[0].splitlines()[2:]] == rows


def test_verdicts_name_the_end_that_they_were_read_from():
    values = {seed: {'m': value} for seed, value in enumerate((0.04, 0.06, 0.06))}
    for bounds, end in (({'at_least': 0.08}, '≤ +0.0728'), ({'at_most': 0.08}, '≤ +0.0728'), ({'at_least': 0}, '≥ +0.0339')):
        judged = Claim('c', 'sentence', 'm', 'a', **bounds).judge({'a': values})
        assert f'| +0.0533 ± 0.0115; 3; {end} |' in tables.claims_table({'c': judged}), bounds
    alone = Claim('c', 'sentence', 'm', 'a', at_least=0).judge({'a': {0: {'m': 0.5}}})
    assert '| sentence | not shown | +0.5000; 1 | ≥ 0 |' in tables.claims_table({'c': alone})


def test_update_between(tmp_path):
    file = tmp_path / 'README.md'
    file.write_text('head\n<!-- t -->\nold\n<!-- /t -->\ntail\n')
    tables.update_between(file, 't', 'new\n')
    assert file.read_text() == 'head\n<!-- t -->\nnew\n<!-- /t -->\ntail\n'
    with pytest.raises(RunError, match='has no section'):
        tables.update_between(file, 'u', '')


def test_a_papers_row_is_replaced_alone(tmp_path):
    file = tmp_path / 'README.md'
    file.write_text('head\n<!-- papers -->\n<!-- /papers -->\ntail\n')
    row = tables.paper_row(TOY, _summary()['claims'], 6.6)
    assert row == [
        '[A toy](experiments/toy/README.md)',
        'a beats b',
        '+0.0500 ± 0.0141: not shown',
        '5 points',
        '0 of 2 (1 not measured)',
        '7',
        '[colab/toy.ipynb](colab/toy.ipynb)',
    ]
    assert tables.paper_row(TOY, _summary()['claims'], None, 'paper')[2:6:3] == ['+0.0500 ± 0.0141: not shown (paper)', '']
    other = dataclasses.replace(TOY, name='toy_two', title='Another, see (experiments/toy/README.md)')
    tables.update_paper_row(file, TOY, row)
    tables.update_paper_row(file, other, [f'[b](experiments/{other.name}/README.md)', 'of (experiments/toy/README.md)'])
    before = file.read_text().splitlines()
    assert before[2].count('|') == len(tables.PAPER_COLUMNS) + 1 == 8
    tables.update_paper_row(file, TOY, [row[0], 'new'])
    after = file.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [(f'| {" | ".join(row)} |', f'| {row[0]} | new |')]
    file.write_text('nothing')
    with pytest.raises(RunError, match='has no section <!-- papers -->'):
        tables.update_paper_row(file, TOY, row)


def test_a_bar_in_a_cell_ends_no_cell(tmp_path):
    cells = ['[A | toy](experiments/toy/README.md)', r'E|x| and \| and \\|', 'two\nlines']
    line = r'| [A \| toy](experiments/toy/README.md) | E\|x\| and \| and \\\| | two lines |'
    assert tables.markdown([['a', 'b', 'c'], cells]).splitlines()[2] == line
    file = tmp_path / 'README.md'
    file.write_text('<!-- papers -->\n<!-- /papers -->\n', encoding='utf-8')
    for _ in range(2):  # the second replaces the row of the first
        tables.update_paper_row(file, TOY, cells)
        assert file.read_text(encoding='utf-8').splitlines()[3:-1] == [line]


@pytest.mark.parametrize('name', STUDIES)
def test_every_shipped_table_has_a_question_and_at_most_seven_columns(name):
    study = load_study(name)
    for question, columns in study.tables.items():
        assert 2 + len(columns) <= 7, question
        assert all(column.title for column in columns.values())
    assert set(study.only) <= set(study.tables)
    for rows in study.only.values():
        assert set(rows) <= set(study.rows or [variant.name for variant in study.variants['mini']])
    judged = {claim.name: claim.judge({}) for claim in study.claims}
    assert len(tables.paper_row(study, judged, None)) == len(tables.PAPER_COLUMNS)
    assert all(_width(line) <= 7 for line in tables.claims_table(judged).splitlines())


@pytest.mark.parametrize('name', ['', *STUDIES])
def test_every_table_of_a_readme_has_at_most_seven_columns(name):
    text = ROOT.joinpath('experiments' if name else '', name, 'README.md').read_text()
    assert _tables(text)
    for table in _tables(text):
        assert len({_width(line) for line in table.splitlines()}) == 1, table
        assert _width(table.splitlines()[0]) <= 7, table


@pytest.mark.parametrize('name', STUDIES)
def test_a_readme_shows_its_studys_tables_claims_and_row(name):
    study, marker = load_study(name), f'{name} mini'
    text = (ROOT / 'experiments' / name / 'README.md').read_text()
    shown = text.split(f'<!-- {marker} -->\n')[1].split(f'<!-- /{marker} -->')[0]
    assert set(re.findall('^#### (.*)$', shown, re.MULTILINE)) <= {*study.tables, 'Which claims hold?'}
    table = _tables(shown)[-1].splitlines()[2:]
    own = [claim.sentence for claim in study.claims if 'mini' in (claim.scales or ('mini',))]
    assert [line.split(' | ')[0].removeprefix('| ') for line in table] == own
    head, tail = tables.around(ROOT / 'README.md', tables.PAPERS)
    papers = (ROOT / 'README.md').read_text()[len(head) : -len(tail)]
    (row,) = [line for line in papers.splitlines() if f'(experiments/{name}/README.md)' in line]
    headline = next(claim for claim in study.claims if claim.name == study.headline)
    assert row.split(' | ')[1] == headline.sentence
    assert (ROOT / 'colab' / f'{name}.ipynb').is_file()
    (held,) = [cell for cell in row.split(' | ') if re.fullmatch(r'\d+ of \d+.*', cell)]
    verdicts = [line.split(' | ')[1] for line in table]
    assert held == f'{verdicts.count("holds")} of {len(verdicts)}'
