"""Robust evaluation: the worst case per example over attacks and restarts, and accuracy against eps."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from gjax.attacks.audit import audit
from gjax.attacks.balls import widened
from gjax.checks import check_images, check_integers, check_key, check_radii, check_shape, concrete
from gjax.losses import correct


def _checked(images, labels, rng):
    """Images and labels as JAX arrays; ValueError for inputs that do not fit, as documented below."""
    check_key('rng', rng)
    check_images('images', images, (-jnp.inf, jnp.inf))
    check_shape('labels', labels, (images.shape[0],), f'({images.shape[0]},), one an image')
    check_integers(labels=labels)
    return jnp.asarray(images), jnp.asarray(labels)


def _right(logits_fn: Callable, adversarial, images, labels):
    """Whether the model is right on adversarial images, bool [B]; ValueError for other shapes of these or of the logits."""
    check_shape('the adversarial images', adversarial, images.shape, f'{images.shape}, that of images')
    logits = logits_fn(adversarial)
    check_shape('logits', logits, (len(images), None), f'({len(images)}, K)')
    return correct(logits, labels)


class Outcomes(NamedTuple):
    """What several attacks did to a batch, each attack on every image."""

    clean: jax.Array  # bool [B]: the model is right on the clean image
    right: jax.Array  # bool [B, A]: it is right on the clean image and on that of attack a
    allowed: jax.Array  # bool [B, A]: the image of attack a passes `gjax.attacks.audit`


def outcomes(
    logits_fn: Callable,
    images,
    labels,
    attacks: Sequence[Callable],
    *,
    rng,
    eps=None,
    norm: str = 'linf',
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Outcomes:
    """Correctness under each of several attacks, and an audit of every image that they return.

    Args:
      eps, norm, bounds: what the attacks were allowed, for the audit; eps is a float or [B], or None for no audit.
      The rest as in `worst_case`.

    Raises:
      ValueError: as `worst_case`; and as `gjax.attacks.audit`, if there is one.
    """
    images, labels = _checked(images, labels, rng)
    clean = _right(logits_fn, images, images, labels)
    right, allowed = [], []
    for i, attack in enumerate(attacks):
        adversarial = attack(logits_fn, images, labels, jax.random.fold_in(rng, i))
        right.append(clean & _right(logits_fn, adversarial, images, labels))
        sound = jnp.ones_like(clean) if eps is None else audit(adversarial, images, eps, norm=norm, bounds=bounds)
        allowed.append(sound)
    none = jnp.ones((len(images), 0), bool)  # so that no attack at all is allowed
    return Outcomes(clean, *(jnp.stack(found, axis=1) if found else none for found in (right, allowed)))


def worst_case(logits_fn: Callable, images, labels, attacks: Sequence[Callable], *, rng):
    """True where the model is right on the clean image and on every attack's image.

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K].
      images: [B, H, W, C] (or [B, ...]) of a float dtype, within the bounds of the attacks.
      labels: int [B].
      attacks: functions (logits_fn, images, labels, rng) -> adversarial images.
      rng: a key; attack i sees fold_in(rng, i).

    Returns:
      bool [B].

    Raises:
      ValueError: shapes or dtypes that do not fit, also of what logits_fn or an attack returns; an empty batch; no key.
    """
    found = outcomes(logits_fn, images, labels, attacks, rng=rng)
    return found.clean & jnp.all(found.right, axis=1)


def accuracy_curve(logits_fn: Callable, images, labels, eps_values, attack: Callable, *, rng):
    """Worst-case correctness at rising radii; an example that falls at one radius counts as fallen at every larger one.

    Args:
      eps_values: [E] with E >= 1, ascending, in units of the images; 0 gives clean correctness.
      attack: (logits_fn, images, labels, eps, rng) -> adversarial images. What it refuses of a radius (a linf one above the
        width of its bounds, say) it refuses here too, where the radii are concrete.
      The rest as in `worst_case`.

    Returns:
      bool [B, E], not increasing along E.

    Raises:
      ValueError: as `worst_case`; radii of another shape, none of them or, where they are concrete, such as are negative,
        not ascending, or none for the attack.
    """
    images, labels = _checked(images, labels, rng)
    dtype = widened(None, images)[1].dtype
    values, eps_values = concrete(eps_values), jnp.asarray(eps_values, dtype)
    check_shape('eps_values', eps_values, (None,), '[E]')
    if not len(eps_values):
        raise ValueError('eps_values is empty; allowed: at least one radius')
    if values is not None:
        check_radii('eps_values', values.tolist())
        largest = values.astype(dtype)[-1]  # below, where radii are traced, the attack's own checks cannot see them
        jax.eval_shape(lambda images, labels, rng: attack(logits_fn, images, labels, largest, rng), images, labels, rng)

    def body(survived, inputs):
        eps, eps_rng = inputs
        survived &= _right(logits_fn, attack(logits_fn, images, labels, eps, eps_rng), images, labels)
        return survived, survived

    _, curve = lax.scan(
        body, _right(logits_fn, images, images, labels), (eps_values, jax.random.split(rng, eps_values.shape[0]))
    )
    return curve.T
