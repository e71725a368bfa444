"""Pure losses: per-example values `[B]`; reduction and weights are the caller's."""

from gjax.losses.classification import correct, cross_entropy, kl_divergence, margin
from gjax.losses.mixup import mixup

__all__ = ['correct', 'cross_entropy', 'kl_divergence', 'margin', 'mixup']
