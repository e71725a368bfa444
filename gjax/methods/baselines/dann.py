"""Domain-adversarial training (Ganin & Lempitsky 2015, arXiv:1409.7495; Ganin et al. 2016, arXiv:1505.07818).

min over F, C, max over D of  CE(C(F(s)), y) - lambda [BCE(D(F(s)), 1) + BCE(D(F(t)), 0)]
"""

import dataclasses

import jax.numpy as jnp

from gjax.checks import positive
from gjax.losses import adversarial_ramp, binary_cross_entropy, reverse_gradient
from gjax.methods.core.adaptation import Aligned

D = 'domain'


@dataclasses.dataclass(frozen=True)
class DANN(Aligned):
    """One update of all three players: D descends its own loss; F climbs it, lambda times as fast, through the reversal."""

    weight: float = 1.0  # lambda at the end of training
    steepness: float = 10.0  # of lambda's rise 2 / (1 + exp(-steepness progress)) - 1 (Eq. 14); 0: lambda is constant

    def __post_init__(self):
        super().__post_init__()
        positive('method.weight', self.weight)
        positive('method.steepness', self.steepness)

    def modules(self):
        return {**super().modules(), D: self.net.domain_discriminator()}

    def alignment(self, state, params, source, target):
        strength = self.weight * (adversarial_ramp(self.progress(state), self.steepness) if self.steepness else 1.0)
        both = reverse_gradient(jnp.concatenate([source, target]), strength)
        logits = self.apply(D, params[D], {}, both, train=False)[0]
        is_source = jnp.arange(len(both)) < len(source)
        losses = binary_cross_entropy(logits, is_source)
        loss = jnp.mean(losses[: len(source)]) + jnp.mean(losses[len(source) :])
        right = jnp.where(is_source, logits > 0, logits < 0)
        return loss, {f'loss/{D}': loss, 'discriminator_accuracy': jnp.mean(right), 'weight': jnp.asarray(strength)}


METHOD = DANN
