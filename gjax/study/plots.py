"""Figures of any runs, and the style that the papers' own figures (experiments/NAME/figures.py) share.

`training_curves`, `losses`, `frontier` and `image_rows` each draw a new matplotlib Figure and return it; `make_axes`,
`styles`, `draw_band`, `add_legend` and `literal` are what they and the papers' figures are made of.
"""

import itertools
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gjax.study.tables import printable

COLORS = ('#4c72b0', '#dd8452', '#55a868', '#c44e52', '#8172b3', '#937860', '#da8bc3', '#8c8c8c')
LINES = ('-', '--', ':', '-.')
MARKERS = ('P', 'X', 'D', '^')


def styles():
    """Endless distinct looks (color, line, marker): every colour in one line and marker, then every colour in the next."""
    return itertools.cycle((color, *style) for style in zip(LINES, MARKERS, strict=True) for color in COLORS)


def make_axes(panels: int = 1, width: float = 4.8, height: float = 3.4):
    """(figure, its axes): at most three panels a row, of this size in inches each."""
    columns, rows = min(panels, 3), -(-panels // 3)
    figure = Figure(figsize=(width * columns, height * rows), layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in grid[panels:]:
        axis.remove()
    for axis in grid[:panels]:
        axis.spines[['top', 'right']].set_visible(False)
        axis.grid(alpha=0.25)
    return figure, grid[:panels]


def literal(text: str) -> str:
    """A name as matplotlib shows it: dollars are no formulas, and a first underscore would hide it from the legend."""
    text = printable(text, 40).replace('$', r'\$')
    return f' {text}' if text.startswith('_') else text


def add_legend(axes) -> None:
    """Draws one legend for all panels: in the first one or, of more than a dozen runs, beside the figure."""
    entries = {}
    for axis in axes:
        for handle, text in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(text, handle)
    shown = dict(itertools.islice(entries.items(), 39))
    if len(shown) < len(entries):
        shown[f'and {len(entries) - len(shown)} more'] = Line2D([], [], ls='')
    look = {'frameon': False, 'fontsize': 8}
    if len(shown) <= 12:
        axes[0].legend(shown.values(), shown, **look)
        return
    figure, columns = axes[0].figure, -(-len(shown) // 20)
    figure.set_figwidth(figure.get_figwidth() + columns * (0.5 + 0.1 * max(map(len, shown))))  # letters of 8 points
    figure.legend(shown.values(), shown, loc='outside right upper', ncols=columns, **look)


def drawable(value) -> bool:
    """Whether a value from a file is a number whose square matplotlib can still scale."""
    return isinstance(value, int | float) and abs(value) < 1e100


def _points(lines: list[dict], key: str) -> dict[float, float]:
    """{epoch: value} of a metrics.jsonl's key, where there is something to draw."""
    points = ((line.get('epoch'), line.get(key)) for line in lines)
    return {epoch: value for epoch, value in points if drawable(epoch) and drawable(value)}


def logged(metrics: dict[str, list[list[dict]]], prefix: str) -> list[str]:
    """The names after `prefix` of all numbers that the logs hold, sorted; metrics: as for `training_curves`."""
    lines = [line for seeds in metrics.values() for lines in seeds for line in lines]
    keys = {key for line in lines for key in line if key.startswith(prefix)}
    return sorted(key.removeprefix(prefix) for key in keys if _points(lines, key))


def draw_band(axis, series, style, name: str, *, log: bool = False) -> None:
    """Draws the mean over seeds as a line and one standard deviation as a band.

    Args:
      axis: where to.
      series: {x: y} of each seed, drawn where all have a value (for `log` one above zero).
      style: (color, line, marker), one of `styles`.
      name: of the line, for the legend.
      log: takes mean and deviation of the logarithms, which stay above zero; for logarithmic axes.
    """
    x = sorted(set.intersection(*(set(points) for points in series)))
    x = [at for at in x if all(points[at] > 0 for points in series)] if log else x
    if not x:
        return
    rows = np.asarray([[points[at] for at in x] for points in series], float)
    rows = np.log(rows) if log else rows
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    line, low, high = (np.exp(y) if log else y for y in (mean, mean - spread, mean + spread))
    color, dashes, _ = style
    marker = 'o' if len(x) == 1 else None  # a line through one point is invisible
    axis.plot(x, line, dashes, color=color, label=literal(name), lw=1.8, marker=marker)
    if len(rows) > 1:
        axis.fill_between(x, low, high, color=color, alpha=0.18, lw=0)


def _curves(metrics, titles: dict[str, str]):
    """One panel a key of `titles`, in its own range (accuracies: 0 to 1); a seed that logged nothing yet is left out."""
    figure, axes = make_axes(len(titles))
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
        for style, (run, seeds) in zip(styles(), metrics.items(), strict=False):
            series = [points for points in (_points(lines, key) for lines in seeds) if points]
            if series:
                draw_band(axis, series, style, run)
        axis.set(xlabel='epoch', ylabel=literal(title), ylim=(0, 1) if key.endswith('accuracy') else None)
    add_legend(axes)
    return figure


def training_curves(metrics: dict[str, list[list[dict]]], names=('clean_accuracy', 'robust_accuracy')):
    """Test metrics over epochs.

    Args:
      metrics: per run name, for each seed the lines of its metrics.jsonl.
      names: which test metrics, one panel each.
    """
    return _curves(metrics, {f'test/{name}': name.replace('_', ' ') for name in names})


def losses(metrics: dict[str, list[list[dict]]], players):
    """Training losses over epochs.

    Args:
      metrics: as for `training_curves`.
      players: whose losses, one panel each.
    """
    return _curves(metrics, {f'loss/{player}': f'loss of {player.replace("_", " ")}' for player in players})


def frontier(results: dict[str, list[dict]], across: str = 'robust_accuracy', up: str = 'clean_accuracy'):
    """Two metrics that trade off, one point a seed and a mark at the mean; up and right is better.

    Args:
      results: per run name, the results.json content of each seed; a run without any only keeps its colour.
      across, up: the metrics of the two axes.
    """
    figure, (axis,) = make_axes()
    for (color, _, marker), (run, seeds) in zip(styles(), results.items(), strict=False):
        if not seeds:
            continue
        points = np.asarray([[r['metrics'][k] for k in (across, up)] for r in seeds])
        axis.scatter(*points.T, color=color, s=16, alpha=0.6)
        axis.scatter(*points.mean(axis=0), color=color, s=90, marker=marker, edgecolor='white', label=literal(run))
    axis.set(xlabel=literal(across.replace('_', ' ')), ylabel=literal(up.replace('_', ' ')))
    add_legend([axis])
    return figure


def image_rows(rows: dict[str, np.ndarray]):
    """Named rows of images, uint8 [N, H, W, C] with C of 1 or 3."""
    count = max(len(images) for images in rows.values())
    figure = Figure(figsize=(1.2 + 0.45 * count, 0.47 * len(rows)), layout='constrained')
    grid = figure.subplots(len(rows), count, squeeze=False)
    for axes, (name, images) in zip(grid, rows.items(), strict=True):
        for axis in axes:
            axis.set_axis_off()
        for axis, image in zip(axes, images, strict=False):
            axis.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap='gray', vmin=0, vmax=255)
        axes[0].text(-0.2, 0.5, literal(name), transform=axes[0].transAxes, ha='right', va='center', fontsize=7)
    return figure


def save(figure, path: str | Path) -> Path:
    """Writes the figure as PNG at 150 dots an inch and returns the path."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph')  # a name's character that no font has is drawn as a box
        figure.savefig(path, dpi=150)
    return Path(path)
