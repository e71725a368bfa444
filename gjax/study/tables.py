"""Markdown: a study's tables and claims, and its row in the table of all papers."""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gjax.data.entries import shown
from gjax.study.claims import Claim, Column, Study
from gjax.train.errors import RunError
from gjax.train.store import files

# GitHub lets snake_case be, and makes links of what begins like a web address: https://, www.
_MARKUP = re.compile(r'[\\|`*~$\[\]]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?i:(?<=www))\.')
_MAIL = re.compile(r'(?<=[\w.+-])@(?=\S*\.)')  # it makes links of mail addresses too, with a backslash or without
_BAR, _ESCAPED_BAR = re.compile(r'(?<!\\)((?:\\\\)*)\|'), r'\1\|'  # a bar that no backslash escapes
PAPERS = 'papers'  # the marker of the root README's table
PAPER_COLUMNS = ('paper', 'claim', 'ours', "paper's", 'claims held', 'minutes', 'notebook')


def printable(text: str, limit: int = 80) -> str:
    """Text on one line: control and other invisible characters as escapes, what exceeds the limit cut from the middle."""
    text = shown(text)
    return text if len(text) <= limit else f'{text[: limit // 2]}…{text[1 - limit + limit // 2 :]}'


def escape(text: str, limit: int = 80) -> str:
    """A text from anywhere, cut to the limit, as one cell of a markdown table: nothing in it is markup, link or new line."""
    return _MAIL.sub('@<!-- -->', _MARKUP.sub(r'\\\g<0>', html.escape(printable(text, limit), quote=False)))


def _row(cells: Sequence[str]) -> str:
    """One line of a markdown table. A cell's own markup stays; a bar or a line break in it does not end the cell."""
    return f'| {" | ".join(_BAR.sub(_ESCAPED_BAR, " ".join(cell.splitlines())) for cell in cells)} |\n'


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; the first row is its head."""
    return ''.join(map(_row, [rows[0], ['---'] * len(rows[0]), *rows[1:]]))


def _cell(values: list[float], column: Column) -> str:
    """Mean ± standard deviation over seeds."""
    if not values:
        return ''
    values = column.scale * np.asarray(values)
    spread = f' ± {np.std(values, ddof=1):.{column.digits}f}' if len(values) > 1 else ''
    return f'{np.mean(values):.{column.digits}f}{spread}'


def results_table(metrics: Mapping[str, Mapping[int, Mapping]], columns: Mapping[str, Column]) -> str:
    """Markdown: a line a row, with mean ± standard deviation over its seeds; '' if nothing was measured.

    Args:
      metrics: {row: {seed: {metric: value}}}.
      columns: {metric: Column}; rows and columns of which nothing was measured are left out.
    """
    rows = {row: seeds for row, seeds in metrics.items() if any(name in own for own in seeds.values() for name in columns)}
    measured = {name for seeds in rows.values() for own in seeds.values() for name in own}
    shown = {name: column for name, column in columns.items() if name in measured}
    if not rows:
        return ''
    lines = [['run', 'seeds', *(column.title for column in shown.values())]]
    for row, seeds in rows.items():
        cells = [_cell([own[name] for own in seeds.values() if name in own], column) for name, column in shown.items()]
        lines.append([escape(row), f'{len(seeds)}', *cells])
    return markdown(lines)


def _ends(claim: Mapping) -> str:
    """The ends of the interval from which a verdict was read, e.g. '≥ +0.0134'."""
    signs = zip(claim['interval'], ('≥', '≤'), strict=True)
    return ' and '.join(f'{sign} {end:+.4f}' for end, sign in signs if end is not None)


def _ours(claim: Mapping) -> str:
    """A claim's mean ± standard deviation; '' if it was not measured."""
    spread = '' if claim['std'] is None else f' ± {claim["std"]:.4f}'
    return '' if claim['mean'] is None else f'{claim["mean"]:+.4f}{spread}'


