"""PGD adversarial training at one uniform radius (Madry et al. 2018, arXiv:1706.06083, Eq. 2.1)."""

import dataclasses

from gjax.losses import cross_entropy
from gjax.methods.classifier import Classifier, positive


@dataclasses.dataclass(frozen=True)
class UniformAttack(Classifier):
    """Options of the methods that attack every image at the same radius; eps and step_size in [0, 1] units."""

    eps: float = 8 / 255
    step_size: float = 2 / 255
    attack_steps: int = 10

    def __post_init__(self):
        super().__post_init__()
        positive('method.eps', self.eps)
        positive('method.step_size', self.step_size)
        positive('method.attack_steps', self.attack_steps, zero=False)

    @property
    def _attack_options(self):
        return {'steps': self.attack_steps, 'step_size': self.step_size}


@dataclasses.dataclass(frozen=True)
class AdversarialTraining(UniformAttack):
    """min E[max_{|d|_inf <= eps} CE(f(x + d), y)]."""

    def step(self, state, batch):
        images, labels = batch['image'], batch['label']
        adversarial, stats = self.attack(
            state, images, labels, self.eps, rng=state.step_rng(), **self._attack_options
        )
        return self.minimize(state, lambda apply: cross_entropy(apply(adversarial), labels), stats)


METHOD = AdversarialTraining
