"""Whether what an attack returned is allowed: within its ball and bounds, and finite."""

import jax.numpy as jnp
import numpy as np

from gjax.attacks.balls import l2_norm, per_example
from gjax.checks import check_bounds, check_eps, check_images, check_norm, check_shapes

SLACK = 1e-5  # how far rounding may lead outside the ball, as a share of the radius, and the bounds, as one of their width


def audit(adversarial, images, eps, *, norm: str = 'linf', bounds: tuple[float, float] = (0.0, 1.0)):
    """Which images an attack may return: finite ones, within the bounds and within eps of the clean ones.

    Args:
      adversarial, images: [B, ...] of one shape and float dtype.
      eps: radius, float or [B], in units of the images.
      norm: 'linf' or 'l2'.
      bounds: (low, high), the range of the images.

    Returns:
      bool [B]. Rounding is forgiven: a hundred-thousandth of the radius and of the width of the bounds.

    Raises:
      ValueError: an unknown norm, shapes or dtypes that do not fit, a concrete eps that is negative.
    """
    check_norm('norm', norm)
    check_bounds(bounds)
    check_shapes((None, None, ...), '[B, ...]', images=images, adversarial=adversarial)
    check_images('images', images, (-jnp.inf, jnp.inf))
    check_eps('eps', eps, norm, bounds)
    axes, slack = tuple(range(1, images.ndim)), SLACK * (bounds[1] - bounds[0])
    adversarial, images = (jnp.asarray(values).astype(jnp.float32) for values in (adversarial, images))
    delta, radius = adversarial - images, per_example('eps', eps, images).reshape(-1)
    size = jnp.max(jnp.abs(delta), axis=axes) if norm == 'linf' else l2_norm(delta).reshape(-1)
    inside = jnp.all((adversarial >= bounds[0] - slack) & (adversarial <= bounds[1] + slack), axis=axes)
    return inside & (size <= radius * (1 + SLACK) + 0.1 * slack)  # NaN compares false


def check_adversarial(adversarial, images, eps, *, norm: str = 'linf', bounds: tuple[float, float] = (0.0, 1.0)) -> None:
    """Raises ValueError, naming how many and the first one, unless every image passes `audit`; arguments as there.

    It looks at values, so call it outside of `jax.jit`.
    """
    allowed = np.asarray(audit(adversarial, images, eps, norm=norm, bounds=bounds))
    if not allowed.all():
        raise ValueError(
            f'{(~allowed).sum()} of {len(allowed)} adversarial images, the first at {np.argmin(allowed)}, are not finite, '
            f'outside {bounds[0]:g}..{bounds[1]:g} or further than eps from their clean images in {norm}'
        )