def claims_table(judged: Mapping[str, Mapping]) -> str:
    """Markdown: the claims of a study.json with their verdicts, our numbers and the paper's."""
    lines = [['claim', 'verdict', 'ours (mean ± std; pairs; 95 % end)', 'asked', 'paper', 'deviation']]
    for claim in judged.values():
        bounds = (('≥', claim['at_least']), ('≤', claim['at_most']))
        asked = ' and '.join(f'{sign} {bound:g}' for sign, bound in bounds if bound is not None)
        parts = (_ours(claim), f'{claim["pairs"]}', _ends(claim)) if claim['pairs'] else ()
        ours = '; '.join(part for part in parts if part)
        lines.append([claim['claim'], claim['verdict'], ours, asked, claim['paper'], claim['deviation']])
    return markdown(lines)


def study_tables(study: Study, scale: str, summary: Mapping) -> str:
    """Markdown: all tables of a study, its note and its claims.

    Args:
      study: what declares the tables.
      scale: 'mini', 'small' or 'paper', as the study has them.
      summary: the content of study.json.
    """
    names = study.rows or [variant.name for variant in study.variants[scale]]
    rows = {row: summary['metrics'][row] for row in names if row in summary['metrics']}
    parts = []
    for question, columns in study.tables.items():
        allowed = study.only.get(question, tuple(rows))
        table = results_table({row: seeds for row, seeds in rows.items() if row in allowed}, columns)
        parts += [f'#### {question}\n\n{table}'] if table else []
    claims = {claim.name: summary['claims'][claim.name] for claim in study.claims if claim.name in summary['claims']}
    return '\n'.join([*parts, f'{summary["note"]}\n', f'#### Which claims hold?\n\n{claims_table(claims)}'])


def paper_row(study: Study, claims: Mapping[str, Mapping], minutes: float | None, scale: str = 'mini') -> list[str]:
    """A paper's cells in the root README's table, `PAPER_COLUMNS`.

    Args:
      study: the paper's.
      claims: 'claims' of its study.json.
      minutes: how long its runs of one seed take together; None if they do not say.
      scale: named beside the number unless it is 'mini'.
    """
    headline: Claim = next(claim for claim in study.claims if claim.name == study.headline)
    own = claims[headline.name]
    unmeasured = sum(claim['verdict'] == 'not measured' for claim in claims.values())
    held = f'{sum(claim["verdict"] == "holds" for claim in claims.values())} of {len(claims)}'
    return [
        f'[{study.title}](experiments/{study.name}/README.md)',
        own['claim'],
        (f'{_ours(own)}: {own["verdict"]}' if _ours(own) else own['verdict']) + (f' ({scale})' if scale != 'mini' else ''),
        own['paper'],
        held + (f' ({unmeasured} not measured)' if unmeasured else ''),
        '' if minutes is None else f'{max(1, round(minutes))}',
        f'[colab/{study.name}.ipynb](colab/{study.name}.ipynb)',
    ]


def update_paper_row(path: Path, study: Study, cells: Sequence[str]) -> None:
    """Replaces a paper's row, and no other, in the table of papers of a README, or appends it."""
    head, tail = around(path, PAPERS)
    old = path.read_text(encoding='utf-8')[len(head) : -len(tail)].splitlines(keepends=True)
    new, mark = _row(cells), f'(experiments/{study.name}/README.md)'
    if not old:
        old = markdown([PAPER_COLUMNS]).splitlines(keepends=True)
    if any(mark in line.split(' | ', 1)[0] for line in old):
        lines = [new if mark in line.split(' | ', 1)[0] else line for line in old]
    else:
        lines = [*old, new]
    files.write_text(path, head + ''.join(lines) + tail)


def update_between(path: Path, marker: str, text: str) -> None:
    """Replaces what stands between <!-- marker --> and <!-- /marker --> in a file."""
    head, tail = around(path, marker)
    files.write_text(path, head + text + tail)


def around(path: Path, marker: str) -> tuple[str, str]:
    """A file's text up to <!-- marker --> and from <!-- /marker --> on; RunError if it has no such section."""
    old = path.read_text(encoding='utf-8') if path.is_file() else ''
    start, end = f'<!-- {marker} -->\n', f'<!-- /{marker} -->'
    if start not in old or end not in old:
        raise RunError(f'{path} has no section {start.strip()} ... {end}')
    head, rest = old.split(start, 1)
    return head + start, end + rest.split(end, 1)[1]
