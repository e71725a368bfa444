"""Pure attacks on classifiers (`logits_fn`) and on likelihoods (`nll_fn`): images within their bounds and radii in,
adversarial images out. `autoattack` runs several of them, one after the other, on the images still standing.
"""

from gjax.attacks.apgd import apgd_ce, apgd_dlr, apgd_targeted, dlr, targeted_dlr
from gjax.attacks.balls import project
from gjax.attacks.carlini_wagner import carlini_wagner_l2
from gjax.attacks.ensemble import AutoAttackResult, autoattack
from gjax.attacks.evaluation import accuracy_curve, worst_case
from gjax.attacks.fast_boundary import fab, fab_targeted
from gjax.attacks.gradient import fgsm, margin_pgd, momentum_iterative, pgd, random_noise
from gjax.attacks.likelihood import expected_nll, lower_nll, raise_nll
from gjax.attacks.square_search import square
from gjax.checks import NORMS

__all__ = [
    'NORMS',
    'AutoAttackResult',
    'accuracy_curve',
    'apgd_ce',
    'apgd_dlr',
    'apgd_targeted',
    'autoattack',
    'carlini_wagner_l2',
    'dlr',
    'expected_nll',
    'fab',
    'fab_targeted',
    'fgsm',
    'lower_nll',
    'margin_pgd',
    'momentum_iterative',
    'pgd',
    'project',
    'raise_nll',
    'random_noise',
    'square',
    'targeted_dlr',
    'worst_case',
]
