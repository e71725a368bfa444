"""Auto-PGD (Croce & Hein 2020, arXiv:2003.01690): projected gradient ascent with momentum, whose step size each image halves
by itself, on cross-entropy and on the difference-of-logits ratio (DLR).

Where the paper and the authors' code (github.com/fra31/auto-attack) differ, the code is followed: a step size is also halved
when exactly three quarters of the steps have raised the objective, and a step after a return to the best point is compared
with the step before that return. The checkpoints are the paper's for any number of steps; for 100 both have the same ones.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gjax.attacks import balls
from gjax.attacks.balls import chosen, per_example, spread
from gjax.checks import check_eps, check_integers, check_norm, check_shape
from gjax.losses import correct, cross_entropy, margin

MOMENTUM = 0.75  # alpha of Eq. 1: the share of a step that is the gradient's; the rest repeats the step before
RISING = 0.75  # rho of condition 1: the step size stays where more than this share of the steps has raised the objective


def check_classes(name: str, logits, least: int) -> None:
    """Raises ValueError unless logits [B, K] are of at least so many classes."""
    check_shape('logits', logits, (None, None), '[B, K]')
    if logits.shape[1] < least:
        raise ValueError(f'the classes of logits are {logits.shape[1]}; allowed for {name}: at least {least}')


def dlr(logits, labels):
    """The difference-of-logits ratio, -(z_y - max_{k != y} z_k) / (z_(1) - z_(3)), with z_(i) the i-th largest logit
    (Croce & Hein 2020, Eq. 6): above 0 where the example is misclassified, and free of the logits' shift and scale.

    Args:
      logits: [B, K], K >= 3.
      labels: int [B].

    Returns:
      [B]; ValueError for fewer classes, other shapes or dtypes, also while tracing.
    """
    check_classes('the DLR loss', logits, 3)
    top = lax.top_k(logits, 3)[0]
    return -margin(logits, labels) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr(logits, labels, targets):
    """-(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2), towards the class t (Croce & Hein 2020, Eq. 7).

    Args:
      logits: [B, K], K >= 4.
      labels, targets: int [B].

    Returns:
      [B]; ValueError for fewer classes, other shapes or dtypes, also while tracing.
    """
    check_classes('the targeted DLR loss', logits, 4)
    for name, classes in (('labels', labels), ('targets', targets)):
        check_shape(name, classes, logits.shape[:1], f'{logits.shape[:1]}, for logits {logits.shape}')
        check_integers(**{name: classes})
    top = lax.top_k(logits, 4)[0]
    rows = jnp.arange(len(logits))
    return (logits[rows, targets] - logits[rows, labels]) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def top_targets(logits, labels, count: int):
    """The highest-scoring classes other than the label, best first: int [min(count, K - 1), B]."""
    others = jnp.where(jax.nn.one_hot(labels, logits.shape[1], dtype=bool), -jnp.inf, logits)
    return lax.top_k(others, min(count, logits.shape[1] - 1))[1].T


def checkpoints(steps: int) -> np.ndarray:
    """The steps after which step sizes may be halved, ascending, of 1..steps: ceil(p_j N) with p_1 = 0.22 and
    p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06) (Croce & Hein 2020, section 3). In whole hundredths, so that no rounding
    moves one.
    """
    found, share, period = [], 22, 22
    while share <= 100:
        found.append(-(-share * steps // 100))
        period = max(period - 3, 6)
        share += period
    return np.unique(np.asarray(found, int))


class _Search(NamedTuple):
    """Where Auto-PGD stands; arrays [B, ...] of images, the rest [B]."""

    now: Any  # x^(k)
    before: Any  # x^(k-1)
    gradient: Any  # at x^(k)
    value: Any  # the objective of the newest step
    step: Any  # the step size
    best: Any  # x_max, of the highest objective
    best_gradient: Any
    best_value: Any
    rises: Any  # steps since the last checkpoint that have raised the objective
    checked: Any  # the highest objective at the last checkpoint
    halved: Any  # whether the step size was halved there; true before the first
    found: Any  # the newest point that fools the model, or the start
    hit: Any  # whether one has


def _search(evaluate: Callable, start, images, eps, *, steps: int, norm: str, bounds) -> _Search:
    """Algorithm 1. evaluate: (images, step number) -> (objective [B], its gradient, whether the model is fooled [B])."""
    ends = checkpoints(steps)
    is_checkpoint = np.isin(np.arange(steps) + 1, ends)
    most_rises = np.zeros(steps, np.int32)  # in the interval that ends here, with which the step size is still halved
    most_rises[ends - 1] = np.floor(RISING * np.diff(ends, prepend=0))

    def project(points):
        return balls.nearest(points, images, eps, norm, bounds)

    def body(k, at: _Search) -> _Search:
        moved = project(at.now + spread(at.step, images) * balls.steepest(at.gradient, norm))
        share = jnp.where(k == 0, 1.0, MOMENTUM).astype(images.dtype)
        now = project(at.now + share * (moved - at.now) + (1 - share) * (at.now - at.before))
        value, gradient, hit = evaluate(now, k + 1)
        better = value > at.best_value
        best, best_gradient = chosen(better, now, at.best), chosen(better, gradient, at.best_gradient)
        best_value = jnp.where(better, value, at.best_value)
        rises = at.rises + (value > at.value).astype(jnp.int32)

        check = jnp.asarray(is_checkpoint)[k]
        few = rises <= jnp.asarray(most_rises)[k]  # condition 1
        stuck = ~at.halved & (at.checked >= best_value)  # condition 2
        halve = check & (few | stuck)
        return _Search(
            now=chosen(halve, best, now),
            before=at.now,
            gradient=chosen(halve, best_gradient, gradient),
            value=value,
            step=jnp.where(halve, at.step / 2, at.step),
            best=best,
            best_gradient=best_gradient,
            best_value=best_value,
            rises=jnp.where(check, 0, rises),
            checked=jnp.where(check, best_value, at.checked),
            halved=jnp.where(check, halve, at.halved),
            found=chosen(hit, now, at.found),
            hit=at.hit | hit,
        )

    value, gradient, hit = evaluate(start, 0)
    every = {'step': 2 * eps.reshape(-1), 'rises': jnp.zeros(len(images), jnp.int32), 'halved': jnp.ones_like(hit)}
    points = {'now': start, 'before': start, 'best': start, 'found': start}
    gradients = {'gradient': gradient, 'best_gradient': gradient}
    values = {'value': value, 'best_value': value, 'checked': value}
    return lax.fori_loop(0, steps, body, _Search(**points, **gradients, **values, **every, hit=hit))


def _attack(logits_fn, images, labels, eps, *, objective, targets, rng, norm, steps, restarts, draws, bounds):
    """Auto-PGD on objective(logits, labels, target) from `restarts` starts for each target, until all images fool it.

    targets: None, or how many of the highest-scoring other classes are aimed at one after the other.
    """
    check_norm('norm', norm)
    counts = {'steps': steps, 'restarts': restarts, 'draws': 1 if draws is None else draws}
    for name, count in (counts | ({} if targets is None else {'targets': targets})).items():
        if not isinstance(count, int | np.integer) or count < 1:
            raise ValueError(f'{name} is {count!r}; allowed: integers >= 1')
    originals = balls.as_images(images, bounds)
    check_eps('eps', eps, norm, bounds)
    check_shape('labels', labels, originals.shape[:1], f'{originals.shape[:1]}, one an image')
    keys, labels = balls.example_keys(rng, originals), jnp.asarray(labels)
    model_key = jax.random.fold_in(keys[0], 1)
    with_key = logits_fn if draws is not None else lambda x, _: logits_fn(x)
    _, images = balls.widened(None, originals)
    eps = per_example('eps', eps, images)

    def logits_of(x, key):
        return balls.widened(lambda x: with_key(x, key), originals)[0](x)

    def evaluate(x, key, target):
        def total(x, key):
            logits = logits_of(x, key)
            values = objective(logits, labels, target)
            return jnp.sum(values), (values, ~correct(logits, labels))

        def once(key):
            gradient, (values, hit) = jax.grad(total, has_aux=True)(x, key)
            return values, gradient, hit

        if draws is None:
            return once(key)

        def add(sums, key):
            values, gradient, hit = once(key)
            return (sums[0] + values / draws, sums[1] + gradient / draws, hit), None

        values, gradient, hit = jax.eval_shape(once, key)
        zeros = (
            jnp.zeros(values.shape, values.dtype),
            jnp.zeros(gradient.shape, gradient.dtype),
            jnp.zeros(hit.shape, bool),
        )
        return lax.scan(add, zeros, jax.random.split(key, draws))[0]

    clean = logits_of(images, model_key)
    aims = jnp.zeros((1, len(images)), jnp.int32) if targets is None else top_targets(clean, labels, targets)
    runs = restarts * len(aims)

    def run(state):
        number, found, value, hit = state
        target = aims[number // restarts]
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, 2 + number)
        start = jnp.clip(images + balls.on_sphere(own, images, eps, norm), *bounds)
        run_key = jax.random.fold_in(model_key, number)

        def at_step(x, k):
            return evaluate(x, jax.random.fold_in(run_key, k), target)

        new = _search(at_step, start, images, eps, steps=steps, norm=norm, bounds=bounds)
        better = ~hit & (new.hit | (new.best_value > value))
        found = chosen(better, chosen(new.hit, new.found, new.best), found)
        return number + 1, found, jnp.where(better, new.best_value, value), hit | new.hit

    def unfinished(state):
        return (state[0] < runs) & ~jnp.all(state[3])

    lowest = jnp.full_like(objective(clean, labels, aims[0]), -jnp.inf)
    found = lax.while_loop(unfinished, run, (jnp.int32(0), images, lowest, ~correct(clean, labels)))[1]
    return balls.finished(found, originals, eps, norm, bounds)


def apgd_ce(
    logits_fn: Callable,
    images,
    labels,
    eps,
    *,
    rng,
    norm: str = 'linf',
    steps: int = 100,
    restarts: int = 1,
    draws: int | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
):
    """Auto-PGD on cross-entropy (Croce & Hein 2020, Algorithm 1), from a random point of the ball's surface.

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K]; with `draws`, (images, key) -> logits.
      images: [B, H, W, C] (or [B, ...]) within the bounds.
      labels: int [B].
      eps: radius, float or [B], in units of the images.
      rng: a key, or keys [B] of `jax.random.key`, one an image: then what an image is given does not depend on the others
        of its batch.
      norm: 'linf' or 'l2'.
      steps: gradient steps of each run, >= 1; the first step size is 2 eps.
      restarts: runs, >= 1; later ones are left out once every image of the batch fools the model.
      draws: None, or over how many draws of a random network each gradient and objective is the mean (expectation over
        transformation); whether an image fools it is read off the last one.
      bounds: (low, high), the range of the images.

    Returns:
      Images of the same shape and dtype, within the bounds and within eps of `images`: one that fools the model, or else
      that of the highest objective. Images that the model gets wrong from the start are returned as they are.

    Raises:
      ValueError: an unknown norm, counts below 1, no key, shapes or dtypes that do not fit, an empty batch; where they are
        concrete, images outside the bounds, a negative eps or a linf eps above the width of the bounds.
    """
    options = {'rng': rng, 'norm': norm, 'steps': steps, 'restarts': restarts, 'draws': draws, 'bounds': bounds}
    return _attack(logits_fn, images, labels, eps, objective=lambda z, y, _: cross_entropy(z, y), targets=None, **options)


def apgd_dlr(
    logits_fn: Callable,
    images,
    labels,
    eps,
    *,
    rng,
    norm: str = 'linf',
    steps: int = 100,
    restarts: int = 1,
    draws: int | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
):
    """Auto-PGD on the DLR loss, which does not vanish where logits are large. Arguments, result and errors as in `apgd_ce`;
    the network has at least 3 classes.
    """
    options = {'rng': rng, 'norm': norm, 'steps': steps, 'restarts': restarts, 'draws': draws, 'bounds': bounds}
    return _attack(logits_fn, images, labels, eps, objective=lambda z, y, _: dlr(z, y), targets=None, **options)


def apgd_targeted(
    logits_fn: Callable,
    images,
    labels,
    eps,
    *,
    rng,
    norm: str = 'linf',
    steps: int = 100,
    restarts: int = 1,
    targets: int = 9,
    bounds: tuple[float, float] = (0.0, 1.0),
):
    """Auto-PGD on the targeted DLR loss towards the `targets` classes that score highest on the clean image, other than the
    label, one after the other (of fewer than `targets` other classes, all of them). The network has at least 4 classes.

    `restarts` counts the runs for each target. The other arguments, the result and the errors are those of `apgd_ce`.
    """
    options = {'rng': rng, 'norm': norm, 'steps': steps, 'restarts': restarts, 'draws': None, 'bounds': bounds}
    return _attack(logits_fn, images, labels, eps, objective=targeted_dlr, targets=targets, **options)
