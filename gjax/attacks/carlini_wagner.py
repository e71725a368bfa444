"""The Carlini-Wagner l2 attack (arXiv:1608.04644, section VI-A): the smallest perturbation that changes the class."""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from gjax.losses import correct, margin


def carlini_wagner_l2(
    logits_fn,
    images,
    labels,
    *,
    constant: float = 1.0,
    confidence: float = 0.0,
    steps: int = 50,
    learning_rate: float = 0.01,
    search_steps: int = 1,
    targeted: bool = False,
):
    """min_w |x(w) - x|_2^2 + c max(f(x(w)) + kappa, 0) with x(w) = (tanh w + 1) / 2 and f the margin, by Adam.

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K].
      images: [B, H, W, C] in [0, 1].
      labels: int [B]: true labels, or the wanted ones if `targeted`.
      constant: c, where the search starts.
      confidence: kappa, in logits.
      steps: Adam steps for each value of c.
      learning_rate: of Adam, in tanh space.
      search_steps: values of c tried per example: a failure multiplies c by 10 until the first success, then bisection.
      targeted: move towards `labels`.

    Returns:
      [B, H, W, C] in [0, 1]: the nearest adversarial image found, or the image itself where none was.
    """
    sign = -1.0 if targeted else 1.0
    start = jnp.arctanh((2.0 * images - 1.0) * (1.0 - 1e-6))
    optimizer = optax.adam(learning_rate)
    batch = images.shape[0]

    def candidate(weights):
        return (jnp.tanh(weights) + 1.0) / 2.0

    def squared_distance(adversarial):
        return jnp.sum((adversarial - images) ** 2, axis=(1, 2, 3))

    def total(weights, constants):
        adversarial = candidate(weights)
        logits = logits_fn(adversarial)
        distance = squared_distance(adversarial)
        penalty = jnp.maximum(sign * margin(logits, labels) + confidence, 0.0)
        return jnp.sum(distance + constants * penalty), (adversarial, logits, distance)

    def keep_better(best, adversarial, logits, distance):
        best_images, best_distance, found = best
        hit = correct(logits, labels) == targeted
        if confidence > 0:
            hit &= sign * margin(logits, labels) <= -confidence
        better = hit & (distance < best_distance)
        best_images = jnp.where(better[:, None, None, None], adversarial, best_images)
        return best_images, jnp.where(better, distance, best_distance), found | hit

    def search(state, _):
        best_images, best_distance, constants, low, high = state

        def body(_, inner):
            weights, opt_state, best = inner
            gradient, aux = jax.grad(total, has_aux=True)(weights, constants)
            best = keep_better(best, *aux)
            with jax.numpy_dtype_promotion('standard'):  # optax's Adam raises a float to an int power
                updates, opt_state = optimizer.update(gradient, opt_state)
            return optax.apply_updates(weights, updates), opt_state, best

        best = (best_images, best_distance, jnp.zeros(batch, bool))
        weights, _, best = lax.fori_loop(0, steps, body, (start, optimizer.init(start), best))
        best_images, best_distance, found = keep_better(best, *total(weights, constants)[1])
        high = jnp.where(found, jnp.minimum(high, constants), high)
        low = jnp.where(found, low, jnp.maximum(low, constants))
        constants = jnp.where(jnp.isinf(high), constants * 10.0, (low + high) / 2.0)
        return (best_images, best_distance, constants, low, high), None

    full = jnp.full(batch, constant, images.dtype)
    initial = (images, jnp.full_like(full, jnp.inf), full, jnp.zeros_like(full), jnp.full_like(full, jnp.inf))
    return lax.scan(search, initial, None, length=search_steps)[0][0]
