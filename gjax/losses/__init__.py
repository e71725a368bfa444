"""Pure losses: per-example values `[B]`; reduction and weights are the caller's."""

from gjax.losses.classification import correct, cross_entropy, kl_divergence, margin
from gjax.losses.domain import (
    adversarial_ramp,
    binary_cross_entropy,
    classifier_discrepancy,
    coral,
    multi_kernel_mmd,
    reverse_gradient,
)
from gjax.losses.flow import bits_per_dim, dequantise, nats, standard_normal_nll
from gjax.losses.gan import GAN_LOSSES, GANLoss, clip_weights, gradient_penalty
from gjax.losses.mixup import mixup
from gjax.losses.vae import bernoulli_nll, gaussian_kl, negative_elbo, sample_gaussian, squared_error, sum_per_example

__all__ = [
    'GAN_LOSSES',
    'GANLoss',
    'adversarial_ramp',
    'bernoulli_nll',
    'binary_cross_entropy',
    'bits_per_dim',
    'classifier_discrepancy',
    'clip_weights',
    'coral',
    'correct',
    'cross_entropy',
    'dequantise',
    'gaussian_kl',
    'gradient_penalty',
    'kl_divergence',
    'margin',
    'mixup',
    'multi_kernel_mmd',
    'nats',
    'negative_elbo',
    'reverse_gradient',
    'sample_gaussian',
    'squared_error',
    'standard_normal_nll',
    'sum_per_example',
]
