"""The figures of flows under attack: bits per dimension against the radius, their trade-off and spread, attacked images."""

import numpy as np
from matplotlib.figure import Figure

from gjax.study import plots


def _bits(results: dict) -> dict[float, float]:
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
    figure, (axis,) = plots.make_axes()
    for style, (run, seeds) in zip(plots.styles(), results.items(), strict=False):
        plots.draw_band(axis, [_bits(r) for r in seeds], style, run, log=True)
    axis.set(xlabel='attack radius (/255)', ylabel='bits per dimension', yscale='log')
    plots.add_legend([axis])
    return figure


def trade_off(line, points: dict[str, list[tuple[float, float]]]):
    """Attacked against clean bits per dimension: a theory's line, and what was trained, a point a seed.

    Args:
      line: [(clean, attacked)].
      points: per run name, (clean, attacked) of each seed.
    """
    figure, (axis,) = plots.make_axes()
    axis.plot(*np.asarray(line).T, color='black', lw=1, marker='.', ms=4, label='robust fits, closed form')
    for (color, _, marker), (run, seeds) in zip(plots.styles(), points.items(), strict=False):
        axis.scatter(*np.asarray(seeds).T, color=color, s=30, marker=marker, label=plots.literal(run))
    axis.set(xlabel='bits per dimension, clean', ylabel='attacked', yscale='log')
    plots.add_legend([axis])
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
    figure, (axis,) = plots.make_axes()
    for (color, line, _), name in zip(plots.styles(), finite, strict=False):
        label = name.removeprefix('histogram_').removesuffix('_attacked')
        style = ':' if name.endswith('_attacked') else line
        text = plots.literal(f'{label}, attacked' if name.endswith('_attacked') else label)
        values = np.clip(finite[name], low, high)  # what lies beyond is in the last bar
        axis.hist(values, np.linspace(low, high, 61), density=True, histtype='step', color=color, ls=style, label=text)
    axis.set(xlabel='bits per dimension', ylabel='density')
    plots.add_legend([axis])
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
        axes[0].text(-0.2, 0.5, plots.literal(title), transform=axes[0].transAxes, ha='right', va='center', fontsize=7)
    return figure
