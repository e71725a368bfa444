"""Norm balls around images: projection, steepest ascent, uniform sampling. Radii may differ from image to image."""

import jax
import jax.numpy as jnp
import numpy as np

NORMS = ('linf', 'l2')


def check_norm(norm: str) -> None:
    """Raises ValueError unless `norm` is one of NORMS."""
    if norm not in NORMS:
        raise ValueError(f'norm is {norm!r}; allowed: {", ".join(NORMS)}')


def per_example(value, images):
    """A float or [B] array as [B, 1, ..., 1], to broadcast against images [B, ...].

    Raises:
      ValueError: another shape, or a negative value or NaN (seen only in Python's and NumPy's numbers, not in JAX's).
    """
    if not isinstance(value, jax.Array) and not np.all(np.asarray(value) >= 0):
        raise ValueError(f'a radius or step size is {value}; allowed: >= 0')
    value = jnp.asarray(value, images.dtype)
    if value.shape not in ((), (images.shape[0],)):
        raise ValueError(f'a radius or step size has shape {value.shape}; allowed: () or ({images.shape[0]},)')
    return jnp.broadcast_to(value, images.shape[:1]).reshape((-1,) + (1,) * (images.ndim - 1))


def l2_norm(values):
    """Euclidean norm of each example, [B, ...] -> [B, 1, ..., 1]."""
    return jnp.sqrt(jnp.sum(values**2, axis=tuple(range(1, values.ndim)), keepdims=True))


def project(adversarial, images, eps, norm: str):
    """The nearest point of {x : |x - images| <= eps}, then clipped to [0, 1].

    Args:
      adversarial, images: [B, H, W, C].
      eps: [B, 1, 1, 1], in units of the images.
      norm: 'linf' or 'l2'.
    """
    delta = adversarial - images
    if norm == 'linf':
        delta = jnp.clip(delta, -eps, eps)
    else:
        delta = delta * jnp.minimum(1.0, eps / jnp.maximum(l2_norm(delta), 1e-12))
    return jnp.clip(images + delta, 0.0, 1.0)


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
    """A uniform draw from the ball of radius eps [B, 1, 1, 1], shape of images; not clipped to [0, 1]."""
    if norm == 'linf':
        return eps * jax.random.uniform(rng, images.shape, images.dtype, -1.0, 1.0)
    direction_rng, radius_rng = jax.random.split(rng)
    direction = jax.random.normal(direction_rng, images.shape, images.dtype)
    dimension = images[0].size
    radius = jax.random.uniform(radius_rng, eps.shape, images.dtype) ** (1.0 / dimension)
    return eps * radius * direction / l2_norm(direction)
