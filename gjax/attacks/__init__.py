"""Pure attacks on classifiers (`logits_fn`) and on likelihoods (`nll_fn`): images within their bounds and radii in,
adversarial images out.
"""

from gjax.attacks.balls import project
from gjax.attacks.carlini_wagner import carlini_wagner_l2
from gjax.attacks.evaluation import accuracy_curve, worst_case
from gjax.attacks.gradient import fgsm, margin_pgd, momentum_iterative, pgd, random_noise
from gjax.attacks.likelihood import expected_nll, lower_nll, raise_nll
from gjax.checks import NORMS

__all__ = [
    'NORMS',
    'accuracy_curve',
    'carlini_wagner_l2',
    'expected_nll',
    'fgsm',
    'lower_nll',
    'margin_pgd',
    'momentum_iterative',
    'pgd',
    'project',
    'raise_nll',
    'random_noise',
    'worst_case',
]
