"""`gjax report`: any finished runs side by side, in one table with figures."""

import json
from pathlib import Path

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


def report(folders, out: str | Path) -> str:
    """Writes report.md, report.json and figures under `out`; runs that differ only in their seed share a row.

    Args:
      folders: run directories, or folders that hold some.
      out: where to write.

    Returns:
      The table, as markdown.
    """
    groups: dict[str, dict[int, Path]] = {}
    for directory in find_runs(folders):
        results = json.loads((directory / 'results.json').read_text())
        name = directory.parent.name if directory.name.startswith('seed') else directory.name
        same = groups.setdefault(name, {})
        key = results['seed'] if results['seed'] not in same else max(same) + 1
        same[key] = directory
    results = {n: {s: json.loads((d / 'results.json').read_text()) for s, d in g.items()} for n, g in groups.items()}
    metrics = {n: {s: r['metrics'] for s, r in g.items()} for n, g in results.items()}
    names = [
        m
        for m in ('clean_accuracy', 'robust_accuracy', 'mean_radius')
        if any(m in v for g in metrics.values() for v in g.values())
    ]
    table = results_table(metrics, {name: name.replace('_', ' ') for name in names})
    lines = {n: [logging.read_metrics(d / 'metrics.jsonl') for d in g.values()] for n, g in groups.items()}
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    figures = {'training_curves.png': plots.training_curves(lines)}
    robust = {n: list(g.values()) for n, g in results.items() if all('robust_accuracy' in r['metrics'] for r in g.values())}
    if robust:
        figures['frontier.png'] = plots.frontier(robust)
    for file, figure in figures.items():
        plots.save(figure, out / 'figures' / file)
    logging.write_json(out / 'report.json', {n: {str(s): r for s, r in g.items()} for n, g in results.items()})
    logging.write_text(out / 'report.md', table + ''.join(f'\n![{f}](figures/{f})\n' for f in figures))
    return table
