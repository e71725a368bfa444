"""Figures from run directories. Each function draws on one new matplotlib Figure and returns it."""

import itertools
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

COLORS = ('#4c72b0', '#dd8452', '#55a868', '#c44e52', '#8172b3', '#937860', '#da8bc3', '#8c8c8c')
LINES = ('-', '--', ':', '-.')
MARKERS = ('P', 'X', 'D', '^')


def _styles():
    """Endless distinct looks: every colour in one style of line and marker, then every colour in the next."""
    return itertools.cycle((color, *style) for style in zip(LINES, MARKERS, strict=True) for color in COLORS)


def _axes(columns: int = 1, width: float = 4.8, height: float = 3.4):
    figure = Figure(figsize=(width * columns, height), layout='constrained')
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[['top', 'right']].set_visible(False)
        axis.grid(alpha=0.25)
    return figure, axes


def _band(axis, series, style, label):
    """Mean over seeds as a line, one standard deviation as a band; series: per seed {x: y}, drawn where all have a value."""
    x = sorted(set.intersection(*(set(points) for points in series)))
    rows = np.asarray([[points[at] for at in x] for points in series], float)
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    color, line, _ = style
    axis.plot(x, mean, line, color=color, label=label, lw=1.8)
    if len(rows) > 1:
        axis.fill_between(x, mean - spread, mean + spread, color=color, alpha=0.18, lw=0)


def training_curves(metrics: dict[str, list[list[dict]]], names=('clean_accuracy', 'robust_accuracy')):
    """Test metrics over epochs.

    Args:
      metrics: per run name, for each seed the lines of its metrics.jsonl.
      names: which test metrics, one panel each.
    """
    figure, axes = _axes(len(names))
    for axis, name in zip(axes, names, strict=True):
        for style, (run, seeds) in zip(_styles(), metrics.items(), strict=False):
            series = [{line['epoch']: line[f'test/{name}'] for line in s if f'test/{name}' in line} for s in seeds]
            if all(series):
                _band(axis, series, style, run)
        axis.set(xlabel='epoch', ylabel=name.replace('_', ' '), ylim=(0, 1))
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def _curve(results: dict):
    """{radius in 255ths: accuracy} from the content of a results.json."""
    points = {0.0: results['metrics']['clean_accuracy']}
    for name, value in results['metrics'].items():
        if name.startswith('accuracy_at_'):
            points[255 * float(name.removeprefix('accuracy_at_'))] = value
    return points


def accuracy_against_eps(results: dict[str, list[dict]], eps: float):
    """Test accuracy under attack against its radius, in 255ths; the radius of the study is marked.

    Args:
      results: per run name, the results.json content of each seed.
      eps: the marked radius, in [0, 1] units.
    """
    figure, (axis,) = _axes()
    for style, (run, seeds) in zip(_styles(), results.items(), strict=False):
        _band(axis, [_curve(r) for r in seeds], style, run)
    axis.axvline(255 * eps, color='black', lw=0.8, ls=':')
    axis.set(xlabel='attack radius (/255)', ylabel='accuracy under attack', ylim=(0, 1))
    axis.legend(frameon=False, fontsize=8)
    return figure


def frontier(results: dict[str, list[dict]]):
    """Clean against robust accuracy, one point a seed and a cross at the mean; up and right is better."""
    figure, (axis,) = _axes()
    for (color, _, marker), (run, seeds) in zip(_styles(), results.items(), strict=False):
        points = np.asarray([[r['metrics'][k] for k in ('robust_accuracy', 'clean_accuracy')] for r in seeds])
        axis.scatter(*points.T, color=color, s=16, alpha=0.6)
        axis.scatter(*points.mean(axis=0), color=color, s=90, marker=marker, edgecolor='white', label=run)
    axis.set(xlabel='robust accuracy', ylabel='clean accuracy')
    axis.legend(frameon=False, fontsize=8)
    return figure


def radius_histogram(lines: list[dict], eps: float):
    """How the radii spread over training: one histogram an evaluation, darker later; lines of one metrics.jsonl."""
    figure, (axis,) = _axes()
    kept = [line for line in lines if 'test/radius_histogram' in line]
    for i, line in enumerate(kept):
        width = 255 * line['test/radius_bin_width']
        counts = np.asarray(line['test/radius_histogram'])
        centers = width * (np.arange(len(counts)) + 0.5)
        shade = 0.15 + 0.85 * (i + 1) / len(kept)
        label = f'epoch {line["epoch"]:.0f}' if i in (0, len(kept) // 2, len(kept) - 1) else None
        axis.plot(centers, counts / counts.sum(), color=COLORS[0], alpha=shade, lw=1.6, label=label, drawstyle='steps-mid')
    axis.axvline(255 * eps, color='black', lw=0.8, ls=':')
    last = max((np.flatnonzero(line['test/radius_histogram']).max() for line in kept), default=0)
    right = max(1.2 * 255 * eps, 255 * kept[-1]['test/radius_bin_width'] * (last + 2)) if kept else None
    axis.set(xlabel='radius (/255)', ylabel='share of training images', xlim=(0, right))
    axis.legend(frameon=False, fontsize=8)
    return figure


def radius_contact_sheet(images, labels, radius, columns: int = 12, rows: int = 2):
    """Training images with the smallest (top) and the largest (bottom) radii, with label and radius in 255ths.

    Args:
      images: uint8 [N, H, W, C].
      labels: int [N].
      radius: [N], in [0, 1] units.
    """
    shuffled = np.random.default_rng(0).permutation(len(radius))  # ties in no particular order
    order = shuffled[np.argsort(np.asarray(radius)[shuffled], kind='stable')]
    half = rows * columns
    chosen = np.concatenate([order[:half], order[-half:][::-1]])
    figure = Figure(figsize=(columns * 0.75, 2 * rows * 0.95 + 0.5), layout='constrained')
    axes = figure.subplots(2 * rows, columns).ravel()
    for axis, i in zip(axes, chosen, strict=False):
        axis.imshow(images[i].squeeze(), cmap='gray', vmin=0, vmax=255)
        axis.set_title(f'{labels[i]}: {255 * radius[i]:.1f}', fontsize=7, pad=1.5)
    for axis in axes:
        axis.axis('off')
    figure.suptitle('smallest radii (top) and largest (bottom); label: radius/255', fontsize=9)
    return figure


def save(figure, path: str | Path) -> Path:
    """Writes the figure as PNG at 150 dots an inch and returns the path."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return Path(path)
