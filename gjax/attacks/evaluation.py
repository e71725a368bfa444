"""Robust evaluation: the worst case per example over attacks and restarts, and accuracy against eps."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from gjax.losses import correct


def worst_case(logits_fn: Callable, images, labels, attacks: Sequence[Callable], *, rng):
    """True where the model is right on the clean image and on every attack's image.

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K].
      images: [B, H, W, C] in [0, 1].
      labels: int [B].
      attacks: functions (logits_fn, images, labels, rng) -> adversarial images.
      rng: a key; attack i sees fold_in(rng, i).

    Returns:
      bool [B].
    """
    survived = correct(logits_fn(images), labels)
    for i, attack in enumerate(attacks):
        adversarial = attack(logits_fn, images, labels, jax.random.fold_in(rng, i))
        survived &= correct(logits_fn(adversarial), labels)
    return survived


def accuracy_curve(logits_fn: Callable, images, labels, eps_values, attack: Callable, *, rng):
    """Worst-case correctness at rising radii; an example that falls at one radius counts as fallen at every larger one.

    Args:
      eps_values: [E], ascending, in units of the images; 0 gives clean correctness.
      attack: (logits_fn, images, labels, eps, rng) -> adversarial images.
      The rest as in `worst_case`.

    Returns:
      bool [B, E], not increasing along E.
    """

    def body(survived, inputs):
        eps, eps_rng = inputs
        survived &= correct(logits_fn(attack(logits_fn, images, labels, eps, eps_rng)), labels)
        return survived, survived

    eps_values = jnp.asarray(eps_values, images.dtype)
    clean = correct(logits_fn(images), labels)
    _, curve = lax.scan(body, clean, (eps_values, jax.random.split(rng, eps_values.shape[0])))
    return curve.T
