"""The multi-targeted attack: margin PGD against each of the classes that the clean image comes closest to."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from gjax.attacks.apgd import top_targets
from gjax.attacks.balls import as_images, finished, per_example, widened
from gjax.attacks.gradient import pgd
from gjax.checks import check_eps, check_integers, check_key, check_norm, check_shape, positive
from gjax.losses import correct, margin


def target_margin(logits, labels, targets):
    """z_t - z_y: positive where the target t scores higher than the label y.

    Args:
      logits: [B, K].
      labels: int [B], y.
      targets: int [B], t.

    Returns:
      [B].
    """

    def chosen(classes):
        return jnp.take_along_axis(logits, classes[:, None], axis=1)[:, 0]

    return chosen(targets) - chosen(labels)


def multi_targeted(
    logits_fn: Callable,
    images,
    labels,
    eps,
    *,
    rng,
    steps: int = 30,
    targets: int = 9,
    norm: str = 'linf',
    random_start: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
):
    """PGD on z_t - z_y for each of the classes t that score highest on the clean image, one after the other.

    Gowal et al. 2019, "An Alternative Surrogate Loss for PGD-based Adversarial Testing" (arXiv:1910.09338), Algorithm 1. The
    first step is 2 eps long, enough to reach any point of the ball, and the steps fall to zero along half a cosine. With 10
    classes it costs 270 gradient steps, about as much as PGD-50 from 5 starts.

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K] with K >= 2.
      images: [B, H, W, C] (or [B, ...]) within the bounds, of a dtype of `pgd`.
      labels: int [B], the true labels.
      eps: radius, float or [B], in units of the images.
      rng: a key, of the random starts.
      steps: gradient steps against each class, >= 0.
      targets: how many classes are tried, >= 1; all K - 1 others where there are fewer.
      norm: 'linf' or 'l2'.
      random_start: start uniformly in the ball, at another point for every class, rather than at the image. On three
        small networks both starts fooled as many images, within two of 500.
      bounds: (low, high), the range of the images.

    Returns:
      [B, H, W, C] within the bounds and within eps of `images`: of each image what the first class gave that fools the
      model, else what has the highest max_{k != y} z_k - z_y. An image that is misclassified without an attack comes back as
      it is. The classes end early once every image of the batch has fallen, which changes no result.

    Raises:
      ValueError: as `pgd`; targets < 1, labels that are no integers, logits of fewer than two classes.
    """
    check_norm('norm', norm)
    check_key('rng', rng)
    positive('steps', steps)
    positive('targets', targets, zero=False)
    originals = as_images(images, bounds)
    check_eps('eps', eps, norm, bounds)
    check_shape('labels', labels, (len(originals),), f'({len(originals)},), one an image')
    check_integers(labels=labels)
    labels = jnp.asarray(labels)
    logits_fn, images = widened(logits_fn, originals)
    radii = per_example('eps', eps, images)
    logits = logits_fn(images)
    check_shape('logits', logits, (len(images), None), f'({len(images)}, K)')
    classes = logits.shape[1]
    if classes < 2:
        raise ValueError(f'the number of classes is {classes}; allowed: at least 2')
    order = top_targets(logits, labels, targets)
    step_size = 2 * radii.reshape(-1)
    options = {'steps': steps, 'step_size': step_size, 'step_schedule': 'cosine', 'norm': norm, 'bounds': bounds}

    def judged(logits):
        return ~correct(logits, labels), -margin(logits, labels)

    def attack(state):
        i, best, fooled, value = state

        def objective(logits, targets):
            return target_margin(logits, labels, targets)

        own_rng = jax.random.fold_in(rng, i)
        own = {'rng': own_rng, 'objective': objective, 'random_start': random_start, **options}
        found = pgd(logits_fn, images, order[i], radii.reshape(-1), **own)
        hit, reached = judged(logits_fn(found))
        better = ~fooled & (hit | (reached > value))
        best = jnp.where(better.reshape((-1,) + (1,) * (images.ndim - 1)), found, best)
        return i + 1, best, fooled | hit, jnp.where(better, reached, value)

    def goes_on(state):
        return (state[0] < len(order)) & ~jnp.all(state[2])

    _, found, _, _ = lax.while_loop(goes_on, attack, (jnp.int32(0), images, *judged(logits)))
    return finished(found, originals, radii, norm, bounds)
