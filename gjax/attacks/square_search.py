"""The Square attack (Andriushchenko et al. 2020, arXiv:1912.00049): random search that sees logits only and changes one
square at a time.

As in AutoAttack: the margin is the loss, the schedule of the squares' sizes is that of 10,000 queries whatever their number,
and an image is left alone once it fools the model. As in the authors' code, but not in the paper, no square reaches the
image's last row and last column, unless it is as large as the image: with these a search on digits felled about a point more
images. Here each image has squares of its own; there those of a batch are in the same place.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gjax.attacks.balls import as_images, chosen, example_keys, finished, l2_norm, per_example, widened
from gjax.checks import check_eps, check_norm, check_shape
from gjax.losses import correct, margin

SHARE = 0.8  # p, the share of an image's pixels that the first squares change
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries after which p is halved, of 10,000 (section 5)
SMALLEST = {'linf': 1, 'l2': 3}  # side of a square in pixels


def square_side(stage: int, height: int, width: int, norm: str) -> int:
    """The side in pixels of the squares after `stage` halvings of p: the root of p H W, rounded; in l2 odd. At least
    SMALLEST, at most the image's shorter side.
    """
    side = max(round(math.sqrt(SHARE / 2**stage * height * width)), SMALLEST[norm])
    if norm == 'l2' and side % 2 == 0:
        side += 1
    return min(side, height, width)


def _bump(height: int, width: int) -> np.ndarray:
    """Rectangles that grow from the centre, the k-th of height 1 / k^2, on top of each other: [height, width] of norm 1
    (Eq. 4).
    """
    rows, columns = (np.abs(np.arange(side) - side // 2) for side in (height, width))
    rings = np.maximum(rows[:, None], columns[None])  # which rectangle reaches here first
    weights = 1 / (np.arange(max(height, width) // 2 + 1) + 1.0) ** 2
    tails = np.cumsum(weights[::-1])[::-1]
    values = tails[rings]
    return values / np.sqrt(np.sum(values**2))


def two_bumps(side: int) -> np.ndarray:
    """What a square of the l2 attack adds: a bump up above a bump down, [side, side] of norm 1, float32 (section 4.3)."""
    half = side // 2
    upper = _bump(half, side) if half else np.zeros((0, side))
    values = np.concatenate([upper, -_bump(side - half, side)])
    return (values / np.sqrt(np.sum(values**2))).astype(np.float32)


def _signs(values):
    return jnp.where(values < 0.5, -1.0, 1.0).astype(values.dtype)


def _uniform(key, count: int, dtype):
    return jax.random.uniform(key, (count,), dtype)


def _corner(value, room):
    """A uniform whole number of 0..room - 1 (0 of no room) from a uniform value in [0, 1)."""
    return (value * jnp.asarray(room).astype(value.dtype)).astype(jnp.int32)


def _inside(row, column, side, shape):
    """Whether a pixel lies in a square, bool [H, W, 1]."""
    rows, columns = jnp.arange(shape[0], dtype=jnp.int32)[:, None], jnp.arange(shape[1], dtype=jnp.int32)[None]
    return ((rows >= row) & (rows < row + side) & (columns >= column) & (columns < column + side))[:, :, None]


def _stripes(key, image, eps, bounds):
    """The start in linf: every column of each channel is raised or lowered by eps, as one."""
    _, width, channels = image.shape
    draws = _uniform(key, width * channels, image.dtype).reshape(1, width, channels)
    return jnp.clip(image + eps * _signs(draws), *bounds)


def _linf_proposal(key, image, adversarial, eps, side, bounds):
    """A square in which each channel is raised or lowered by eps (Algorithm 2)."""
    height, width, channels = image.shape
    draws = _uniform(key, 2 + channels, image.dtype)
    inside = _inside(_corner(draws[0], height - side), _corner(draws[1], width - side), side, image.shape)
    return jnp.where(inside, jnp.clip(image + eps * _signs(draws[2:])[None, None], *bounds), adversarial)


def _on_sphere(image, delta, eps, bounds):
    """The image moved by eps along delta, [H, W, C], clipped to the bounds."""
    return jnp.clip(image + eps * delta / (l2_norm(delta[None])[0] + 1e-12), *bounds)


def _tiles(key, image, eps, bounds):
    """The start in l2, of norm eps: tiles of a fifth of the height, each of two bumps of a random orientation, and in each
    channel of a random sign.
    """
    height, width, channels = image.shape
    side = height // 5
    offsets = [np.arange(length) - (height - 5 * side) // 2 for length in (height, width)]
    down, across = (np.maximum(offset // side, 0) for offset in offsets)  # which tile a pixel is of
    row, column = (offset % side for offset in offsets)  # and where in it
    covered = [(o >= 0) & (o < len(o) // side * side) for o in offsets]
    grid = (max(down) + 1, max(across) + 1, channels + 1)
    draws = _uniform(key, math.prod(grid), image.dtype).reshape(grid)[down[:, None], across[None]]
    pattern = two_bumps(side)
    upright, turned = (jnp.asarray(p[row[:, None], column[None]], image.dtype) for p in (pattern, pattern.T))
    values = jnp.where(draws[..., 0] < 0.5, upright, turned)[..., None] * _signs(draws[..., 1:])
    inside = (covered[0][:, None] & covered[1][None])[..., None]
    return _on_sphere(image, jnp.where(inside, values, 0), eps, bounds)


def _l2_proposal(key, image, adversarial, eps, side, pattern, bounds):
    """The mass of a second square, and what the clipping to the bounds took, move into a first one, in the direction of what
    is there and of two bumps (Algorithm 3). pattern: the bumps, in the upper left corner of [S, S].
    """
    height, width, channels = image.shape
    delta = adversarial - image
    draws = _uniform(key, 5 + channels, image.dtype)
    corners = [_corner(draws[i], length - side) for i, length in enumerate((height, width, height, width))]
    target, source = _inside(*corners[:2], side, image.shape), _inside(*corners[2:], side, image.shape)

    def norms(values, where):  # of each channel
        return jnp.sqrt(jnp.sum(jnp.where(where, values**2, 0), axis=(0, 1), keepdims=True))

    def within(length, corner):  # which row or column of the pattern each of the image's falls on
        return jnp.clip(jnp.arange(length, dtype=jnp.int32) - corner, 0, len(pattern) - 1)

    rows, columns = within(height, corners[0]), within(width, corners[1])
    pattern = jnp.where(draws[4] < 0.5, pattern, pattern.T)
    bumps = pattern[rows[:, None], columns[None]][..., None] * _signs(draws[5:])[None, None]
    mixed = bumps + delta / (norms(delta, target) + 1e-12)
    left = jnp.maximum(eps**2 - jnp.sum(delta**2), 0)
    length = jnp.sqrt(left / channels + norms(delta, target | source) ** 2)
    moved = mixed / (norms(mixed, target) + 1e-12) * length
    return _on_sphere(image, jnp.where(target, moved, jnp.where(source, 0, delta)), eps, bounds)


def square(
    logits_fn: Callable,
    images,
    labels,
    eps,
    *,
    rng,
    norm: str = 'linf',
    queries: int = 5000,
    bounds: tuple[float, float] = (0.0, 1.0),
):
    """The Square attack: proposals that lower the margin z_y - max_{k != y} z_k are kept (Andriushchenko et al. 2020,
    Algorithm 1).

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K], of which no gradient is taken.
      images: [B, H, W, C] within the bounds; in l2 of at least 5 x 5 pixels.
      labels: int [B].
      eps: radius, float or [B], in units of the images.
      rng: a key, or keys [B] of `jax.random.key`, one an image.
      norm: 'linf' or 'l2'.
      queries: proposals for each image after the start, >= 1; it ends once every image of the batch fools the model.
      bounds: (low, high), the range of the images.

    Returns:
      Images of the same shape and dtype, within the bounds and within eps of `images`, of the lowest margin found. Images
      that the model gets wrong from the start are returned as they are.

    Raises:
      ValueError: as `gjax.attacks.apgd_ce`; images of another rank or, in l2, below 5 x 5 pixels.
    """
    check_norm('norm', norm)
    if not isinstance(queries, int | np.integer) or queries < 1:
        raise ValueError(f'queries is {queries!r}; allowed: integers >= 1')
    originals = as_images(images, bounds)
    check_shape('images', originals, (None, None, None, None), '[B, H, W, C]')
    height, width = originals.shape[1:3]
    if norm == 'l2' and min(height, width) < 5:
        raise ValueError(f'the shape of images is {originals.shape}; allowed for Square in l2: at least 5 x 5 pixels')
    check_eps('eps', eps, norm, bounds)
    check_shape('labels', labels, originals.shape[:1], f'{originals.shape[:1]}, one an image')
    keys, labels = example_keys(rng, originals), jnp.asarray(labels)
    logits_fn, images = widened(logits_fn, originals)
    eps = per_example('eps', eps, images)
    radius = eps.reshape(-1)

    sides = np.asarray([square_side(stage, height, width, norm) for stage in range(len(HALVINGS) + 1)])
    if norm == 'linf':
        start, propose, patterns = _stripes, _linf_proposal, ()
    else:
        start, propose = _tiles, _l2_proposal
        patterns = (np.stack([np.pad(two_bumps(side), (0, sides.max() - side)) for side in sides]),)

    def query(state):
        done, found, lowest = state
        stage = jnp.sum(done > jnp.asarray(HALVINGS, jnp.int32))
        own = [jnp.asarray(sides, jnp.int32)[stage], *(jnp.asarray(p, images.dtype)[stage] for p in patterns)]
        query_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 1 + done)
        proposals = jax.vmap(lambda *arrays: propose(*arrays, *own, bounds))(query_keys, images, found, radius)
        value = margin(logits_fn(proposals), labels)
        better = (lowest > 0) & ((value < lowest) | (value <= 0))
        return done + 1, chosen(better, proposals, found), jnp.where(better, value, lowest)

    begun = jax.vmap(lambda *arrays: start(*arrays, bounds))(keys, images, radius)
    clean = logits_fn(images)
    right = correct(clean, labels)
    begun = chosen(right, begun, images)
    lowest = jnp.where(right, margin(logits_fn(begun), labels), -jnp.inf)
    state = lax.while_loop(lambda s: (s[0] < queries) & jnp.any(s[2] > 0), query, (jnp.int32(0), begun, lowest))
    return finished(state[1], originals, eps, norm, bounds)
