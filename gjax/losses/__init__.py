"""Pure losses: per-example values `[B]`; reduction and weights are the caller's."""

from gjax.losses.classification import correct, cross_entropy, kl_divergence, margin
from gjax.losses.gan import GAN_LOSSES, GANLoss, clip_weights, gradient_penalty
from gjax.losses.mixup import mixup
from gjax.losses.vae import bernoulli_nll, gaussian_kl, negative_elbo, sample_gaussian, squared_error

__all__ = [
    'GAN_LOSSES',
    'GANLoss',
    'bernoulli_nll',
    'clip_weights',
    'correct',
    'cross_entropy',
    'gaussian_kl',
    'gradient_penalty',
    'kl_divergence',
    'margin',
    'mixup',
    'negative_elbo',
    'sample_gaussian',
    'squared_error',
]
