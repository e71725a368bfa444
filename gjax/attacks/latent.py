"""Attacks in the latent space of a generator: whatever they find is an image that the generator can make, so that a defence
by projection onto the generator's range does not remove it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from gjax.attacks.balls import as_images, l2_norm, per_example
from gjax.attacks.gradient import pgd
from gjax.checks import check_eps, check_integers, check_shape, positive
from gjax.losses import margin


def latent_pgd(
    logits_fn: Callable,
    generate: Callable,
    latents,
    labels,
    radius,
    *,
    rng,
    steps: int,
    step_size,
    norm: str = 'l2',
    **options,
):
    """`pgd` on f(G(z')) over the ball |z' - z| <= radius, in units of the latents.

    Args:
      logits_fn: images [B, ...] -> logits [B, K].
      generate: latents [B, Z] -> images [B, ...].
      latents: [B, Z], float32 or, under jax_enable_x64, float64.
      labels: int [B], the true labels of G(z).
      radius: float or [B].
      The rest, and options (objective, targeted, random_start, restarts, step_schedule), as in `pgd`; step_size is a length
        in latent space.

    Returns:
      (images [B, ...], latents [B, Z]), where the images are those of the latents.

    Raises:
      ValueError: as `pgd`.
    """
    widest = float(np.finfo(np.dtype(latents.dtype)).max)  # latents have no bounds but those of their numbers
    found = pgd(
        lambda latents: logits_fn(generate(latents)),
        latents,
        labels,
        radius,
        rng=rng,
        steps=steps,
        step_size=step_size,
        norm=norm,
        bounds=(-widest, widest),
        **options,
    )
    return generate(found), found


def latent_search(
    logits_fn: Callable,
    generate: Callable,
    latents,
    images,
    labels,
    eps,
    *,
    steps: int = 500,
    learning_rate: float = 0.05,
    multiplier_rate: float = 1.0,
):
    """The image G(z') within eps of a given one that the model gets most wrong.

    The search of the overpowered attack (Jalal et al. 2017, "The Robust Manifold Defense", arXiv:1712.09196, section 3.1),
    for one latent:
      min over z' of max over c >= 0 of  z_y - max_{k != y} z_k  +  c (|G(z') - x|_2 / eps - 1),
    by Adam on z' and by gradient ascent on the multiplier c of each image. Of all points on the way the best one that keeps
    the distance is returned.

    Args:
      logits_fn: images [B, ...] -> logits [B, K].
      generate: latents [B, Z] -> images [B, ...].
      latents: [B, Z], where the search starts, such as what the defence finds for x.
      images: x, [B, ...], of float32 or, under jax_enable_x64, float64.
      labels: int [B], the true labels.
      eps: how far G(z') may be from x in l2, float or [B], > 0 to find anything.
      steps: of Adam, >= 0.
      learning_rate: of Adam, in units of the latents, > 0.
      multiplier_rate: of the ascent on c, > 0.

    Returns:
      (images [B, ...], latents [B, Z], found bool [B]): where a point within eps was seen, the one that the model gets
      most wrong, and else G(latents) and the latents themselves.

    Raises:
      ValueError: options out of their range, shapes that do not fit.
    """
    positive('steps', steps)
    for name, value in (('learning_rate', learning_rate), ('multiplier_rate', multiplier_rate)):
        positive(name, value, zero=False)
    images = as_images(images, (-float(np.finfo(np.float32).max), float(np.finfo(np.float32).max)))
    check_shape('latents', latents, (len(images), ...), f'({len(images)}, Z)')
    check_shape('labels', labels, (len(images),), f'({len(images)},), one an image')
    check_integers(labels=labels)
    check_eps('eps', eps, 'l2')
    latents, labels = jnp.asarray(latents), jnp.asarray(labels)
    radius = jnp.maximum(per_example('eps', eps, images).reshape(-1), 1e-12)
    optimizer = optax.adam(learning_rate)

    def distance(decoded):
        delta = decoded - images
        return l2_norm(jnp.where(delta == 0, 1e-20, delta)).reshape(-1)  # whose gradient at zero is not NaN

    def total(latents, multipliers):
        decoded = generate(latents)
        check_shape('generate(latents)', decoded, images.shape, f'{images.shape}, that of images')
        excess = distance(decoded) / radius - 1
        right = margin(logits_fn(decoded), labels)
        return jnp.sum(right + multipliers * excess), (excess, right)

    def keep_better(best, latents, excess, right):
        better = (excess <= 0) & (right < best[1])
        return jnp.where(better.reshape((-1,) + (1,) * (latents.ndim - 1)), latents, best[0]), jnp.where(
            better, right, best[1]
        )

    def body(_, state):
        latents, moments, multipliers, best = state
        gradient, (excess, right) = jax.grad(total, has_aux=True)(latents, multipliers)
        best = keep_better(best, latents, excess, right)
        with jax.numpy_dtype_promotion('standard'):  # optax's Adam raises a float to an int power
            updates, moments = optimizer.update(gradient, moments)
        multipliers = jnp.maximum(multipliers + multiplier_rate * excess, 0)
        return optax.apply_updates(latents, updates), moments, multipliers, best

    none = (latents, jnp.full(len(images), jnp.inf, images.dtype))
    start = (latents, optimizer.init(latents), jnp.ones_like(radius), none)
    last, _, multipliers, best = lax.fori_loop(0, steps, body, start)
    kept, value = keep_better(best, last, *total(last, multipliers)[1])
    return generate(kept), kept, jnp.isfinite(value)
