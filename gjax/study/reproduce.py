"""`gjax reproduce`: plans and runs what a paper's study needs, then judges the paper's claims by its numbers."""

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import gjax
from gjax.study.claims import Study
from gjax.study.entries import protocols_of
from gjax.study.jobs import Job, run_jobs
from gjax.study.plots import save as save_figure
from gjax.study.tables import PAPERS, around, paper_row, study_tables, update_between, update_paper_row
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
    """{variant: {seed: job}}, every config already loaded once, so that mistakes show first."""
    if scale not in study.variants:
        raise RunError(f'--scale is {scale!r}; allowed: {", ".join(study.variants)}')
    chosen = [variant for variant in study.variants[scale] if extras or not variant.extra]
    plan: dict[str, dict[int, Job]] = {variant.name: {} for variant in chosen}
    for seed in seeds:
        for variant in chosen:
            file = str(configs.experiments_dir() / study.name / variant.config)
            directory = workdir / variant.name / f'seed{seed}'
            settings = {**variant.overrides, **overrides, 'seed': seed}
            job = plan[variant.name][seed] = Job(file, settings, directory)
            job.check()
    return plan


def collect(directories: dict[str, dict[int, Path]]) -> dict[str, dict[int, dict]]:
    """{variant: {seed: the content of its results.json}}."""
    return {run: {seed: records.read_results(path) for seed, path in by.items()} for run, by in directories.items()}


def by_suffix(directories: dict[str, dict[int, Path]]) -> dict[str, dict[str, dict[int, Path]]]:
    """{suffix: {row: {seed: directory}}} of a study's runs, which are called ROW/SUFFIX ('dann/usps_to_mnist')."""
    found: dict = {}
    for run, seeds in directories.items():
        row, _, suffix = run.partition('/')
        found.setdefault(suffix, {})[row] = seeds
    return found


def averaged(directories: dict[str, dict[int, Path]], metric: str, measures: Sequence[str]) -> dict[str, dict[int, dict]]:
    """A row of numbers for every ROW of runs that are called ROW/SUFFIX, as `Study.derive` gives them.

    Args:
      directories: {ROW/SUFFIX: {seed: directory}}.
      metric: whose value in each run is given under the run's suffix.
      measures: metrics that are averaged over the suffixes; a row that lacks a suffix has no averages.

    Returns:
      {row: {seed: {suffix: value of `metric`, measure: mean}}}.
    """
    every, values = by_suffix(directories), {}
    for suffix, rows in every.items():
        for row, results in collect(rows).items():
            for seed, result in results.items():
                values.setdefault(row, {}).setdefault(seed, {})[suffix] = result['metrics']
    found = {}
    for row, seeds in values.items():
        for seed, own in seeds.items():
            found.setdefault(row, {})[seed] = {suffix: metrics[metric] for suffix, metrics in own.items()}
            for measure in measures:
                measured = [metrics[measure] for metrics in own.values() if measure in metrics]
                if len(measured) == len(every):
                    found[row][seed][measure] = float(np.mean(measured))
    return found


def _digest(study: Study, scale: str, directories) -> str:
    """sha256 of all that a study's conclusion depends on: its results, what they cost, and its own files."""
    total = hashlib.sha256(f'{gjax.__version__} {scale}'.encode())
    folder = configs.experiments_dir() / study.name
    for path in (folder / 'study.py', folder / 'figures.py'):
        total.update(path.read_bytes() if path.is_file() else b'')
    for run, seeds in directories.items():
        for seed, directory in seeds.items():
            total.update(f'{run} {seed} {directory}'.encode() + (directory / 'results.json').read_bytes())
            for record in sorted(directory.rglob('run.json')):
                total.update(record.read_bytes())
    return total.hexdigest()


def _stored(workdir: Path) -> dict:
    """study.json, or {} where there is none, it is damaged, or one of its figures has gone."""
    try:
        stored = json.loads((workdir / 'study.json').read_text(encoding='utf-8'))
        return stored if all(Path(path).is_file() for path in stored['figures'].values()) else {}
    except (OSError, ValueError, KeyError, AttributeError):
        return {}


