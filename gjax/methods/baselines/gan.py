"""Generative adversarial networks: DCGAN, SNGAN, WGAN and WGAN-GP by their losses and constraints."""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from gjax.checks import one_of, positive
from gjax.losses import GAN_LOSSES, clip_weights, gradient_penalty
from gjax.methods.core.generative import Generative
from gjax.methods.core.state import update_player


@dataclasses.dataclass(frozen=True)
class GAN(Generative):
    """One step: the discriminator on the batch and as many fakes; then, every `critic_steps` steps, the generator on others.

    Spectral normalisation is the network's (net.trunk_norm). Both players have the config's optimizer; its schedule counts a
    player's own updates.
    """

    DECODER: ClassVar[str] = 'generator'

    loss: str = 'non_saturating'  # DCGAN's; 'hinge' (SNGAN), 'wasserstein' (WGAN) or 'saturating'
    critic_steps: int = 1  # updates of the discriminator for each of the generator
    penalty: float = 0.0  # weight of the gradient penalty (WGAN-GP: 10)
    clip: float = 0.0  # WGAN's limit of every weight (0.01); 0 for none

    def __post_init__(self):
        super().__post_init__()
        one_of('method.loss', self.loss, GAN_LOSSES)
        positive('method.critic_steps', self.critic_steps, zero=False)
        positive('method.penalty', self.penalty)
        positive('method.clip', self.clip)

    def fits(self):
        if self.penalty and self.net.trunk_norm == 'batch':
            raise ValueError(
                "net.trunk_norm is 'batch'; allowed with method.penalty: spectral, none (logits of one image each)"
            )

    def modules(self):
        return {'generator': self.net.decoder(), 'discriminator': self.net.discriminator()}

    def fakes(self, state, params, count, rng):
        """Images [count, H, W, C] in [0, 1] in training mode, and the generator's batch statistics after the pass."""
        codes = jax.random.normal(rng, (count, self.net.latent))
        logits, stats = self.apply('generator', params, state.batch_stats['generator'], codes, train=True)
        return jax.nn.sigmoid(logits), stats

    def discriminator_loss(self, state, params, *, real, fake, rng):
        """The mean loss of the discriminator's `params`, and (batch statistics, share of right decisions)."""
        params, stats = self.masked(state, 'discriminator', params), state.batch_stats['discriminator']
        real_logits, stats = self.apply('discriminator', params, stats, real, train=True)
        fake_logits, stats = self.apply('discriminator', params, stats, fake, train=True)
        loss = GAN_LOSSES[self.loss].discriminator(real_logits[:, 0], fake_logits[:, 0])
        if self.penalty:

            def critic(images):
                return self.apply('discriminator', params, stats, images, train=False)[0][:, 0]

            loss += self.penalty * gradient_penalty(critic, real, fake, rng=rng)
        right = (jnp.mean(real_logits > 0) + jnp.mean(fake_logits < 0)) / 2
        return jnp.mean(loss), (stats, right)

    def generator_loss(self, state, params, *, count, rng):
        """The mean loss of the generator's `params` on `count` fakes, and its batch statistics."""
        fake, stats = self.fakes(state, self.masked(state, 'generator', params), count, rng)
        own = self.masked(state, 'discriminator')
        logits, _ = self.apply('discriminator', own, state.batch_stats['discriminator'], fake, train=True)
        return jnp.mean(GAN_LOSSES[self.loss].generator(logits[:, 0])), stats

    def discriminator_step(self, state, real, rng):
        fake_rng, penalty_rng = jax.random.split(rng)
        fake, _ = self.fakes(state, self.masked(state, 'generator'), real.shape[0], fake_rng)
        fake = lax.stop_gradient(fake)

        total = partial(self.discriminator_loss, state, real=real, fake=fake, rng=penalty_rng)
        (loss, (stats, right)), gradients = jax.value_and_grad(total, has_aux=True)(state.params['discriminator'])
        state, norms = update_player(state, 'discriminator', gradients, self.optimizer, stats)
        if self.clip:
            clipped = clip_weights(state.params['discriminator'], self.clip)
            state = state.replace(params={**state.params, 'discriminator': clipped})
        return state, {'loss/discriminator': loss, 'discriminator_accuracy': right, **norms}

    def generator_step(self, state, count, rng):
        total = partial(self.generator_loss, state, count=count, rng=rng)
        (loss, stats), gradients = jax.value_and_grad(total, has_aux=True)(state.params['generator'])
        state, norms = update_player(state, 'generator', gradients, self.optimizer, stats)
        return state, {'loss/generator': loss, **norms}

    def step(self, state, batch):
        discriminator_rng, generator_rng = jax.random.split(state.step_rng())
        count = batch['image'].shape[0]
        state, metrics = self.discriminator_step(state, batch['image'], discriminator_rng)
        if self.critic_steps == 1:
            state, more = self.generator_step(state, count, generator_rng)
        else:
            turn = (state.step + 1) % self.critic_steps == 0

            def update(state):
                return self.generator_step(state, count, generator_rng)

            nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(update, state)[1])
            state, more = lax.cond(turn, update, lambda state: (state, nothing), state)
        return self.after_step(state), metrics | more

    def updates(self, player, step):
        return step if player == 'discriminator' else step // self.critic_steps

    def sensitivity_losses(self, state, batch, *, rng):
        fake_rng, penalty_rng, generator_rng = jax.random.split(rng, 3)
        real = batch['image']
        fake, _ = self.fakes(state, self.masked(state, 'generator'), real.shape[0], fake_rng)
        losses = {
            'discriminator': partial(self.discriminator_loss, state, real=real, fake=fake, rng=penalty_rng),
            'generator': partial(self.generator_loss, state, count=real.shape[0], rng=generator_rng),
        }
        return [((player,), lambda params, p=player, f=loss: f(params[p])[0]) for player, loss in losses.items()]

    def evaluate(self, state, batch, *, rng):
        """The discriminator's losses on test images and fakes [B], with running statistics."""
        images = batch['image']
        fake = self.generate(state, images.shape[0], rng=rng)
        own, stats = self.masked(state, 'discriminator'), state.batch_stats['discriminator']
        real_logits, fake_logits = (self.apply('discriminator', own, stats, x, train=False)[0][:, 0] for x in (images, fake))
        loss = GAN_LOSSES[self.loss]
        return {
            'discriminator_loss': loss.discriminator(real_logits, fake_logits),
            'generator_loss': loss.generator(fake_logits),
            'real_logits': real_logits,
            'fake_logits': fake_logits,
        }


METHOD = GAN
