"""The figure of Generate To Adapt: the embeddings of two domains on one plane."""

import matplotlib
import numpy as np

from gjax.study import plots


def embeddings(panels: dict[str, dict[str, np.ndarray]]):
    """Embeddings of two domains on the plane of their first two principal components, coloured by class.

    Args:
      panels: title -> 'source_embedding', 'source_label', 'target_embedding', 'target_label', and 'target_prediction'.
    """
    from sklearn.decomposition import PCA

    figure, axes = plots.make_axes(len(panels), 4.8, 4.4)
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
    plots.add_legend(axes)
    return figure
