"""Training on the source alone: the lower bound of domain adaptation."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from gjax.losses import correct, cross_entropy
from gjax.methods.core.adaptation import SOURCE, Adaptation, C, F


@dataclasses.dataclass(frozen=True)
class SourceOnly(Adaptation):
    """F, C = argmin CE(C(F(s)), y) over labelled images of one domain."""

    LABELLED: ClassVar[str] = SOURCE

    def classification_step(self, state, batch):
        """One update of F and C on labelled images."""

        def loss(run):
            logits = run(C, run(F, batch['image'], self.LABELLED), self.LABELLED)
            metrics = {'train_accuracy': jnp.mean(correct(logits, batch['label']))}
            return jnp.mean(cross_entropy(logits, batch['label'])), metrics

        return self.minimize(state, (F, C), loss)

    def step(self, state, batch):
        state, metrics = self.classification_step(state, batch[self.LABELLED])
        return self.after_step(state), metrics


METHOD = SourceOnly
