"""Figures from run directories. Each function draws on one new matplotlib Figure and returns it."""

import itertools
import warnings
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

COLORS = ('#4c72b0', '#dd8452', '#55a868', '#c44e52', '#8172b3', '#937860', '#da8bc3', '#8c8c8c')
LINES = ('-', '--', ':', '-.')
MARKERS = ('P', 'X', 'D', '^')


def _styles():
    """Endless distinct looks: every colour in one style of line and marker, then every colour in the next."""
    return itertools.cycle((color, *style) for style in zip(LINES, MARKERS, strict=True) for color in COLORS)


def _axes(panels: int = 1, width: float = 4.8, height: float = 3.4):
    """A figure and its panels, three a row."""
    columns, rows = min(panels, 3), -(-panels // 3)
    figure = Figure(figsize=(width * columns, height * rows), layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in grid[panels:]:
        axis.remove()
    for axis in grid[:panels]:
        axis.spines[['top', 'right']].set_visible(False)
        axis.grid(alpha=0.25)
    return figure, grid[:panels]


def printable(text: str, limit: int = 80) -> str:
    """Text on one line: control and other invisible characters as escapes, what exceeds the limit cut from the middle."""
    text = ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)
    return text if len(text) <= limit else f'{text[: limit // 2]}…{text[1 - limit + limit // 2 :]}'


def _label(text: str) -> str:
    """A name as matplotlib shows it: dollars are no formulas, and a first underscore would hide it from the legend."""
    text = printable(text, 40).replace('$', r'\$')
    return f' {text}' if text.startswith('_') else text


def _legend(axes) -> None:
    """One legend for all panels: in the first one or, of more than a dozen runs, beside the figure."""
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


def _band(axis, series, style, label):
    """Mean over seeds as a line, one standard deviation as a band; series: per seed {x: y}, drawn where all have a value."""
    x = sorted(set.intersection(*(set(points) for points in series)))
    if not x:
        return
    rows = np.asarray([[points[at] for at in x] for points in series], float)
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    color, line, _ = style
    marker = 'o' if len(x) == 1 else None  # a line through one point is invisible
    axis.plot(x, mean, line, color=color, label=_label(label), lw=1.8, marker=marker)
    if len(rows) > 1:
        axis.fill_between(x, mean - spread, mean + spread, color=color, alpha=0.18, lw=0)


def _curves(metrics, titles: dict[str, str]):
    """One panel a key of `titles`, in its own range (accuracies: 0 to 1); a seed that logged nothing yet is left out."""
    figure, axes = _axes(len(titles))
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
        for style, (run, seeds) in zip(_styles(), metrics.items(), strict=False):
            series = [points for points in (_points(lines, key) for lines in seeds) if points]
            if series:
                _band(axis, series, style, run)
        axis.set(xlabel='epoch', ylabel=_label(title), ylim=(0, 1) if key.endswith('accuracy') else None)
    _legend(axes)
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
    _legend([axis])
    return figure


def frontier(results: dict[str, list[dict]]):
    """Clean against robust accuracy, one point a seed and a cross at the mean; up and right is better.

    Args:
      results: per run name, the results.json content of each seed; a run without any only keeps its colour.
    """
    figure, (axis,) = _axes()
    for (color, _, marker), (run, seeds) in zip(_styles(), results.items(), strict=False):
        if not seeds:
            continue
        points = np.asarray([[r['metrics'][k] for k in ('robust_accuracy', 'clean_accuracy')] for r in seeds])
        axis.scatter(*points.T, color=color, s=16, alpha=0.6)
        axis.scatter(*points.mean(axis=0), color=color, s=90, marker=marker, edgecolor='white', label=_label(run))
    axis.set(xlabel='robust accuracy', ylabel='clean accuracy')
    _legend([axis])
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


def against_remaining(lines: dict[str, list[dict]], label: str):
    """A score against the share of weights left, on a logarithmic axis: mean and spread over seeds.

    Args:
      lines: name -> one {share of weights left, in (0, 1]: score} a seed; a single share is drawn as a mark with its spread.
      label: the score's name.
    """
    figure, (axis,) = _axes(width=6.4, height=4.0)
    for (name, seeds), (color, _, marker) in zip(lines.items(), _styles(), strict=False):
        shares = sorted({share for seed in seeds for share in seed}, reverse=True)
        # Seeds prune the same share but for a weight or so: the first one's stand for all.
        columns = [list(seed.values()) for seed in seeds if len(seed) == len(seeds[0])]
        values, places = np.asarray(columns), 100 * np.asarray(list(seeds[0])[: len(columns[0])] if shares else [])
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
        look = {'color': color, 'marker': marker, 'label': _label(name), 'capsize': 2, 'ms': 5}
        axis.errorbar(places, values.mean(axis=0), spread, ls='-' if len(places) > 1 else '', **look)
    axis.set_xscale('log')
    axis.invert_xaxis()
    axis.set(xlabel='weights left (%)', ylabel=label)
    _legend([axis])
    return figure


def layer_sparsity(layers: dict[str, list[float]]):
    """Bars: the share of each layer's weights that is left, mean and spread over seeds."""
    figure, (axis,) = _axes(width=6.4, height=1.0 + 0.3 * len(layers))
    values = [100 * (1 - np.asarray(seeds)) for seeds in layers.values()]
    places = np.arange(len(layers))
    axis.barh(places, [v.mean() for v in values], xerr=[v.std(ddof=min(1, len(v) - 1)) for v in values], capsize=2)
    axis.set_yticks(places, [_label(name) for name in layers])
    axis.invert_yaxis()
    axis.set(xlabel='weights left (%)', xlim=(0, None))
    return figure


def mask_distances(distances):
    """The distances [T, T] between the masks of any two epochs, as colours."""
    figure, (axis,) = _axes(width=4.4, height=3.6)
    axis.grid(visible=False)
    ends = (0.5, len(distances) + 0.5)
    image = axis.imshow(distances, cmap='viridis', vmin=0, extent=(*ends, *ends[::-1]))
    figure.colorbar(image, label='Hamming distance')
    axis.set(xlabel='epoch', ylabel='epoch')
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
        axes[0].text(-0.2, 0.5, _label(name), transform=axes[0].transAxes, ha='right', va='center', fontsize=7)
    return figure


def extremes(values, count: int):
    """The rows of the `count` smallest values, ascending, then of the `count` largest, descending; ties in no order."""
    shuffled = np.random.default_rng(0).permutation(len(values))
    order = shuffled[np.argsort(np.asarray(values)[shuffled], kind='stable')]
    return np.concatenate([order[:count], order[-count:][::-1]])


def radius_contact_sheet(images, labels, radius, columns: int = 12, rows: int = 2):
    """Training images with the smallest (top) and the largest (bottom) radii, with label and radius in 255ths.

    Args:
      images: uint8 [N, H, W, C].
      labels: int [N].
      radius: [N], in [0, 1] units.
    """
    chosen = extremes(radius, rows * columns)
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
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph')  # a name's character that no font has is drawn as a box
        figure.savefig(path, dpi=150)
    return Path(path)


def embeddings(panels: dict[str, dict[str, np.ndarray]]):
    """Embeddings of two domains on the plane of their first two principal components, coloured by class.

    Args:
      panels: title -> 'source_embedding', 'source_label', 'target_embedding', 'target_label', and 'target_prediction'.
    """
    from sklearn.decomposition import PCA

    figure, axes = _axes(len(panels), 4.8, 4.4)
    colors = matplotlib.colormaps['tab10']
    for axis, (title, arrays) in zip(axes, panels.items(), strict=True):
        both = np.concatenate([arrays['source_embedding'], arrays['target_embedding']])
        plane = PCA(2, svd_solver='full').fit(both)
        for domain, marker, size in (('source', 'o', 12), ('target', 'x', 16)):
            points, labels = plane.transform(arrays[f'{domain}_embedding']), arrays[f'{domain}_label']
            axis.scatter(*points.T, c=colors(labels % 10), s=size, marker=marker, lw=0.8, alpha=0.6)
            axis.scatter([], [], color='0.3', marker=marker, s=size, label=domain)
        right = np.mean(arrays['target_prediction'] == arrays['target_label'])
        axis.set(title=f'{title}: {100 * right:.0f} % of target right', xticks=[], yticks=[])
    _legend(axes)
    return figure


def _bits(results: dict):
    """{radius in 255ths: bits per dimension under attack} from the content of a results.json."""
    points = {0.0: results['metrics'].get('bits_per_dim', np.nan)}
    for name, value in results['metrics'].items():
        if name.startswith('attacked_bits_per_dim_at_') and not name.endswith('_non_finite'):
            points[255 * float(name.removeprefix('attacked_bits_per_dim_at_'))] = value
    return points


def bits_against_eps(results: dict[str, list[dict]]):
    """Bits per dimension of test images under attack against its radius, in 255ths, on a logarithmic scale.

    Args:
      results: per run name, the results.json content of each seed.
    """
    figure, (axis,) = _axes()
    for style, (run, seeds) in zip(_styles(), results.items(), strict=False):
        _band(axis, [_bits(r) for r in seeds], style, run)
    axis.set(xlabel='attack radius (/255)', ylabel='bits per dimension', yscale='log')
    _legend([axis])
    return figure


def trade_off(line, points: dict[str, list[tuple[float, float]]]):
    """Attacked against clean bits per dimension: a theory's line, and what was trained, a point a seed.

    Args:
      line: [(clean, attacked)].
      points: per run name, (clean, attacked) of each seed.
    """
    figure, (axis,) = _axes()
    axis.plot(*np.asarray(line).T, color='black', lw=1, marker='.', ms=4, label='robust fits, closed form')
    for (color, _, marker), (run, seeds) in zip(_styles(), points.items(), strict=False):
        axis.scatter(*np.asarray(seeds).T, color=color, s=30, marker=marker, label=_label(run))
    axis.set(xlabel='bits per dimension, clean', ylabel='attacked', yscale='log')
    _legend([axis])
    return figure


def bits_histogram(arrays: dict[str, np.ndarray]):
    """How the bits per dimension of test images and of other sets spread, those before and after the attack.

    Args:
      arrays: a run's images.npz: 'histogram_test', 'histogram_SET', 'histogram_SET_attacked'.
    """
    finite = {name: bits[np.isfinite(bits)] for name, bits in arrays.items() if name.startswith('histogram_')}
    finite = {name: bits for name, bits in finite.items() if len(bits)}
    everything = np.concatenate([np.zeros(0), *finite.values()])
    low, high = np.quantile(everything, (0, 0.95)) if len(everything) else (0, 1)
    figure, (axis,) = _axes()
    for (color, line, _), name in zip(_styles(), finite, strict=False):
        label = name.removeprefix('histogram_').removesuffix('_attacked')
        style = ':' if name.endswith('_attacked') else line
        text = _label(f'{label}, attacked' if name.endswith('_attacked') else label)
        values = np.clip(finite[name], low, high)  # what lies beyond is in the last bar
        axis.hist(values, np.linspace(low, high, 61), density=True, histtype='step', color=color, ls=style, label=text)
    axis.set(xlabel='bits per dimension', ylabel='density')
    _legend([axis])
    return figure


def attacked_images(arrays: dict[str, np.ndarray], count: int = 12):
    """Images before and after an attack with their bits per dimension: test images made unlikely, other sets' made likely,
    and samples of the model.

    Args:
      arrays: a run's images.npz, of `gjax.evaluators.likelihood`.
    """
    sets = ['', *(name.removesuffix('images') for name in arrays if name.startswith('ood_') and name.endswith('_images'))]
    rows = []
    for name in sets:
        title = name.removeprefix('ood_').removesuffix('_') or 'test'
        rows.append((title, arrays[f'{name}images'], arrays[f'{name}bits']))
        rows.append((f'{title}, attacked', arrays[f'{name}attacked'], arrays[f'{name}attacked_bits']))
    rows.append(('samples', arrays['samples'], None))
    figure = Figure(figsize=(1.4 + 0.6 * count, 0.75 * len(rows)), layout='constrained')
    grid = figure.subplots(len(rows), count, squeeze=False)
    for axes, (title, images, bits) in zip(grid, rows, strict=True):
        for axis in axes:
            axis.set_axis_off()
        for i, (axis, image) in enumerate(zip(axes, images, strict=False)):
            axis.imshow(image.squeeze(), cmap='gray', vmin=0, vmax=255)
            if bits is not None:
                axis.set_title(f'{bits[i]:.1f}', fontsize=6, pad=1.5)
        axes[0].text(-0.2, 0.5, _label(title), transform=axes[0].transAxes, ha='right', va='center', fontsize=7)
    return figure
