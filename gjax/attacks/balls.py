"""Norm balls around images: projection, steepest ascent, uniform sampling. Radii may differ from image to image.

Attacks on images of half precision compute in float32; the network and the result have the images' own dtype.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gjax.checks import check_bounds, check_eps, check_images, check_key, check_norm, check_shape, check_shapes, concrete

HALF = ('float16', 'bfloat16')


def as_images(images, bounds: tuple[float, float]):
    """Images [B, ...] as a JAX array; ValueError for bounds that are none, and as `gjax.checks.check_images`."""
    check_bounds(bounds)
    check_images('images', images, bounds)
    return jnp.asarray(images)


def per_example(name: str, value, images):
    """A radius or step size, float or [B], as [B, 1, ..., 1] of the images' dtype.

    Args:
      name: of the argument, for messages.
      value: a number or an array of shape () or [B].
      images: [B, ...].

    Raises:
      ValueError: another shape; where it is concrete, a negative value or NaN.
    """
    values = concrete(value)
    if values is not None and not np.all(values >= 0):
        raise ValueError(f'{name} is {value}; allowed: >= 0')
    value = jnp.asarray(value, images.dtype)
    if value.shape != ():
        check_shape(name, value, (images.shape[0],), f'() or ({images.shape[0]},)')
    return jnp.broadcast_to(value, images.shape[:1]).reshape((-1,) + (1,) * (images.ndim - 1))


def example_keys(rng, images):
    """One key for each image, [B]: `rng` itself if it is such keys, otherwise what one key is split into.

    Raises:
      ValueError: `rng` is neither one key nor typed keys [B].
    """
    if jnp.issubdtype(getattr(rng, 'dtype', np.float32), jax.dtypes.prng_key) and rng.shape == images.shape[:1]:
        return rng
    check_key('rng', rng)
    return jax.random.split(rng, images.shape[0])


def spread(values, images):
    """One value for each image, [B] -> [B, 1, ..., 1]."""
    return values.reshape((-1,) + (1,) * (images.ndim - 1))


def chosen(where, images, others):
    """`images` where bool [B] is true, `others` elsewhere."""
    return jnp.where(spread(where, images), images, others)


def l2_norm(values):
    """Euclidean norm of each example, [B, ...] -> [B, 1, ..., 1]."""
    return jnp.sqrt(jnp.sum(values**2, axis=tuple(range(1, values.ndim)), keepdims=True))


def size(delta, norm: str):
    """Norm of each perturbation, [B, ...] -> [B, 1, ..., 1]."""
    if norm == 'linf':
        return jnp.max(jnp.abs(delta), axis=tuple(range(1, delta.ndim)), keepdims=True)
    return l2_norm(delta)


def unclipped(found, images, bounds: tuple[float, float]):
    """What an attack found, with the images' own values where it did no more than clip them to the bounds: concrete images
    may lie outside by rounding, and what is not perturbed stays as it is. Traced images are taken to lie inside.
    """
    values = concrete(images)
    if values is None or ((values >= bounds[0]) & (values <= bounds[1])).all():
        return found  # no selection is compiled that could change how a program around it rounds
    return jnp.where(found == jnp.clip(images, *bounds), images, found)


def nearest(adversarial, images, eps, norm: str, bounds: tuple[float, float]):
    """`project` without its checks, for the loops of attacks, and always clipped; eps is [B, 1, ..., 1]."""
    delta = adversarial - images
    if norm == 'linf':
        delta = jnp.clip(delta, -eps, eps)
    else:
        delta = delta * jnp.minimum(1.0, eps / jnp.maximum(l2_norm(delta), 1e-12))
    return jnp.clip(images + delta, *bounds)


def project(adversarial, images, eps, norm: str, *, bounds: tuple[float, float] = (0.0, 1.0)):
    """The nearest point of {x : |x - images| <= eps}, then clipped to the bounds.

    Args:
      adversarial, images: [B, ...] of one shape, of float32, float16, bfloat16 or float64; the images within the bounds.
      eps: float, [B] or [B, 1, ..., 1], in units of the images.
      norm: 'linf' or 'l2'.
      bounds: (low, high), the range of the images.

    Returns:
      [B, ...] of the images' dtype.

    Raises:
      ValueError: an unknown norm, shapes or dtypes that do not fit, concrete images outside the bounds, a concrete eps that
        is negative or, with linf, above the width of the bounds.
    """
    check_norm('norm', norm)
    images, adversarial = as_images(images, bounds), jnp.asarray(adversarial)
    check_shapes((...,), '', images=images, adversarial=adversarial)
    check_eps('eps', eps, norm, bounds)
    if jnp.ndim(eps) > 1:
        check_shape('eps', eps, (len(images),) + (1,) * (images.ndim - 1))
        eps = jnp.asarray(eps).reshape(-1)
    _, wide = widened(None, images)
    eps = per_example('eps', eps, wide)
    return finished(nearest(adversarial.astype(wide.dtype), wide, eps, norm, bounds), images, eps, norm, bounds)


def is_half(images) -> bool:
    """Whether the dtype is float16 or bfloat16, in which an attack's steps and constants would vanish."""
    return str(images.dtype) in HALF


