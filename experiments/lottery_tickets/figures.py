"""The figures of lottery tickets: scores against the weights left, what is left of each layer, distances between masks."""

import numpy as np

from gjax.study import plots


def against_remaining(lines: dict[str, list[dict]], label: str):
    """A score against the share of weights left, on a logarithmic axis: mean and spread over seeds.

    Args:
      lines: name -> one {share of weights left, in (0, 1]: score} a seed; a single share is drawn as a mark with its spread.
      label: the score's name.
    """
    figure, (axis,) = plots.make_axes(width=6.4, height=4.0)
    for (name, seeds), (color, _, marker) in zip(lines.items(), plots.styles(), strict=False):
        shares = sorted({share for seed in seeds for share in seed}, reverse=True)
        # Seeds prune the same share but for a weight or so: the first one's stand for all.
        columns = [list(seed.values()) for seed in seeds if len(seed) == len(seeds[0])]
        values, places = np.asarray(columns), 100 * np.asarray(list(seeds[0])[: len(columns[0])] if shares else [])
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
        look = {'color': color, 'marker': marker, 'label': plots.literal(name), 'capsize': 2, 'ms': 5}
        axis.errorbar(places, values.mean(axis=0), spread, ls='-' if len(places) > 1 else '', **look)
    axis.set_xscale('log')
    axis.invert_xaxis()
    axis.set(xlabel='weights left (%)', ylabel=label)
    plots.add_legend([axis])
    return figure


def layer_sparsity(layers: dict[str, list[float]]):
    """Bars: the share of each layer's weights that is left, mean and spread over seeds."""
    figure, (axis,) = plots.make_axes(width=6.4, height=1.0 + 0.3 * len(layers))
    values = [100 * (1 - np.asarray(seeds)) for seeds in layers.values()]
    places = np.arange(len(layers))
    axis.barh(places, [v.mean() for v in values], xerr=[v.std(ddof=min(1, len(v) - 1)) for v in values], capsize=2)
    axis.set_yticks(places, [plots.literal(name) for name in layers])
    axis.invert_yaxis()
    axis.set(xlabel='weights left (%)', xlim=(0, None))
    return figure


def mask_distances(distances):
    """The distances [T, T] between the masks of any two epochs, as colours."""
    figure, (axis,) = plots.make_axes(width=4.4, height=3.6)
    axis.grid(visible=False)
    ends = (0.5, len(distances) + 0.5)
    image = axis.imshow(distances, cmap='viridis', vmin=0, extent=(*ends, *ends[::-1]))
    figure.colorbar(image, label='Hamming distance')
    axis.set(xlabel='epoch', ylabel='epoch')
    return figure
