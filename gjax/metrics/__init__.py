"""Metrics over evaluation sets: padded examples never count."""

from gjax.metrics.ranking import spearman
from gjax.metrics.streaming import MaskedMean

__all__ = ['MaskedMean', 'spearman']
