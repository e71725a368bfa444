"""The figures of domain-specific masks: how far masks overlap, what each domain gets under each mask, whom units serve."""

import itertools

import numpy as np

from gjax.study import plots


def _on(masks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{layer: bool [p, units]}, which units each domain's hard mask has on, of mask logits {layer: [p, *units]}."""
    return {layer: (logits > 0).reshape(len(logits), -1) for layer, logits in masks.items()}


def _table(axis, values, rows, columns, title: str) -> None:
    """Draws numbers in [0, 1] as a coloured table of percentages."""
    axis.imshow(values, vmin=0, vmax=1, cmap='Blues')
    axis.set_xticks(range(len(columns)), [plots.literal(name) for name in columns], rotation=20, ha='right')
    axis.set_yticks(range(len(rows)), [plots.literal(name) for name in rows])
    axis.grid(visible=False)
    for row, column in itertools.product(range(len(rows)), range(len(columns))):
        value = values[row][column]
        axis.text(column, row, f'{100 * value:.0f}', ha='center', va='center', color='white' if value > 0.6 else 'black')
    axis.set_title(title)


def overlap_of_masks(masks: dict[str, np.ndarray], domains: tuple[str, ...]):
    """How much of two domains' hard masks is common to them (intersection over union, %), a table a layer.

    Args:
      masks: a run's masks.npz, {layer: logits [p, *units]}.
      domains: the names of the p sources.
    """
    on = _on(masks)
    figure, axes = plots.make_axes(len(on), 3.6, 3.2)
    for axis, (layer, own) in zip(axes, on.items(), strict=True):
        values = [[(a & b).sum() / max((a | b).sum(), 1) for b in own] for a in own]
        _table(axis, values, domains, domains, f'{layer}: {own.any(axis=0).mean():.0%} of units in use')
    figure.suptitle('Units that two domains share, % of those that either has')
    return figure


def accuracy_by_mask(metrics: dict[str, float], sets: tuple[str, ...], domains: tuple[str, ...]):
    """The accuracy of every set under every source's mask (%), from a run's metrics.

    Args:
      metrics: of results.json; 'SET_accuracy_with_SOURCE'.
      sets: the rows, sources and unseen ones.
      domains: the columns, the sources.
    """
    figure, (axis,) = plots.make_axes(1, 4.6, 3.6)
    values = [[metrics[f'{own}_accuracy_with_{domain}'] for domain in domains] for own in sets]
    _table(axis, values, sets, domains, 'Accuracy of a domain (row) under a mask (column), %')
    return figure


def units_by_domains(masks: dict[str, np.ndarray]):
    """How many units of each layer are on for none, one, ..., all of the domains.

    Args:
      masks: a run's masks.npz, {layer: logits [p, *units]}.
    """
    on = _on(masks)
    count = len(next(iter(on.values())))
    figure, (axis,) = plots.make_axes(1)
    width = 0.8 / len(on)
    for number, (color, (layer, own)) in enumerate(zip(plots.COLORS, on.items(), strict=False)):
        shares = [np.mean(own.sum(axis=0) == n) for n in range(count + 1)]
        axis.bar(np.arange(count + 1) + number * width, shares, width, color=color, label=plots.literal(layer))
    axis.set_xticks(np.arange(count + 1) + 0.4 - width / 2, [str(n) for n in range(count + 1)])
    both = np.concatenate([own.sum(axis=0) for own in on.values()])
    specific = np.mean((both > 0) & (both < count))
    axis.set(xlabel='domains for which a unit is on', ylabel='share of units', title=f'{specific:.0%} of units are specific')
    plots.add_legend([axis])
    return figure
