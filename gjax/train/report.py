"""`gjax report`: any finished runs side by side, in one table with figures."""

import json
from pathlib import Path

from gjax.train import config as configs
from gjax.train import logging, plots
from gjax.train.errors import RunError
from gjax.train.study import results_table


def find_runs(folders) -> list[Path]:
    """Every directory at or below the folders that holds a results.json; RunError where there is none."""
    found = []
    for folder in folders:
        below = sorted(p.parent for p in Path(folder).rglob('results.json'))
        if not below:
            raise RunError(f'{str(folder)!r} holds no finished run (no results.json)')
        found += below
    return list(dict.fromkeys(found))


def group_runs(directories: list[Path]) -> dict[str, list[Path]]:
    """Runs whose configs differ only in the seed, together, named by their folder and, at need, what sets them apart."""
    groups: dict[str, list[Path]] = {}
    settings = {}
    for directory in directories:
        config = configs.flatten(json.loads((directory / 'config.json').read_text()))
        key = json.dumps({k: v for k, v in sorted(config.items()) if k != 'seed'})
        groups.setdefault(key, []).append(directory)
        settings[key] = config
    named: dict[str, list[Path]] = {}
    first: dict[str, dict] = {}
    for key, members in groups.items():
        folder = members[0].parent if members[0].name.startswith('seed') else members[0]
        name = base = folder.resolve().name
        other, own = first.setdefault(base, settings[key]), settings[key]
        if name in named:
            differing = [k for k in sorted(own.keys() | other.keys()) if k != 'seed' and own.get(k) != other.get(k)]
            name = f'{base} ({", ".join(f"{k}={own.get(k)}" for k in differing[:3])})'
        while name in named:
            name += "'"
        named[name] = members
    return named


def report(folders, out: str | Path) -> str:
    """Writes report.md, report.json and figures under `out`; runs that differ only in their seed share a row.

    Args:
      folders: run directories, or folders that hold some.
      out: where to write.

    Returns:
      The table, as markdown.
    """
    groups = group_runs(find_runs(folders))
    results = {n: {str(d): json.loads((d / 'results.json').read_text()) for d in g} for n, g in groups.items()}
    metrics = {n: {d: r['metrics'] for d, r in g.items()} for n, g in results.items()}
    names = [
        m
        for m in ('clean_accuracy', 'robust_accuracy', 'mean_radius')
        if any(m in v for g in metrics.values() for v in g.values())
    ]
    table = results_table(metrics, {name: name.replace('_', ' ') for name in names})
    lines = {n: [logging.read_metrics(d / 'metrics.jsonl') for d in g] for n, g in groups.items()}
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    figures = {'training_curves.png': plots.training_curves(lines)}
    robust = {n: list(g.values()) for n, g in results.items() if all('robust_accuracy' in r['metrics'] for r in g.values())}
    if robust:
        figures['frontier.png'] = plots.frontier(robust)
    for file, figure in figures.items():
        plots.save(figure, out / 'figures' / file)
    logging.write_json(out / 'report.json', results)
    logging.write_text(out / 'report.md', table + ''.join(f'\n![{f}](figures/{f})\n' for f in figures))
    return table
