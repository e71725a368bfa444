"""Pure attacks on classifiers (`logits_fn`) and on likelihoods (`nll_fn`): images within their bounds and radii in,
adversarial images out. `autoattack` runs several of them, one after the other, on the images still standing; `diagnose` and
`audit` tell whether what they found can be trusted.
"""

from gjax.attacks.apgd import apgd_ce, apgd_dlr, apgd_targeted, dlr, targeted_dlr
from gjax.attacks.audit import audit, check_adversarial
from gjax.attacks.balls import project
from gjax.attacks.carlini_wagner import carlini_wagner_l2
from gjax.attacks.defended import bpda, expectation, unrolled
from gjax.attacks.diagnosis import diagnose
from gjax.attacks.ensemble import AutoAttackResult, autoattack
from gjax.attacks.evaluation import Outcomes, accuracy_curve, outcomes, worst_case
from gjax.attacks.fast_boundary import fab, fab_targeted
from gjax.attacks.gradient import fgsm, margin_pgd, momentum_iterative, pgd, rand_fgsm, random_noise
from gjax.attacks.latent import latent_pgd, latent_search
from gjax.attacks.likelihood import expected_nll, lower_nll, raise_nll
from gjax.attacks.multi_targeted import multi_targeted
from gjax.attacks.square_search import square
from gjax.attacks.substitute import jacobian_augmentation, train_substitute
from gjax.checks import NORMS

__all__ = [
    'NORMS',
    'AutoAttackResult',
    'Outcomes',
    'accuracy_curve',
    'apgd_ce',
    'apgd_dlr',
    'apgd_targeted',
    'audit',
    'autoattack',
    'bpda',
    'carlini_wagner_l2',
    'check_adversarial',
    'diagnose',
    'dlr',
    'expectation',
    'expected_nll',
    'fab',
    'fab_targeted',
    'fgsm',
    'jacobian_augmentation',
    'latent_pgd',
    'latent_search',
    'lower_nll',
    'margin_pgd',
    'momentum_iterative',
    'multi_targeted',
    'outcomes',
    'pgd',
    'project',
    'raise_nll',
    'rand_fgsm',
    'random_noise',
    'square',
    'targeted_dlr',
    'train_substitute',
    'unrolled',
    'worst_case',
]
