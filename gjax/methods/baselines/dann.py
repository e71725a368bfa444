"""Domain-adversarial training (Ganin & Lempitsky 2015, arXiv:1409.7495; Ganin et al. 2016, arXiv:1505.07818).

min over F, C, max over D of  CE(C(F(s)), y) - lambda [BCE(D(F(s)), 1) + BCE(D(F(t)), 0)]
"""

import dataclasses

import jax.numpy as jnp

from gjax.checks import positive
from gjax.losses import adversarial_ramp, binary_cross_entropy, reverse_gradient
from gjax.methods.core.adaptation import TARGET, Aligned

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

    def alignment(self, state, run, source, target):
        strength = self.weight * (adversarial_ramp(self.progress(state), self.steepness) if self.steepness else 1.0)
        on_source = run(D, reverse_gradient(source, strength))
        on_target = run(D, reverse_gradient(target, strength), TARGET)
        loss = jnp.mean(binary_cross_entropy(on_source, True)) + jnp.mean(binary_cross_entropy(on_target, False))
        right = (jnp.mean(on_source > 0) + jnp.mean(on_target < 0)) / 2
        return loss, {f'loss/{D}': loss, 'discriminator_accuracy': right, 'weight': jnp.asarray(strength)}


METHOD = DANN
