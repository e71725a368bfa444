"""Autoencoders: plain, variational (Kingma & Welling 2013, arXiv:1312.6114) and beta-VAE (Higgins et al. 2017)."""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from gjax.checks import one_of, positive
from gjax.losses import bernoulli_nll, gaussian_kl, sample_gaussian, squared_error
from gjax.methods.core.generative import Generative
from gjax.methods.core.state import update_player

RECONSTRUCTIONS = ('bernoulli', 'squared_error')


@dataclasses.dataclass(frozen=True)
class Autoencoder(Generative):
    """min E[reconstruction loss + beta KL(q(z|x) || N(0, I))], summed over pixels, averaged over the batch."""

    DECODER: ClassVar[str] = 'decoder'

    # Codes are drawn from q(z|x) = N(mean, exp(log_variance)); False: the code is the encoder's output, and beta is idle.
    variational: bool = True
    beta: float = 1.0
    reconstruction: str = 'bernoulli'  # or 'squared_error'

    def __post_init__(self):
        super().__post_init__()
        positive('method.beta', self.beta)
        one_of('method.reconstruction', self.reconstruction, RECONSTRUCTIONS)

    def able(self):
        able = {'encode': self.encode, 'reconstruct': self.reconstruct}
        return able | super().able() if self.variational else able

    def modules(self):
        outputs = 2 * self.net.latent if self.variational else self.net.latent
        return {'encoder': self.net.encoder(outputs), 'decoder': self.net.decoder()}

    def split(self, outputs):
        """(mean, log_variance) [B, latent] of the encoder's outputs; log_variance is None where codes are not drawn."""
        if not self.variational:
            return outputs, None
        mean, log_variance = jnp.split(outputs, 2, axis=-1)
        return mean, jnp.clip(log_variance, -20.0, 10.0)  # beyond, the exponential overflows in a bad first step

    def losses(self, logits, images, mean, log_variance):
        """(loss [B], KL [B]) in nats."""
        if self.reconstruction == 'bernoulli':
            reconstruction = bernoulli_nll(logits, images)
        else:
            reconstruction = squared_error(jax.nn.sigmoid(logits), images)
        kl = gaussian_kl(mean, log_variance) if self.variational else jnp.zeros_like(reconstruction)
        return reconstruction + self.beta * kl, kl

    def total_loss(self, state, params, *, images, rng):
        """The mean loss of both players' `params`, and (their batch statistics, the mean KL)."""
        params = {player: self.masked(state, player, params[player]) for player in params}
        stats = state.batch_stats
        outputs, encoder_stats = self.apply('encoder', params['encoder'], stats['encoder'], images, train=True)
        mean, log_variance = self.split(outputs)
        codes = sample_gaussian(mean, log_variance, rng=rng) if self.variational else mean
        logits, decoder_stats = self.apply('decoder', params['decoder'], stats['decoder'], codes, train=True)
        loss, kl = self.losses(logits, images, mean, log_variance)
        return jnp.mean(loss), ({'encoder': encoder_stats, 'decoder': decoder_stats}, jnp.mean(kl))

    def step(self, state, batch):
        total = partial(self.total_loss, state, images=batch['image'], rng=state.step_rng())
        (loss, (stats, kl)), gradients = jax.value_and_grad(total, has_aux=True)(state.params)
        metrics = {'loss/encoder': loss, 'loss/decoder': loss, 'kl': kl}  # one loss, which both share
        for player in gradients:
            state, norms = update_player(state, player, gradients[player], self.optimizer, stats[player])
            metrics |= norms
        return self.after_step(state), metrics

    def sensitivity_losses(self, state, batch, *, rng):
        def loss(params):
            return self.total_loss(state, params, images=batch['image'], rng=rng)[0]

        return [(('encoder', 'decoder'), loss)]

    def encode(self, state, images):
        """Codes [B, latent]: the means of q(z|x)."""
        params = self.masked(state, 'encoder')
        return self.split(self.apply('encoder', params, state.batch_stats['encoder'], images, train=False)[0])[0]

    def reconstruct(self, state, images):
        """Images [B, H, W, C] in [0, 1]."""
        return jax.nn.sigmoid(self.decode(state, self.encode(state, images)))

    def evaluate(self, state, batch, *, rng):
        """The loss with drawn codes and the KL, in nats, and the mean squared error of the reconstruction; each [B]."""
        images = batch['image']
        params = self.masked(state, 'encoder')
        outputs, _ = self.apply('encoder', params, state.batch_stats['encoder'], images, train=False)
        mean, log_variance = self.split(outputs)
        codes = sample_gaussian(mean, log_variance, rng=rng) if self.variational else mean
        loss, kl = self.losses(self.decode(state, codes), images, mean, log_variance)
        error = squared_error(jax.nn.sigmoid(self.decode(state, mean)), images) / images[0].size
        return {'loss': loss, 'kl': kl, 'reconstruction_mse': error}


METHOD = Autoencoder
