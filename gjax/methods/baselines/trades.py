"""TRADES (Zhang et al. 2019, arXiv:1901.08573, Eq. 5 and Algorithm 1)."""

import dataclasses

from gjax.checks import positive
from gjax.losses import cross_entropy, kl_divergence
from gjax.methods.baselines.adversarial_training import UniformAttack


@dataclasses.dataclass(frozen=True)
class Trades(UniformAttack):
    """min E[CE(f(x), y) + lam max_{|d|_inf <= eps} KL(f(x) || f(x + d))]; usually with lam = 6."""

    lam: float = 6.0  # the paper's 1 / lambda

    def __post_init__(self):
        super().__post_init__()
        positive('method.lam', self.lam)

    def step(self, state, batch):
        images, labels = batch['image'], batch['label']
        clean_logits, _ = self.attack_logits(state)(images, state.batch_stats['classifier'])
        adversarial, stats = self.uniform_attack(state, images, clean_logits, rng=state.step_rng(), objective=kl_divergence)

        def loss(apply):
            logits = apply(images)
            return cross_entropy(logits, labels) + self.lam * kl_divergence(apply(adversarial), logits)

        return self.minimize(state, loss, stats)


METHOD = Trades
