"""White-box gradient attacks on classifiers. Images are [B, H, W, C] (or [B, ...]) within `bounds`, by default (0, 1); eps
is in the same units.

Every attack takes `logits_fn: images -> logits [B, K]`, is pure, and runs under `jax.jit` with its loop inside. Images may
be float32, float16, bfloat16 or, under jax_enable_x64, float64: logits_fn and the result have the images' dtype, the
attack's own arithmetic is float32 for the half-precision ones.

A network that wants images normalised by mean and deviation normalises them inside, so that bounds and eps keep their units:

  def logits_fn(images):  # in [0, 1]
      return network((images - mean) / std)

  adversarial = pgd(logits_fn, images, labels, 8 / 255, rng=rng, steps=10, step_size=2 / 255)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gjax.attacks.balls import as_images, finished, nearest, per_example, steepest, uniform, widened
from gjax.checks import check_eps, check_key, check_norm, check_shape, concrete, positive
from gjax.losses import correct, cross_entropy, margin

STEP_SCHEDULES = {
    'constant': np.ones_like,
    'linear': lambda done: 1 - done,
    'cosine': lambda done: 0.5 + 0.5 * np.cos(np.pi * done),
}


def step_scales(schedule: str, steps: int) -> np.ndarray:
    """What the step size of each step is multiplied with, float32 [steps] (of none: [1]); ValueError for other schedules."""
    if schedule not in STEP_SCHEDULES:
        raise ValueError(f'step_schedule is {schedule!r}; allowed: {", ".join(STEP_SCHEDULES)}')
    steps = max(steps, 1)
    return STEP_SCHEDULES[schedule](np.arange(steps) / steps).astype(np.float32)


def checked(objective: Callable, count: int) -> Callable:
    """The objective, which raises ValueError unless it gives one value for each of `count` examples: a sum over values that
    were broadcast would mix the examples' gradients.
    """

    def per_image(logits, targets):
        values = objective(logits, targets)
        check_shape('objective(logits, targets)', values, (count,), f'({count},), one value an image')
        return values

    return per_image


def _restarted(run, logits_fn, objective, images, targets, sign, restarts, rng):
    """The best of `restarts` calls run(rng) per example: one that fools the model if any, else the highest objective."""

    def score(adversarial):
        logits = logits_fn(adversarial)
        value = sign * objective(logits, targets)
        if logits.ndim == 2 and jnp.ndim(targets) == 1:
            hit = correct(logits, targets) == (sign < 0)
            return hit, value
        return jnp.zeros(value.shape, bool), value

    def body(best, restart_rng):
        best_images, best_hit, best_value = best
        new = run(restart_rng)
        hit, value = score(new)
        better = (hit & ~best_hit) | ((hit == best_hit) & (value > best_value))
        new = jnp.where(better.reshape((-1,) + (1,) * (images.ndim - 1)), new, best_images)
        return (new, best_hit | hit, jnp.where(better, value, best_value)), None

    hit, value = score(images)
    start = (images, jnp.zeros_like(hit), jnp.full_like(value, -jnp.inf))
    return lax.scan(body, start, jax.random.split(rng, restarts))[0][0]


def pgd(
    logits_fn: Callable,
    images,
    targets,
    eps,
    *,
    rng,
    steps: int,
    step_size,
    norm: str = 'linf',
    objective: Callable = cross_entropy,
    targeted: bool = False,
    random_start: bool = True,
    clip_start: bool = True,
    restarts: int = 1,
    carry: Any = None,
    step_schedule: str = 'constant',
    bounds: tuple[float, float] = (0.0, 1.0),
):
    """Projected gradient ascent: x' <- Proj_{B(x, eps)}(x' + alpha * steepest(grad_x objective(f(x'), t))).

    Source: Madry et al. 2018 (arXiv:1706.06083), Eq. 2.3, with the start clipped to the bounds (clip_start).

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K]; with `carry`, (images, carry) -> (logits, carry).
      images: [B, H, W, C] (or [B, ...]) within the bounds.
      targets: labels int [B] (the target labels if `targeted`), or whatever `objective` takes.
      eps: radius, float or [B], in units of the images.
      rng: key of the random start.
      steps: number of gradient steps.
      step_size: alpha, float or [B], in units of the images.
      norm: 'linf' or 'l2'.
      objective: (logits [B, K], targets) -> [B], maximised (minimised if `targeted`).
      targeted: move towards the targets.
      random_start: start uniformly in the ball rather than at the image.
      clip_start: clip a random start to the bounds. False: the first gradient is taken where the draw lies, outside of them
        too, as some released codes do; every step ends within the bounds.
      restarts: independent starts; per example the one that fools the model is kept, or else the highest objective.
      carry: state that each call of logits_fn updates, such as BatchNorm statistics; needs restarts == 1.
      step_schedule: how step_size falls to zero over the steps: 'constant' (not), 'linear' or 'cosine'.
      bounds: (low, high), the range of the images.

    Returns:
      Adversarial images, of the images' shape and dtype, within the bounds and within eps of `images`; with `carry`,
      (images, carry). What the attack does not perturb stays as it is, bit for bit. Under `jax.jit` nobody sees whether the
      images lie within the bounds; those outside are clipped, so check such images where they are made.

    Raises:
      ValueError: unknown norm or schedule, shapes or dtypes that do not fit, an empty batch, no key as rng, steps < 0,
        restarts < 1 or with a carry; where they are concrete: images outside the bounds, a negative eps or step_size, a
        linf eps above the width of the bounds.
    """
    check_norm('norm', norm)
    check_key('rng', rng)
    if not all(isinstance(count, int | np.integer) for count in (steps, restarts)):
        raise ValueError(f'steps is {steps!r}, restarts {restarts!r}; allowed: integers')
    if steps < 0 or restarts < 1:
        raise ValueError(f'steps is {steps}, restarts {restarts}; allowed: >= 0, >= 1')
    if carry is not None and restarts != 1:
        raise ValueError(f'restarts is {restarts} with a carry; allowed: 1')
    if not clip_start and not steps:
        raise ValueError(
            'clip_start is False with steps=0, which would return images outside the bounds; allowed: steps >= 1'
        )
    originals = as_images(images, bounds)
    check_eps('eps', eps, norm, bounds)
    logits_fn, images = widened(logits_fn, originals)
    eps, step_size = per_example('eps', eps, images), per_example('step_size', step_size, images)
    scales = jnp.asarray(step_scales(step_schedule, steps), images.dtype)
    sign = -1.0 if targeted else 1.0
    objective = checked(objective, len(images))
    with_carry = logits_fn if carry is not None else lambda x, c: (logits_fn(x), c)

    def total(adversarial, carry):
        logits, carry = with_carry(adversarial, carry)
        return sign * jnp.sum(objective(logits, targets)), carry

    def run(start_rng, carry):
        adversarial = images
        if random_start:
            adversarial = images + uniform(start_rng, images, eps, norm)
            adversarial = jnp.clip(adversarial, *bounds) if clip_start else adversarial

        def body(i, state):
            adversarial, carry = state
            gradient, carry = jax.grad(total, has_aux=True)(adversarial, carry)
            moved = adversarial + step_size * scales[i] * steepest(gradient, norm)
            return nearest(moved, images, eps, norm, bounds), carry

        return lax.fori_loop(0, steps, body, (adversarial, carry))

    if restarts == 1:
        found, carry = run(rng, carry)
    else:
        found = _restarted(lambda r: run(r, None)[0], logits_fn, objective, images, targets, sign, restarts, rng)
    found = finished(found, originals, eps, norm, bounds)
    return found if carry is None else (found, carry)


def fgsm(
    logits_fn,
    images,
    targets,
    eps,
    *,
    objective: Callable = cross_entropy,
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
):
    """x + eps * sign(grad_x objective), clipped to the bounds (Goodfellow et al. 2015, arXiv:1412.6572, section 4).

    Args, dtypes and errors as in `pgd`; eps float or [B].

    Returns:
      [B, H, W, C] within the bounds.
    """
    return pgd(
        logits_fn,
        images,
        targets,
        eps,
        rng=jax.random.key(0),
        steps=1,
        step_size=eps,
        objective=objective,
        targeted=targeted,
        random_start=False,
        bounds=bounds,
    )


def rand_fgsm(
    logits_fn,
    images,
    targets,
    eps,
    *,
    rng,
    alpha=None,
    objective: Callable = cross_entropy,
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
):
    """RAND+FGSM: a random step of alpha sign(N(0, I)), then `fgsm` of the rest, eps - alpha.

    Tramer et al. 2018 (arXiv:1705.07204), Eq. 7. The random step leads away from the point at which a model that was trained
    by single steps hides its gradient.

    Args:
      rng: a key, of the random step.
      alpha: float or [B], in 0..eps, in units of the images; default eps / 2, the paper's.
      The rest, dtypes and errors as in `pgd`; eps float or [B].

    Returns:
      [B, H, W, C] within the bounds and within eps of `images`.

    Raises:
      ValueError: also where a concrete alpha is negative or larger than eps.
    """
    check_key('rng', rng)
    originals = as_images(images, bounds)
    check_eps('eps', eps, 'linf', bounds)
    logits_fn, images = widened(logits_fn, originals)
    alpha = eps / 2 if alpha is None else alpha
    known = concrete(eps), concrete(alpha)
    if all(value is not None for value in known) and np.any((known[1] < 0) | (known[1] > known[0])):
        raise ValueError(f'alpha is {alpha}; allowed: 0..{eps}, which is eps')
    alpha, radius = per_example('alpha', alpha, images), per_example('eps', eps, images)
    moved = jnp.clip(images + alpha * jnp.sign(jax.random.normal(rng, images.shape, images.dtype)), *bounds)
    rest = jnp.maximum(radius - alpha, 0).reshape(-1)
    found = fgsm(logits_fn, moved, targets, rest, objective=objective, targeted=targeted, bounds=bounds)
    return finished(nearest(found, images, radius, 'linf', bounds), originals, radius, 'linf', bounds)


def momentum_iterative(
    logits_fn,
    images,
    targets,
    eps,
    *,
    steps: int,
    step_size,
    decay: float = 1.0,
    objective: Callable = cross_entropy,
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
):
    """MI-FGSM: g <- decay * g + grad / mean|grad|; x' <- Proj(x' + alpha * sign(g)) (Dong et al. 2018, Eq. 6-7).

    Args, dtypes and errors as in `pgd` (linf, no random start); `decay` is the momentum factor mu, >= 0.

    Returns:
      [B, H, W, C] within the bounds and within eps of `images`.
    """
    if steps < 0:
        raise ValueError(f'steps is {steps}; allowed: >= 0')
    positive('decay', decay)
    originals = as_images(images, bounds)
    check_eps('eps', eps, 'linf', bounds)
    logits_fn, images = widened(logits_fn, originals)
    eps, step_size = per_example('eps', eps, images), per_example('step_size', step_size, images)
    sign = -1.0 if targeted else 1.0
    axes = tuple(range(1, images.ndim))
    objective = checked(objective, len(images))

    def total(adversarial):
        return sign * jnp.sum(objective(logits_fn(adversarial), targets))

    def body(_, state):
        adversarial, velocity = state
        gradient = jnp.nan_to_num(jax.grad(total)(adversarial))
        scale = jnp.mean(jnp.abs(gradient), axis=axes, keepdims=True)
        velocity = decay * velocity + gradient / jnp.maximum(scale, 1e-12)
        return nearest(adversarial + step_size * jnp.sign(velocity), images, eps, 'linf', bounds), velocity

    found = lax.fori_loop(0, steps, body, (images, jnp.zeros_like(images)))[0]
    return finished(found, originals, eps, 'linf', bounds)


def margin_pgd(
    logits_fn,
    images,
    labels,
    eps,
    *,
    rng,
    steps: int = 40,
    step_size=None,
    norm: str = 'linf',
    restarts: int = 1,
    bounds: tuple[float, float] = (0.0, 1.0),
):
    """Carlini-Wagner's margin loss under a norm constraint: PGD on max_{k != y} z_k - z_y.

    Carlini & Wagner 2017 (arXiv:1608.04644), loss f_6, in the form of Madry et al. 2018. Unlike cross-entropy its gradient
    does not vanish where the model is confident.

    Args:
      labels: int [B], the true labels.
      step_size: defaults to eps / 20, the sheet's initial rate for 40 steps.
      The rest, dtypes and errors as in `pgd`.

    Returns:
      [B, H, W, C] within the bounds and within eps of `images`.
    """
    step_size = eps / 20 if step_size is None else step_size
    return pgd(
        logits_fn,
        images,
        labels,
        eps,
        rng=rng,
        steps=steps,
        step_size=step_size,
        norm=norm,
        objective=lambda logits, labels: -margin(logits, labels),
        restarts=restarts,
        bounds=bounds,
    )


def random_noise(images, eps, *, rng, norm: str = 'linf', bounds: tuple[float, float] = (0.0, 1.0)):
    """The control for every attack: a uniform draw from the ball around each image, clipped to the bounds.

    Args:
      images, eps, rng, norm, bounds: as in `pgd`, with its dtypes and errors.

    Returns:
      [B, H, W, C] within the bounds and within eps of `images`.
    """
    check_norm('norm', norm)
    check_key('rng', rng)
    originals = as_images(images, bounds)
    check_eps('eps', eps, norm, bounds)
    _, images = widened(None, originals)
    eps = per_example('eps', eps, images)
    noisy = jnp.clip(images + uniform(rng, images, eps, norm), *bounds)
    return finished(noisy, originals, eps, norm, bounds)
