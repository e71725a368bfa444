"""FAB, the fast adaptive boundary attack (Croce & Hein 2020, arXiv:1907.02044): the smallest perturbation that changes the
class, by projections onto the decision boundary, linearised, within the range of the images.

As in AutoAttack, there is no final search along the segment to the image, and what is found counts only within eps.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gjax.attacks.apgd import check_classes, top_targets
from gjax.attacks.balls import as_images, chosen, example_keys, finished, on_sphere, per_example, size, widened
from gjax.checks import check_eps, check_norm, check_shape
from gjax.losses import correct

OVERSHOOT = 1.05  # eta of Eq. 9: how far beyond the linearised boundary a step goes
BACKWARD = 0.9  # beta of Eq. 11: how near the way from the image an adversarial iterate is drawn
LARGEST_BIAS = 0.1  # alpha_max of Eq. 9: the share of a step that starts at the image


def to_hyperplane(points, normals, values, norm: str, bounds: tuple[float, float] = (0.0, 1.0)):
    """The shortest delta with value + <normal, delta> = 0 and point + delta within the bounds (Croce & Hein 2020, Eq. 5-6).

    Coordinate i moves against the value by min(lambda v_i, room_i), with v_i = 1 in linf and |normal_i| in l2. How much of
    the value that takes away is concave and piecewise linear in the multiplier lambda, so that Newton's method from below
    reaches the solution exactly: each round holds at least one more coordinate fast at its bound, or is the last. It takes a
    few rounds where the paper sorts all coordinates.

    Args:
      points: [B, D] within the bounds.
      normals: [B, D], of the hyperplanes.
      values: [B], of the linear functions at the points.
      norm: 'linf' or 'l2'.
      bounds: (low, high).

    Returns:
      delta [B, D]; coordinates whose normal is 0 stay. Where the hyperplane misses the box, the corner nearest to it by
      value.
    """
    direction = -jnp.sign(values)[:, None] * jnp.sign(normals)
    scale = jnp.max(jnp.abs(normals), axis=1, keepdims=True)
    scale = jnp.where(scale > 0, scale, 1)  # so that squares of small gradients do not vanish
    weights, goal = jnp.abs(normals) / scale, jnp.abs(values) / scale[:, 0]
    speed = jnp.abs(jnp.sign(weights)) if norm == 'linf' else weights
    room = jnp.maximum(jnp.where(direction > 0, bounds[1] - points, points - bounds[0]), 0) * jnp.abs(direction)

    def body(state):
        multiplier, fast, _ = state
        now = room <= multiplier[:, None] * speed  # held fast at a bound
        reached = jnp.sum(jnp.where(now, weights * room, 0), axis=1)
        slope = jnp.sum(jnp.where(now, 0, weights * speed), axis=1)
        new = (goal - reached) / jnp.where(slope > 0, slope, 1)
        multiplier = jnp.where(slope > 0, jnp.maximum(new, multiplier), multiplier)
        count = jnp.sum(now, axis=1, dtype=jnp.int32)
        return multiplier, count, jnp.any(count != fast)

    start = (jnp.zeros_like(goal), jnp.full(goal.shape, -1, jnp.int32), jnp.bool_(True))
    multiplier = lax.while_loop(lambda state: state[2], body, start)[0]
    return direction * jnp.minimum(multiplier[:, None] * speed, room)


def _step(points, images, normals, values, norm: str, bounds):
    """The next iterate (Eq. 9): between the projections of the iterate and of the image onto one hyperplane."""
    shape, flat = images.shape, (len(images), -1)
    x, origin, normals = points.reshape(flat), images.reshape(flat), normals.reshape(flat)
    values = values.astype(normals.dtype)
    at_origin = values + jnp.sum(normals * (origin - x), axis=1)
    step, biased = (to_hyperplane(p, normals, v, norm, bounds) for p, v in ((x, values), (origin, at_origin)))
    near, far = (jnp.maximum(size(delta, norm), 1e-8) for delta in (step, biased))
    bias = jnp.minimum(near / (near + far), LARGEST_BIAS)
    moved = (1 - bias) * (x + OVERSHOOT * step) + bias * (origin + OVERSHOOT * biased)
    return jnp.clip(moved, *bounds).reshape(shape)


def _nearest_boundary(logits_fn, x, labels, norm: str):
    """The value and the normal of the linearised boundary that is nearest (Eq. 7), of all other classes."""
    logits, backward = jax.vjp(logits_fn, x)
    count, classes = logits.shape
    units = jnp.broadcast_to(jnp.eye(classes, dtype=logits.dtype)[:, None], (classes, count, classes))
    gradients = jax.vmap(lambda unit: backward(unit)[0])(units)  # [K, B, ...]
    rows = jnp.arange(count)
    values = (logits - logits[rows, labels][:, None]).T
    normals = gradients - gradients[labels, rows][None]
    flat = normals.reshape(classes, count, -1)
    steepness = jnp.sum(jnp.abs(flat), axis=2) if norm == 'linf' else jnp.sqrt(jnp.sum(flat**2, axis=2))  # the dual norm
    distances = jnp.abs(values) / (steepness + 1e-12)
    own = jax.nn.one_hot(labels, classes, dtype=bool).T
    nearest = jnp.argmin(jnp.where(own, jnp.inf, distances), axis=0)
    return values[nearest, rows], normals[nearest, rows]


def _targeted_boundary(logits_fn, x, labels, targets):
    """The value and the normal of z_t - z_y."""
    rows = jnp.arange(len(x))

    def total(x):
        logits = logits_fn(x)
        values = logits[rows, targets] - logits[rows, labels]
        return jnp.sum(values), values

    normals, values = jax.grad(total, has_aux=True)(x)
    return values, normals


def _attack(logits_fn, images, labels, eps, *, targets, rng, norm, steps, restarts, bounds):
    """FAB from `restarts` starts for each of so many targets (None: untargeted), until every image has fallen within eps."""
    check_norm('norm', norm)
    for name, count in {'steps': steps, 'restarts': restarts, 'targets': 1 if targets is None else targets}.items():
        if not isinstance(count, int | np.integer) or count < 1:
            raise ValueError(f'{name} is {count!r}; allowed: integers >= 1')
    originals = as_images(images, bounds)
    check_eps('eps', eps, norm, bounds)
    check_shape('labels', labels, originals.shape[:1], f'{originals.shape[:1]}, one an image')
    keys, labels = example_keys(rng, originals), jnp.asarray(labels)
    logits_fn, images = widened(logits_fn, originals)
    eps = per_example('eps', eps, images)
    radius = eps.reshape(-1)
    clean = logits_fn(images)
    check_classes('FAB', clean, 2)
    aims = jnp.zeros((1, len(images)), jnp.int32) if targets is None else top_targets(clean, labels, targets)
    runs = restarts * len(aims)

    def run(state):
        number, found, distance = state
        target = aims[number // restarts]
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        random = jnp.clip(images + on_sphere(own, images, eps / 2, norm), *bounds)
        start = jnp.where(number % restarts > 0, random, images)

        def body(_, state):
            x, found, distance = state
            if targets is None:
                values, normals = _nearest_boundary(logits_fn, x, labels, norm)
            else:
                values, normals = _targeted_boundary(logits_fn, x, labels, target)
            x = _step(x, images, normals, values, norm, bounds)
            hit = ~correct(logits_fn(x), labels)
            reached = size(x - images, norm).reshape(-1)
            better = hit & (reached < distance)
            found, distance = chosen(better, x, found), jnp.where(better, reached, distance)
            return chosen(hit, images + BACKWARD * (x - images), x), found, distance

        _, found, distance = lax.fori_loop(0, steps, body, (start, found, distance))
        return number + 1, found, distance

    def unfinished(state):
        return (state[0] < runs) & jnp.any(state[2] > radius)

    distance = jnp.where(correct(clean, labels), jnp.inf, 0).astype(images.dtype)
    _, found, distance = lax.while_loop(unfinished, run, (jnp.int32(0), images, distance))
    return finished(chosen(distance <= radius, found, images), originals, eps, norm, bounds)


def fab(
    logits_fn: Callable,
    images,
    labels,
    eps,
    *,
    rng,
    norm: str = 'linf',
    steps: int = 100,
    restarts: int = 1,
    bounds: tuple[float, float] = (0.0, 1.0),
):
    """FAB towards whichever linearised boundary is nearest (Croce & Hein 2020, Algorithm 1): each step takes the gradients
    of all K logits. `fab_targeted` costs a K-th of that.

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K].
      images: [B, H, W, C] (or [B, ...]) within the bounds.
      labels: int [B].
      eps: the largest perturbation that counts, float or [B], in units of the images.
      rng: a key, or keys [B] of `jax.random.key`, one an image; of the random starts, at eps / 2, of all but the first run.
      norm: 'linf' or 'l2'.
      steps: of each run, >= 1.
      restarts: runs, >= 1; later ones are left out once every image of the batch has fallen.
      bounds: (low, high), the range of the images.

    Returns:
      Images of the same shape and dtype within the bounds: the nearest adversarial image found, or the image itself where
      none within eps was or where the model gets it wrong from the start.

    Raises:
      ValueError: as `gjax.attacks.apgd_ce`; fewer than 2 classes.
    """
    options = {'rng': rng, 'norm': norm, 'steps': steps, 'restarts': restarts, 'bounds': bounds}
    return _attack(logits_fn, images, labels, eps, targets=None, **options)


def fab_targeted(
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
    """FAB towards the boundary to each of the `targets` classes that score highest on the clean image, other than the label,
    one after the other (of fewer than `targets` other classes, all of them).

    `restarts` counts the runs for each target. The other arguments, the result and the errors are those of `fab`.
    """
    options = {'rng': rng, 'norm': norm, 'steps': steps, 'restarts': restarts, 'bounds': bounds}
    return _attack(logits_fn, images, labels, eps, targets=targets, **options)
