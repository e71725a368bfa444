"""White-box gradient attacks on classifiers. Images are float [B, H, W, C] in [0, 1]; eps is in the same units.

Every attack takes `logits_fn: images -> logits [B, K]`, is pure, and runs under `jax.jit` with its loop inside.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gjax.attacks.balls import check_norm, per_example, project, steepest, uniform
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


def _restarted(run, logits_fn, objective, images, targets, sign, restarts, rng):
    """The best of `restarts` calls run(rng) per example: one that fools the model if any, else the highest objective."""

    def score(adversarial):
        logits = logits_fn(adversarial)
        value = sign * objective(logits, targets)
        if logits.ndim == 2 and targets.ndim == 1:
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
    restarts: int = 1,
    carry: Any = None,
    step_schedule: str = 'constant',
):
    """Projected gradient ascent: x' <- Proj_{B(x, eps)}(x' + alpha * steepest(grad_x objective(f(x'), t))).

    Source: Madry et al. 2018 (arXiv:1706.06083), Eq. 2.3, with the start clipped to [0, 1].

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K]; with `carry`, (images, carry) -> (logits, carry).
      images: [B, H, W, C] in [0, 1].
      targets: labels int [B] (the target labels if `targeted`), or whatever `objective` takes.
      eps: radius, float or [B], in units of the images.
      rng: key of the random start.
      steps: number of gradient steps.
      step_size: alpha, float or [B], in units of the images.
      norm: 'linf' or 'l2'.
      objective: (logits [B, K], targets) -> [B], maximised (minimised if `targeted`).
      targeted: move towards the targets.
      random_start: start uniformly in the ball rather than at the image.
      restarts: independent starts; per example the one that fools the model is kept, or else the highest objective.
      carry: state that each call of logits_fn updates, such as BatchNorm statistics; needs restarts == 1.
      step_schedule: how step_size falls to zero over the steps: 'constant' (not), 'linear' or 'cosine'.

    Returns:
      Adversarial images [B, H, W, C] in [0, 1] within eps of `images`; with `carry`, (images, carry).

    Raises:
      ValueError: unknown norm or schedule, negative or ill-shaped eps or step_size, steps < 0, restarts < 1 or with a carry.
    """
    check_norm(norm)
    scales = jnp.asarray(step_scales(step_schedule, steps))
    if steps < 0 or restarts < 1:
        raise ValueError(f'steps is {steps}, restarts {restarts}; allowed: >= 0, >= 1')
    if carry is not None and restarts != 1:
        raise ValueError(f'restarts is {restarts} with a carry; allowed: 1')
    eps, step_size = per_example(eps, images), per_example(step_size, images)
    sign = -1.0 if targeted else 1.0
    with_carry = logits_fn if carry is not None else lambda x, c: (logits_fn(x), c)

    def total(adversarial, carry):
        logits, carry = with_carry(adversarial, carry)
        return sign * jnp.sum(objective(logits, targets)), carry

    def run(start_rng, carry):
        adversarial = images
        if random_start:
            adversarial = jnp.clip(images + uniform(start_rng, images, eps, norm), 0.0, 1.0)

        def body(i, state):
            adversarial, carry = state
            gradient, carry = jax.grad(total, has_aux=True)(adversarial, carry)
            return project(adversarial + step_size * scales[i] * steepest(gradient, norm), images, eps, norm), carry

        return lax.fori_loop(0, steps, body, (adversarial, carry))

    if carry is not None:
        return run(rng, carry)
    if restarts == 1:
        return run(rng, None)[0]
    return _restarted(lambda r: run(r, None)[0], logits_fn, objective, images, targets, sign, restarts, rng)


def fgsm(logits_fn, images, targets, eps, *, objective=cross_entropy, targeted=False):
    """x + eps * sign(grad_x objective), clipped to [0, 1] (Goodfellow et al. 2015, arXiv:1412.6572, section 4).

    Args and errors as in `pgd`; eps float or [B].

    Returns:
      [B, H, W, C] in [0, 1].
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
    )


def momentum_iterative(
    logits_fn, images, targets, eps, *, steps: int, step_size, decay=1.0, objective=cross_entropy, targeted=False
):
    """MI-FGSM: g <- decay * g + grad / mean|grad|; x' <- Proj(x' + alpha * sign(g)) (Dong et al. 2018, Eq. 6-7).

    Args and errors as in `pgd` (linf, no random start); `decay` is the momentum factor mu.

    Returns:
      [B, H, W, C] in [0, 1] within eps of `images`.
    """
    eps, step_size = per_example(eps, images), per_example(step_size, images)
    sign = -1.0 if targeted else 1.0
    axes = tuple(range(1, images.ndim))

    def total(adversarial):
        return sign * jnp.sum(objective(logits_fn(adversarial), targets))

    def body(_, state):
        adversarial, velocity = state
        gradient = jnp.nan_to_num(jax.grad(total)(adversarial))
        scale = jnp.mean(jnp.abs(gradient), axis=axes, keepdims=True)
        velocity = decay * velocity + gradient / jnp.maximum(scale, 1e-12)
        return project(adversarial + step_size * jnp.sign(velocity), images, eps, 'linf'), velocity

    return lax.fori_loop(0, steps, body, (images, jnp.zeros_like(images)))[0]


def margin_pgd(
    logits_fn, images, labels, eps, *, rng, steps: int = 40, step_size=None, norm: str = 'linf', restarts: int = 1
):
    """Carlini-Wagner's margin loss under a norm constraint: PGD on max_{k != y} z_k - z_y.

    Carlini & Wagner 2017 (arXiv:1608.04644), loss f_6, in the form of Madry et al. 2018. Unlike cross-entropy its gradient
    does not vanish where the model is confident.

    Args:
      labels: int [B], the true labels.
      step_size: defaults to eps / 20, the sheet's initial rate for 40 steps.
      The rest as in `pgd`.

    Returns:
      [B, H, W, C] in [0, 1] within eps of `images`.
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
    )


def random_noise(images, eps, *, rng, norm: str = 'linf'):
    """The control for every attack: a uniform draw from the ball, clipped to [0, 1]. eps float or [B]."""
    check_norm(norm)
    return jnp.clip(images + uniform(rng, images, per_example(eps, images), norm), 0.0, 1.0)
