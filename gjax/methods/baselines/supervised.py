"""Empirical risk minimisation, optionally with mixup: the baseline of everything."""

import dataclasses

import jax

from gjax.checks import positive
from gjax.losses import cross_entropy, mixup
from gjax.methods.core.classifier import Classifier


@dataclasses.dataclass(frozen=True)
class Supervised(Classifier):
    """min E[CE(f(x), y)]; with mixup_alpha > 0 on convex combinations of pairs, m ~ Beta(alpha, alpha)."""

    mixup_alpha: float = 0.0  # 0 for no mixup

    def __post_init__(self):
        super().__post_init__()
        positive('method.mixup_alpha', self.mixup_alpha)

    def step(self, state, batch):
        images, targets = batch['image'], batch['label']
        if self.mixup_alpha:
            one_hot = jax.nn.one_hot(targets, self.info.num_classes)
            images, targets = mixup(images, one_hot, rng=state.step_rng(), alpha=self.mixup_alpha)
        return self.minimize(state, lambda apply: cross_entropy(apply(images), targets))


METHOD = Supervised
