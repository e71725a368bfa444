"""Pure attacks on classifiers (`logits_fn`) and on likelihoods (`nll_fn`): images within their bounds and radii in,
adversarial images out. And what tells whether they can be trusted: `diagnose`, `audit`.
"""

from gjax.attacks.audit import audit, check_adversarial
from gjax.attacks.balls import project
from gjax.attacks.carlini_wagner import carlini_wagner_l2
from gjax.attacks.defended import bpda, expectation, unrolled
from gjax.attacks.diagnosis import diagnose
from gjax.attacks.evaluation import Outcomes, accuracy_curve, outcomes, worst_case
from gjax.attacks.gradient import fgsm, margin_pgd, momentum_iterative, pgd, rand_fgsm, random_noise
from gjax.attacks.latent import latent_pgd, latent_search
from gjax.attacks.likelihood import expected_nll, lower_nll, raise_nll
from gjax.attacks.multi_targeted import multi_targeted
from gjax.attacks.substitute import jacobian_augmentation, train_substitute
from gjax.checks import NORMS

__all__ = [
    'NORMS',
    'Outcomes',
    'accuracy_curve',
    'audit',
    'bpda',
    'carlini_wagner_l2',
    'check_adversarial',
    'diagnose',
    'expectation',
    'expected_nll',
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
    'train_substitute',
    'unrolled',
    'worst_case',
]
