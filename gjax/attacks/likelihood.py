"""Attacks on likelihoods (Pope, Balaji & Feizi 2020, arXiv:1911.08654): images of the training distribution made unlikely,
others likely. On any model with a density: `nll_fn(images, rng=...) -> [B]` of images [B, H, W, C] (or [B, ...]), where rng
is for the noise of the dequantisation (a model without noise leaves it alone).

The noise that an attack sees is drawn once, `draws` times, and its mean NLL attacked: with fresh noise at every step the
gradient would be that of the noise as much as of the image. Score what comes out with other noise.
"""

import jax
import jax.numpy as jnp

from gjax.attacks.balls import as_images, widened
from gjax.attacks.gradient import pgd, step_scales
from gjax.checks import check_eps, check_key, check_shape


def expected_nll(nll_fn, *, rng, draws: int = 1):
    """images -> the mean NLL [B] over `draws` of the noise, the same ones at every call.

    Args:
      nll_fn: (images [B, ...], rng=rng) -> nats [B].
      rng: a key.
      draws: >= 1.

    Raises:
      ValueError: draws < 1, no key as rng; when called, an NLL that is not [B].
    """
    check_key('rng', rng)
    if draws < 1:
        raise ValueError(f'draws is {draws}; allowed: >= 1')
    rngs = jax.random.split(rng, draws)

    def one(images, rng):
        nll = nll_fn(images, rng=rng)
        check_shape('nll_fn(images)', nll, (images.shape[0],), f'({images.shape[0]},), one value an image')
        return nll

    def expected(images):
        if draws == 1:
            return one(images, rngs[0])
        return jnp.mean(jax.vmap(lambda own: one(images, own))(rngs), axis=0)

    return expected


def _attack(nll_fn, images, eps, objective, *, rng, steps, step_size, draws, step_schedule, **options):
    """`pgd` on the expected NLL, by default in steps that add up to 2.5 eps: enough to cross the ball. Returns both."""
    check_key('rng', rng)
    images = as_images(images, options.get('bounds', (0.0, 1.0)))
    noise_rng, start_rng = jax.random.split(rng)
    nll = expected_nll(nll_fn, rng=noise_rng, draws=draws)
    if step_size is None:
        check_eps('eps', eps, 'l2')  # of either norm; `pgd` knows the bounds
        step_size = 2.5 * jnp.asarray(eps, widened(None, images)[1].dtype) / float(step_scales(step_schedule, steps).sum())
    options |= {'steps': steps, 'step_size': step_size, 'step_schedule': step_schedule}
    return pgd(nll, images, None, eps, rng=start_rng, objective=objective, **options), nll


def raise_nll(
    nll_fn, images, eps, *, rng, steps: int = 20, step_size=None, draws: int = 1, step_schedule='constant', **options
):
    """The in-distribution attack: max of E_u NLL(x + delta) over |delta| <= eps, by `pgd`.

    Args:
      nll_fn: (images, rng=rng) -> nats [B].
      images: [B, H, W, C] (or [B, ...]) within the bounds, of a dtype of `pgd`.
      eps: radius, float or [B], in units of the images.
      rng: key of the noise and of the random start.
      step_size: by default so that the steps add up to 2.5 eps.
      draws: of the noise.
      The rest, and options (norm, random_start, restarts, bounds), as in `pgd`.

    Returns:
      [B, H, W, C] within the bounds and within eps of `images`. Of several restarts the one with the highest NLL; one whose
      NLL is not finite beats all.

    Raises:
      ValueError: as `pgd`; draws < 1; an NLL that is not [B].
    """

    def objective(nll, _):
        return jnp.where(jnp.isfinite(nll), nll, jnp.inf)

    options |= {'steps': steps, 'step_size': step_size, 'draws': draws, 'step_schedule': step_schedule}
    return _attack(nll_fn, images, eps, objective, rng=rng, **options)[0]


def lower_nll(
    nll_fn,
    images,
    eps,
    *,
    rng,
    level=-jnp.inf,
    steps: int = 20,
    step_size=None,
    draws: int = 1,
    step_schedule='constant',
    **options,
):
    """The out-of-distribution attack: min of max(E_u NLL(x + delta), level) over |delta| <= eps, by `pgd`.

    Args:
      level: in nats, float or [B]; where the NLL is lower the attack rests, as an image that is too likely would give itself
        away. Under other noise the NLL will be somewhat higher: aim below what has to be reached.
      The rest as in `raise_nll`.

    Returns:
      [B, H, W, C] within the bounds and within eps of `images`. Of several restarts the one with the lowest NLL down to the
      level, the image itself if none has a finite one.

    Raises:
      ValueError: as `raise_nll`; a level that is neither a number nor [B].
    """
    if jnp.ndim(level):
        check_shape('level', level, (images.shape[0],), f'() or ({images.shape[0]},)')

    def objective(nll, _):
        return jnp.where(jnp.isfinite(nll), -jnp.maximum(nll, jnp.asarray(level, nll.dtype)), -jnp.inf)

    options |= {'steps': steps, 'step_size': step_size, 'draws': draws, 'step_schedule': step_schedule}
    found, nll = _attack(nll_fn, images, eps, objective, rng=rng, **options)
    finite = jnp.isfinite(nll(found)).reshape((-1,) + (1,) * (images.ndim - 1))
    return jnp.where(finite, found, images)
