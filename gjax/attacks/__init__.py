"""Pure attacks on classifiers: `logits_fn`, images in [0, 1] and radii in, adversarial images out."""

from gjax.attacks.balls import NORMS, project
from gjax.attacks.carlini_wagner import carlini_wagner_l2
from gjax.attacks.evaluation import accuracy_curve, worst_case
from gjax.attacks.gradient import fgsm, margin_pgd, momentum_iterative, pgd, random_noise

__all__ = [
    'NORMS',
    'accuracy_curve',
    'carlini_wagner_l2',
    'fgsm',
    'margin_pgd',
    'momentum_iterative',
    'pgd',
    'project',
    'random_noise',
    'worst_case',
]
