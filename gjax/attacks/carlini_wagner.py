"""The Carlini-Wagner l2 attack (arXiv:1608.04644, section VI-A): the smallest perturbation that changes the class."""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from gjax.attacks.balls import as_images, rounded, widened
from gjax.checks import check_shape, positive
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
    bounds: tuple[float, float] = (0.0, 1.0),
):
    """min_w |x(w) - x|_2^2 + c max(f(x(w)) + kappa, 0) with x(w) = low + (high - low) (tanh w + 1) / 2 and f the margin, by
    Adam.

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K]; a network with mean and deviation normalises inside it, as in
        `gjax.attacks.gradient`.
      images: [B, H, W, C] (or [B, ...]) within the bounds: float32, float16, bfloat16 or, under jax_enable_x64, float64.
        Half-precision images are searched around in float32; logits_fn and the result have their dtype.
      labels: int [B]: true labels, or the wanted ones if `targeted`.
      constant: c, where the search starts, > 0.
      confidence: kappa, in logits, >= 0.
      steps: Adam steps for each value of c, >= 0.
      learning_rate: of Adam, in tanh space, > 0.
      search_steps: values of c tried per example, >= 1: a failure multiplies c by 10 until the first success, then
        bisection.
      targeted: move towards `labels`.
      bounds: (low, high), the range of the images.

    Returns:
      Images of the same shape and dtype within the bounds: the nearest adversarial image found, or the image itself where
      none was.

    Raises:
      ValueError: an option out of its range, shapes or dtypes that do not fit, an empty batch; where they are concrete,
        images outside the bounds or labels that are no class.
    """
    for name, value in (('constant', constant), ('learning_rate', learning_rate), ('search_steps', search_steps)):
        positive(name, value, zero=False)
    positive('confidence', confidence)
    positive('steps', steps)
    originals = as_images(images, bounds)
    check_shape('labels', labels, originals.shape[:1])
    logits_fn, images = widened(logits_fn, originals)
    half = images.dtype != originals.dtype
    low, width = bounds[0], bounds[1] - bounds[0]
    sign = -1.0 if targeted else 1.0
    signed = jnp.clip(2.0 * ((images - low) / width) - 1.0, -1.0, 1.0)  # images may lie outside by rounding
    start = jnp.arctanh(signed * (1.0 - 1e-6))
    optimizer = optax.adam(learning_rate)
    batch = images.shape[0]

    def candidate(weights):
        return low + width * ((jnp.tanh(weights) + 1.0) / 2.0)

    def squared_distance(adversarial):
        return jnp.sum((adversarial - images) ** 2, axis=tuple(range(1, images.ndim)))

    def total(weights, constants):
        adversarial = candidate(weights)
        if half:  # what the result will be rounded to, so that what fools the network here does so there
            adversarial = rounded(adversarial, originals.dtype)
        logits = logits_fn(adversarial)
        distance = squared_distance(adversarial)
        penalty = jnp.maximum(sign * margin(logits, labels) + confidence, 0.0)
        objective = distance + constants * penalty
        if half:  # the direction stays, and so do Adam's steps; gradients inside the network do not overflow
            objective = objective / jnp.maximum(constants, 1.0)
        return jnp.sum(objective), (adversarial, logits, distance)

    def keep_better(best, adversarial, logits, distance):
        best_images, best_distance, found = best
        hit = correct(logits, labels) == targeted
        if confidence > 0:
            hit &= sign * margin(logits, labels) <= -confidence
        better = hit & (distance < best_distance)
        best_images = jnp.where(better.reshape((-1,) + (1,) * (images.ndim - 1)), adversarial, best_images)
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
    return lax.scan(search, initial, None, length=search_steps)[0][0].astype(originals.dtype)
