"""Losses of generative adversarial networks, per example [B], from discriminator logits [B] (float32, unbounded).

Every discriminator loss is to be minimised by the discriminator, every generator loss by the generator.
Each raises ValueError for logits of another shape, such as [B, 1], or dtype, also under `jax.jit`: nothing is broadcast.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gjax.checks import check_floats, check_key, check_shape, check_shapes, positive


class GANLoss(NamedTuple):
    """discriminator: (real logits [B], fake logits [B]) -> [B]. generator: fake logits [B] -> [B]."""

    discriminator: Callable
    generator: Callable


def _check(**logits) -> None:
    check_shapes((None,), '[B]', **logits)
    check_floats(**logits)


def logistic_discriminator(real_logits, fake_logits):
    """-log D(x) - log(1 - D(G(z))), D the logits' sigmoid (Goodfellow et al. 2014, Eq. 1); 2 log 2 for an undecided D."""
    _check(real_logits=real_logits, fake_logits=fake_logits)
    return jax.nn.softplus(-real_logits) + jax.nn.softplus(fake_logits)


def non_saturating_generator(fake_logits):
    """-log D(G(z)) (Goodfellow et al. 2014, section 3)."""
    _check(fake_logits=fake_logits)
    return jax.nn.softplus(-fake_logits)


def saturating_generator(fake_logits):
    """log(1 - D(G(z))), the minimax game's own (Goodfellow et al. 2014, Eq. 1)."""
    _check(fake_logits=fake_logits)
    return -jax.nn.softplus(fake_logits)


def hinge_discriminator(real_logits, fake_logits):
    """max(0, 1 - f(x)) + max(0, 1 + f(G(z))) (Miyato et al. 2018, Eq. 16)."""
    _check(real_logits=real_logits, fake_logits=fake_logits)
    return jax.nn.relu(1 - real_logits) + jax.nn.relu(1 + fake_logits)


def wasserstein_discriminator(real_logits, fake_logits):
    """f(G(z)) - f(x): minus the dual's estimate of the distance (Arjovsky et al. 2017, Eq. 2)."""
    _check(real_logits=real_logits, fake_logits=fake_logits)
    return fake_logits - real_logits


def wasserstein_generator(fake_logits):
    """-f(G(z)); hinge discriminators have the same generator."""
    _check(fake_logits=fake_logits)
    return -fake_logits


GAN_LOSSES = {
    'non_saturating': GANLoss(logistic_discriminator, non_saturating_generator),
    'saturating': GANLoss(logistic_discriminator, saturating_generator),
    'hinge': GANLoss(hinge_discriminator, wasserstein_generator),
    'wasserstein': GANLoss(wasserstein_discriminator, wasserstein_generator),
}


def gradient_penalty(critic, real, fake, *, rng, target: float = 1.0):
    """(|grad_x critic(x)|_2 - target)^2 at x = u real + (1 - u) fake, u uniform in [0, 1] (Gulrajani et al. 2017, Eq. 3).

    Args:
      critic: images [B, H, W, C] -> logits [B]; each logit may depend on its own image only (no batch normalisation).
      real, fake: images [B, H, W, C] (or [B, ...]), of one shape and float dtype.
      rng: key of the mixing weights, one an example.
      target: the gradient's wanted norm.

    Returns:
      [B], >= 0.
    """
    check_key('rng', rng)
    check_shapes((None, None, ...), '[B, ...], such as [B, H, W, C]', real=real, fake=fake)
    check_floats(real=real, fake=fake)

    def total(images):
        logits = critic(images)
        check_shape('critic(images)', logits, real.shape[:1], f'{tuple(real.shape[:1])}, one logit an image')
        return jnp.sum(logits)

    mixing = jax.random.uniform(rng, (real.shape[0],) + (1,) * (real.ndim - 1), real.dtype)
    points = mixing * real + (1 - mixing) * fake
    gradients = jax.grad(total)(points)
    squares = jnp.sum(gradients.reshape(gradients.shape[0], -1) ** 2, axis=-1)
    # The root's own gradient is infinite at 0, where a critic starts that does not depend on its input.
    norm = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return (norm - target) ** 2


def clip_weights(params, limit: float):
    """Every entry of a tree clipped to [-limit, limit]: WGAN's Lipschitz constraint (Arjovsky et al. 2017, Algorithm 1)."""
    positive('limit', limit)
    return jax.tree.map(lambda p: jnp.clip(p, -limit, limit), params)
