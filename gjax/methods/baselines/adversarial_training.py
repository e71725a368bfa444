"""PGD adversarial training at one uniform radius (Madry et al. 2018, arXiv:1706.06083, Eq. 2.1)."""

import dataclasses

from gjax.checks import check_eps, positive
from gjax.losses import cross_entropy
from gjax.methods.core.classifier import Classifier
from gjax.methods.core.optimisers import ramp


@dataclasses.dataclass(frozen=True)
class UniformAttack(Classifier):
    """Options of the methods that attack every image at the same radius; eps and step_size are in [0, 1] units."""

    eps: float = 8 / 255
    step_size: float = 2 / 255
    attack_steps: int = 10  # of PGD
    # Radius and step size rise linearly from zero over this time; 0, the papers' setting, starts at their full value. Small
    # networks under a large radius do not leave the constant predictor without it.
    eps_warmup_epochs: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        check_eps('method.eps', self.eps, self.attack_norm)
        positive('method.step_size', self.step_size)
        positive('method.attack_steps', self.attack_steps, zero=False)
        positive('method.eps_warmup_epochs', self.eps_warmup_epochs)

    def uniform_attack(self, state, images, targets, *, rng, **options):
        """`Classifier.attack` at the radius of the state's step; returns (images, batch statistics after the attack)."""
        scale = ramp(state.step, self.eps_warmup_epochs * self.info.steps_per_epoch)
        eps, step_size = self.eps * scale, self.step_size * scale
        return self.attack(state, images, targets, eps, rng=rng, steps=self.attack_steps, step_size=step_size, **options)


@dataclasses.dataclass(frozen=True)
class AdversarialTraining(UniformAttack):
    """min E[max_{|d|_inf <= eps} CE(f(x + d), y)]."""

    def step(self, state, batch):
        images, labels = batch['image'], batch['label']
        adversarial, stats = self.uniform_attack(state, images, labels, rng=state.step_rng())
        return self.minimize(state, lambda apply: cross_entropy(apply(adversarial), labels), stats)


METHOD = AdversarialTraining
