"""Interpolated adversarial training (Lamb et al. 2019, arXiv:1906.06784, Algorithm 1)."""

import dataclasses

import jax

from gjax.checks import positive
from gjax.losses import cross_entropy, mixup
from gjax.methods.baselines.adversarial_training import UniformAttack


@dataclasses.dataclass(frozen=True)
class InterpolatedAdversarialTraining(UniformAttack):
    """min (CE on mixup of clean images + CE on mixup of their PGD images) / 2, each with its own m ~ Beta(alpha, alpha)."""

    mixup_alpha: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        positive('method.mixup_alpha', self.mixup_alpha, zero=False)

    def step(self, state, batch):
        images, labels = batch['image'], batch['label']
        attack_rng, clean_rng, adversarial_rng = jax.random.split(state.step_rng(), 3)
        adversarial, stats = self.uniform_attack(state, images, labels, rng=attack_rng)
        one_hot = jax.nn.one_hot(labels, self.info.num_classes)
        clean = mixup(images, one_hot, rng=clean_rng, alpha=self.mixup_alpha)
        attacked = mixup(adversarial, one_hot, rng=adversarial_rng, alpha=self.mixup_alpha)

        def loss(apply):
            halves = [cross_entropy(apply(mixed), targets) for mixed, targets in (clean, attacked)]
            return (halves[0] + halves[1]) / 2

        return self.minimize(state, loss, stats)


METHOD = InterpolatedAdversarialTraining
