"""A paper's study: which runs, over which seeds, and which of the paper's claims their numbers bear out."""

import hashlib
import json
import shutil
import time
from pathlib import Path

import numpy as np

import gjax
from gjax.study.claims import Study
from gjax.study.jobs import Job, run_jobs
from gjax.study.plots import save as save_figure
from gjax.study.report import check_protocols, escape
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.store import files, records


def load_study(name: str) -> Study:
    """The study in experiments/NAME/study.py; RunError names the known ones."""
    root = configs.experiments_dir()
    known = sorted(p.parent.name for p in root.glob('*/study.py'))
    if name not in known:
        raise RunError(f'there is no study {name!r}; known: {", ".join(known)}')
    return configs.load_module(root / name / 'study.py').STUDY


def _plan(study: Study, scale: str, seeds, overrides: dict, extras: bool, workdir: Path) -> dict[str, dict[int, Job]]:
    """{run: {seed: job}}, every config already loaded once, so that mistakes show first."""
    if scale not in study.runs:
        raise RunError(f'--scale is {scale!r}; allowed: {", ".join(study.runs)}')
    chosen = [run for run in study.runs[scale] if extras or not run.extra]
    plan: dict[str, dict[int, Job]] = {run.name: {} for run in chosen}
    for seed in seeds:
        for run in chosen:
            file = str(configs.experiments_dir() / study.name / run.config)
            directory = workdir / run.name / f'seed{seed}'
            job = plan[run.name][seed] = Job(file, run.overrides | overrides | {'seed': seed}, directory)
            job.check()
    return plan


def collect(directories: dict[str, dict[int, Path]]) -> dict[str, dict[int, dict]]:
    """{run: {seed: results.json content}}."""
    return {run: {seed: records.read_results(path) for seed, path in by.items()} for run, by in directories.items()}


def _cell(values: list[float], digits: int) -> str:
    if not values:
        return ''
    spread = f' ± {np.std(values, ddof=1):.{digits}f}' if len(values) > 1 else ''
    return f'{np.mean(values):.{digits}f}{spread}'