def rounded(values, dtype):
    """float32 values rounded to the nearest ones of a half-precision dtype, still float32. XLA compiles conversions there
    and back away, and then an attack would judge other images than it returns; this it keeps.
    """
    bits = jnp.finfo(dtype)
    return lax.reduce_precision(values, exponent_bits=bits.nexp, mantissa_bits=bits.nmant)


def widened(function, images):
    """(function, images) as an attack computes with them.

    Args:
      function: images [B, ...] -> outputs, or (images, carry) -> (outputs, carry).
      images: [B, ...] of a float dtype.

    Returns:
      Images of half precision as float32, and a function that rounds what it is given to their own dtype first and whose
      outputs, if they are of that dtype, are float32. The same two otherwise.
    """
    if not is_half(images):
        return function, images
    dtype = images.dtype

    def wide(values, *carry):
        found = function(rounded(values, dtype).astype(dtype), *carry)
        outputs = found[0] if carry else found
        outputs = rounded(outputs.astype(jnp.float32), dtype) if outputs.dtype == dtype else outputs
        return (outputs, found[1]) if carry else outputs

    return wide, images.astype(jnp.float32)


def finished(found, images, eps, norm: str, bounds: tuple[float, float]):
    """What an attack returns: what it found, `unclipped`, in the images' own dtype, still in its ball and bounds.

    Args:
      found: [B, ...], float32 if the images are of half precision, of their dtype otherwise.
      images: [B, ...], the originals.
      eps: [B, 1, ..., 1], of the dtype of `found`.
      norm: 'linf' or 'l2'.
      bounds: (low, high).

    Returns:
      [B, ...]. Of half precision each entry is rounded to the nearest value, or towards the image where the nearest one
      leaves the ball or the bounds.
    """
    if not is_half(images):
        return unclipped(found, images, bounds)
    exact = images.astype(jnp.float32)
    values = rounded(found, images.dtype)
    narrow, delta = values.astype(images.dtype), values - exact
    outside = (values < bounds[0]) | (values > bounds[1])
    if norm == 'linf':
        outside |= jnp.abs(delta) > eps
    else:
        outside |= (l2_norm(delta) > eps) & (jnp.abs(delta) > jnp.abs(found - exact))
    narrow = jnp.where(outside, jnp.nextafter(narrow, images), narrow)
    return jnp.where(found == jnp.clip(exact, *bounds), images, narrow)  # also where rounding flushes small values to zero


def steepest(gradient, norm: str):
    """The direction of unit norm along which the objective rises fastest; zero where the gradient is zero, and in entries
    that are NaN. Gradients of any size have one, infinite ones too.
    """
    gradient = jnp.nan_to_num(gradient)  # infinities become the largest numbers
    if norm == 'linf':
        return jnp.sign(gradient)
    largest = jnp.max(jnp.abs(gradient), axis=tuple(range(1, gradient.ndim)), keepdims=True)
    gradient = gradient / jnp.where(largest > 0, largest, 1)  # whose squares neither overflow nor vanish
    return gradient / jnp.maximum(l2_norm(gradient), 1e-12)


def uniform(rng, images, eps, norm: str):
    """A uniform draw from the ball of radius eps [B, 1, ..., 1], shape of images; not clipped to any bounds."""
    if norm == 'linf':
        return eps * jax.random.uniform(rng, images.shape, images.dtype, -1.0, 1.0)
    direction_rng, radius_rng = jax.random.split(rng)
    direction = jax.random.normal(direction_rng, images.shape, images.dtype)
    dimension = images[0].size
    radius = jax.random.uniform(radius_rng, eps.shape, images.dtype) ** (1.0 / dimension)
    return eps * radius * direction / l2_norm(direction)


def on_sphere(keys, images, eps, norm: str):
    """A perturbation of each image of norm eps [B, 1, ..., 1] from the image's own key of `keys` [B]: in linf uniform noise,
    in l2 a uniform direction, of the length eps. Not clipped to any bounds.
    """

    def draw(key):
        if norm == 'linf':
            return jax.random.uniform(key, images.shape[1:], images.dtype, -1.0, 1.0)
        return jax.random.normal(key, images.shape[1:], images.dtype)

    noise = jax.vmap(draw)(keys)
    return eps * noise / jnp.maximum(size(noise, norm), 1e-12)
