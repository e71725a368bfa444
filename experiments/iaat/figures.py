"""The figures of instance-adaptive adversarial training: accuracy against the attack's radius, and the radii of images."""

import numpy as np
from matplotlib.figure import Figure

from gjax.study import plots


def _curve(results: dict) -> dict[float, float]:
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
    figure, (axis,) = plots.make_axes()
    for style, (run, seeds) in zip(plots.styles(), results.items(), strict=False):
        plots.draw_band(axis, [_curve(r) for r in seeds], style, run)
    axis.axvline(255 * eps, color='black', lw=0.8, ls=':')
    axis.set(xlabel='attack radius (/255)', ylabel='accuracy under attack', ylim=(0, 1))
    plots.add_legend([axis])
    return figure


def radius_histogram(lines: list[dict], eps: float):
    """How the radii spread over training: one histogram an evaluation, darker later; lines of one metrics.jsonl."""
    figure, (axis,) = plots.make_axes()
    kept = [line for line in lines if 'test/radius_histogram' in line]
    for i, line in enumerate(kept):
        width = 255 * line['test/radius_bin_width']
        counts = np.asarray(line['test/radius_histogram'])
        centers = width * (np.arange(len(counts)) + 0.5)
        shade = 0.15 + 0.85 * (i + 1) / len(kept)
        label = f'epoch {line["epoch"]:.0f}' if i in (0, len(kept) // 2, len(kept) - 1) else None
        axis.plot(
            centers, counts / counts.sum(), color=plots.COLORS[0], alpha=shade, lw=1.6, label=label, drawstyle='steps-mid'
        )
    axis.axvline(255 * eps, color='black', lw=0.8, ls=':')
    last = max((np.flatnonzero(line['test/radius_histogram']).max() for line in kept), default=0)
    right = max(1.2 * 255 * eps, 255 * kept[-1]['test/radius_bin_width'] * (last + 2)) if kept else None
    axis.set(xlabel='radius (/255)', ylabel='share of training images', xlim=(0, right))
    axis.legend(frameon=False, fontsize=8)
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
