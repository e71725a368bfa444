"""Metrics over evaluation sets: padded examples never count."""

from gjax.metrics.domains import told_apart
from gjax.metrics.frechet import frechet_distance, gaussian_statistics, inception_score, linear_probe_accuracy
from gjax.metrics.ranking import auroc, spearman
from gjax.metrics.streaming import MaskedMean

__all__ = [
    'MaskedMean',
    'auroc',
    'frechet_distance',
    'gaussian_statistics',
    'inception_score',
    'linear_probe_accuracy',
    'spearman',
    'told_apart',
]