def results_table(metrics: dict[str, dict], columns: dict[str, str]) -> str:
    """Markdown from {run: {seed: metrics}}: one row a run, mean ± standard deviation, in percent (radii: in 255ths; bits per
    dimension as they are).
    """
    lines = ['| run | seeds | ' + ' | '.join(columns.values()) + ' |', '|---|---|' + '---|' * len(columns)]
    for run, seeds in metrics.items():
        cells = []
        for metric in columns:
            values = [m[metric] for m in seeds.values() if metric in m]
            bits = metric.endswith('bits_per_dim')
            scale = 1 if bits else 255 if 'radius' in metric and 'correlation' not in metric else 100
            cells.append(_cell([scale * v for v in values], 2 if bits else 1))
        lines.append(f'| {escape(run)} | {len(seeds)} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def claims_table(judged: dict[str, dict]) -> str:
    """Markdown: the claims with verdict, our number and the paper's."""
    lines = ['| claim | holds | ours (mean ± std, seeds) | asked | paper | deviation |', '|---|---|---|---|---|---|']
    for claim in judged.values():
        spread = '' if claim['std'] is None else f' ± {claim["std"]:.4f}'
        asked = ' and '.join(
            f'{sign} {claim[key]:g}' for key, sign in (('at_least', '>='), ('at_most', '<=')) if claim[key] is not None
        )
        verdict = {True: 'yes', False: 'NO', None: 'not measured'}[claim['holds']]
        ours = '' if claim['mean'] is None else f'{claim["mean"]:+.4f}{spread}, {claim["seeds"]}'
        lines.append(f'| {claim["claim"]} | {verdict} | {ours} | {asked} | {claim["paper"]} | {claim["deviation"]} |')
    return '\n'.join(lines) + '\n'


def update_between(path: Path, marker: str, text: str) -> None:
    """Replaces what stands between <!-- marker --> and <!-- /marker --> in a file."""
    head, tail = _around(path, marker)
    files.write_text(path, head + text + tail)


def _around(path: Path, marker: str) -> tuple[str, str]:
    """A file's text up to <!-- marker --> and from <!-- /marker --> on; RunError if it has no such section."""
    old = path.read_text() if path.is_file() else ''
    start, end = f'<!-- {marker} -->\n', f'<!-- /{marker} -->'
    if start not in old or end not in old:
        raise RunError(f'{path} has no section {start.strip()} ... {end}')
    head, rest = old.split(start, 1)
    return head + start, end + rest.split(end, 1)[1]


def _digest(study: Study, scale: str, directories) -> str:
    """sha256 of all that a study's conclusion depends on: its results, what they cost, and its own file."""
    total = hashlib.sha256(f'{gjax.__version__} {scale}'.encode())
    total.update((configs.experiments_dir() / study.name / 'study.py').read_bytes())
    for run, seeds in directories.items():
        for seed, directory in seeds.items():
            total.update(f'{run} {seed} {directory}'.encode() + (directory / 'results.json').read_bytes())
            for record in sorted(directory.rglob('run.json')):
                total.update(record.read_bytes())
    return total.hexdigest()


def _stored(workdir: Path) -> dict:
    """study.json, or {} where there is none, it is damaged, or one of its figures has gone."""
    try:
        stored = json.loads((workdir / 'study.json').read_text())
        return stored if all(Path(path).is_file() for path in stored['figures'].values()) else {}
    except (OSError, ValueError, KeyError, AttributeError):
        return {}


def _conclude(study: Study, scale: str, directories, workdir: Path) -> dict:
    """The metrics of all runs, the claims judged, the figures drawn."""
    results = collect(directories)
    metrics = {run: {seed: r['metrics'] for seed, r in seeds.items()} for run, seeds in results.items()}
    for run, seeds in results.items():
        protocols, _ = check_protocols([(r.get('protocol', ''), r['metrics']) for r in seeds.values()])
        if len(protocols) > 1:
            raise RunError(f'the distances of {run} do not compare: they were measured as {", ".join(protocols[:4])}')
    for run, by_seed in study.derive(directories).items():
        for seed, values in by_seed.items():
            row = metrics.setdefault(run, {})
            row[seed] = row.get(seed, {}) | values
    figures = {
        file: str(save_figure(figure, workdir / 'figures' / file)) for file, figure in study.figures(directories).items()
    }
    return {
        'study': study.name,
        'scale': scale,
        'selection': 'last step',
        'note': study.note(files.read_json(next(iter(next(iter(directories.values())).values())) / 'config.json')),
        'claims': {claim.name: claim.judge(metrics, scale) for claim in study.claims},
        'metrics': {run: {str(seed): m for seed, m in by_seed.items()} for run, by_seed in metrics.items()},
        'figures': figures,
    }


def _table(study: Study, scale: str, summary: dict, extra: bool) -> str:
    """Markdown: the rows (those of extra runs alone only if asked), the note and the claims of a study.json."""
    extras = {run.name: run.extra for run in study.runs[scale]}
    if study.rows:  # a derived row is extra if all runs whose names start with its are
        extras = {row: all(own for name, own in extras.items() if name.split('/')[0] == row) for row in study.rows}
    rows = {row: summary['metrics'][row] for row in extras if row in summary['metrics'] and (extra or not extras[row])}
    claims = {claim.name: summary['claims'][claim.name] for claim in study.claims}
    measured = {metric for seeds in rows.values() for values in seeds.values() for metric in values}
    table = results_table(rows, {metric: title for metric, title in study.columns.items() if metric in measured})
    return f'{table}\n{summary["note"]}\n\n{claims_table(claims)}'


def reproduce(
    name: str,
    *,
    scale: str = 'mini',
    seeds=(0,),
    workdir: str | Path | None = None,
    overrides: dict | None = None,
    extras: bool = False,
    jobs: int = 1,
    update_readme: bool = False,
) -> dict:
    """Runs what is missing of a study, then judges its claims and draws its figures.

    Args:
      name: a method's name with a folder in experiments/.
      scale: 'mini' or 'paper'.
      seeds: ints.
      workdir: default runs/NAME-SCALE.
      overrides: dotted config keys for all runs.
      extras: also the runs marked extra (ablations).
      jobs: processes at a time; 1 runs everything in this one.
      update_readme: write the tables into experiments/NAME/README.md and, without the extra runs, the checkout's README.md,
        and copy the figures to experiments/NAME/figures/SCALE.

    Returns:
      The content of study.json, 'table' (markdown) and 'complete': whether there was nothing left to do.
    """
    study, workdir = load_study(name), Path(workdir or f'runs/{name}-{scale}')
    root = configs.experiments_dir()
    readmes = ((root / name / 'README.md', True), (root.parent / 'README.md', False)) if update_readme else ()
    for readme, _ in readmes:
        _around(readme, f'{name} {scale}')
    plan = _plan(study, scale, seeds, overrides or {}, extras, workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f'--workdir is {str(workdir)!r}, which cannot be written: {error.strerror}') from error
    # A study's own method, the costliest, comes last in its table: it starts first.
    missing = [plan[run][seed] for seed in reversed(seeds) for run in reversed(plan) if not plan[run][seed].finished]
    started = time.monotonic()
    run_jobs(missing, jobs)
    directories = {run: {seed: job.directory for seed, job in by_seed.items()} for run, by_seed in plan.items()}
    inputs, stored = _digest(study, scale, directories), _stored(workdir)
    if missing or stored.get('inputs') != inputs:
        stored = _conclude(study, scale, directories, workdir) | {
            'seeds': list(seeds),
            'seconds': round(time.monotonic() - started, 1),
            'inputs': inputs,
        }
        files.write_json(workdir / 'study.json', stored)
        complete = False
    else:
        complete = True
    tables = {extra: _table(study, scale, stored, extra) for extra in (False, True)}
    files.write_text(workdir / 'table.md', tables[True])
    for readme, extra in readmes:
        update_between(readme, f'{name} {scale}', tables[extra])
    if update_readme:
        shown = root / name / 'figures' / scale
        shown.mkdir(parents=True, exist_ok=True)
        for file, path in stored['figures'].items():
            shutil.copy(path, shown / file)
    return stored | {'table': tables[True], 'complete': complete}