def _check_protocols(row: str, seeds: dict[int, dict]) -> None:
    """RunError unless every metric of a row was measured in one way for all seeds."""
    measured: dict[str, dict] = {}
    for own in seeds.values():
        protocols = protocols_of(own)
        for metric in own['metrics']:
            measured.setdefault(metric, {})[protocols.get(metric, 'the run does not say')] = None
    for metric, found in measured.items():
        if len(found) > 1:
            raise RunError(f'{metric} of {row} does not compare: it was measured as {" | ".join(list(found)[:4])}')


def _conclude(study: Study, scale: str, directories, workdir: Path) -> dict:
    """What study.json says: the metrics of all runs, the claims judged, the figures drawn."""
    results = collect(directories)
    metrics = {row: {seed: own['metrics'] for seed, own in seeds.items()} for row, seeds in results.items()}
    for row, seeds in results.items():
        _check_protocols(row, seeds)
    for row, by_seed in study.derive(directories).items():
        for seed, values in by_seed.items():
            own = metrics.setdefault(row, {})
            own[seed] = own.get(seed, {}) | values
    figures = {
        file: str(save_figure(figure, workdir / 'figures' / file)) for file, figure in study.figures(directories).items()
    }
    return {
        'study': study.name,
        'scale': scale,
        'selection': 'last step',
        'note': study.note(files.read_json(next(iter(next(iter(directories.values())).values())) / 'config.json')),
        'minutes': _minutes(study, scale, directories),
        'claims': {claim.name: claim.judge(metrics, scale) for claim in study.claims if scale in (claim.scales or (scale,))},
        'metrics': {row: {str(seed): own for seed, own in by_seed.items()} for row, by_seed in metrics.items()},
        'figures': figures,
    }


def _minutes(study: Study, scale: str, directories) -> float | None:
    """What all runs of one seed but the extra ones take, one after the other; None if a run does not say."""
    extra = {variant.name for variant in study.variants.get(scale, ()) if variant.extra}
    chosen = [seeds for name, seeds in directories.items() if name not in extra]
    records = [path for seeds in chosen for folder in seeds.values() for path in folder.rglob('run.json')]
    seconds = [files.read_json(path).get('seconds') for path in records]
    if not seconds or not all(isinstance(own, int | float) for own in seconds):
        return None
    return round(sum(seconds) / 60 / max(map(len, chosen)), 1)


def reproduce(
    name: str,
    *,
    scale: str = 'mini',
    seeds=None,
    workdir: str | Path | None = None,
    overrides: dict | None = None,
    extras: bool = False,
    jobs: int = 1,
    update_readme: bool = False,
) -> dict:
    """Runs what is missing of a study, then judges its claims and draws its figures.

    Args:
      name: a method's name with a folder in experiments/.
      scale: 'mini', 'small' or 'paper', as the study has them.
      seeds: ints; None for the study's own, `Study.seeds`.
      workdir: default runs/NAME-SCALE.
      overrides: dotted config keys for all runs.
      extras: also the runs marked extra (ablations).
      jobs: processes at a time; 1 runs everything in this one.
      update_readme: write the tables into experiments/NAME/README.md and the paper's row into the checkout's README.md, and
        copy the figures to experiments/NAME/figures/SCALE.

    Returns:
      The content of study.json, 'table' (markdown) and 'complete': whether there was nothing left to do.
    """
    study, workdir = load_study(name), Path(workdir or f'runs/{name}-{scale}')
    root = configs.experiments_dir()
    seeds = study.seeds if seeds is None else seeds
    own_readme, root_readme = root / name / 'README.md', root.parent / 'README.md'
    if update_readme:  # refused before anything runs, not after it
        around(own_readme, f'{name} {scale}')
        around(root_readme, PAPERS)
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
    table = study_tables(study, scale, stored)
    files.write_text(workdir / 'table.md', table)
    if update_readme:
        update_between(own_readme, f'{name} {scale}', table)
        if study.headline in stored['claims']:
            update_paper_row(root_readme, study, paper_row(study, stored['claims'], stored['minutes'], scale))
        shown = root / name / 'figures' / scale
        shown.mkdir(parents=True, exist_ok=True)
        for file, path in stored['figures'].items():
            shutil.copy(path, shown / file)
    return stored | {'table': table, 'complete': complete}
