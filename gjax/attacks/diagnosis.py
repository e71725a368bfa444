"""Signs that attacks overstate how robust a model is: evidence from one batch, and warnings in words.

Croce & Hein 2020 (arXiv:2003.01690) raise some of them in AutoAttack, Carlini et al. 2019 (arXiv:1902.06705, section 3)
and Athalye et al. 2018 (arXiv:1802.00420, section 3.1) list the others. A warning is no proof of a fault, and silence no
proof of robustness.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gjax.attacks.audit import audit
from gjax.attacks.balls import as_images, widened
from gjax.attacks.gradient import pgd, random_noise
from gjax.attacks.square_search import square
from gjax.checks import check_eps, check_integers, check_norm, check_shape
from gjax.losses import correct, cross_entropy

STEPS = 20  # of the gradient attack that the evidence is from
DRAWS = 10  # of random noise, of which each image meets the worst
QUERIES = 200  # of the Square attack
SAME = 1e-4  # two passes agree if their logits differ by less, as a share of the largest logit
SUMS = 1e-4  # how far sums of probabilities may be from 1


class Evidence(NamedTuple):
    """What one radius shows about a model, image by image."""

    logits: jax.Array  # [B, K], of the clean images
    zero_gradient: jax.Array  # bool [B]: no entry of the gradient of the cross-entropy by the image differs from zero
    attacked: jax.Array  # bool [B]: the model is right on the image of the gradient attack
    noisy: jax.Array  # bool [B]: it is right on every draw of random noise
    allowed: jax.Array  # bool [B]: the attack's image passes `gjax.attacks.audit`


def evidence(
    logits_fn: Callable,
    images,
    labels,
    eps,
    *,
    rng,
    norm: str = 'linf',
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Evidence:
    """What a short gradient attack and random noise of radius eps do; runs under `jax.jit`, also with a traced eps.

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K].
      images: [B, H, W, C] (or [B, ...]) within the bounds.
      labels: int [B].
      eps: radius, float or [B].
      rng: a key.
      norm: 'linf' or 'l2'.
      bounds: (low, high), the range of the images.

    Raises:
      ValueError: as `gjax.attacks.pgd`.
    """
    attack_rng, noise_rng = jax.random.split(rng)
    images = as_images(images, bounds)
    wide, wide_images = widened(logits_fn, images)
    gradient = jax.grad(lambda x: jnp.sum(cross_entropy(wide(x), labels)))(wide_images)
    step_size = 2.5 * jnp.asarray(eps, wide_images.dtype) / STEPS
    options = {'norm': norm, 'bounds': bounds}
    found = pgd(logits_fn, images, labels, eps, rng=attack_rng, steps=STEPS, step_size=step_size, **options)

    def right_on_noise(draw_rng):
        return correct(logits_fn(random_noise(images, eps, rng=draw_rng, **options)), labels)

    return Evidence(
        logits_fn(images),
        jnp.all(gradient == 0, axis=tuple(range(1, images.ndim))),
        correct(logits_fn(found), labels),
        jnp.all(jax.lax.map(right_on_noise, jax.random.split(noise_rng, DRAWS)), axis=0),
        audit(found, images, eps, **options),
    )


def half_range(image_shape: tuple[int, ...], *, norm: str = 'linf', bounds: tuple[float, float] = (0.0, 1.0)) -> float:
    """The radius within which every image can become the same one, that of mid-range values: no model can then be right
    more often than by chance. Half the width of the bounds or, in l2, that times the root of the number of entries.
    """
    half = (bounds[1] - bounds[0]) / 2
    return half if norm == 'linf' else half * float(np.prod(image_shape)) ** 0.5


def loops(function: Callable, *arguments) -> list[str]:
    """The loops that a function runs, also inside functions that it calls: 'scan of 200 rounds' or 'while'.

    Args:
      function: pure; it is traced, not run.
      arguments: arrays, or pytrees of `jax.ShapeDtypeStruct`.
    """
    found = []

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            name = equation.primitive.name
            if name == 'while':
                found.append('while')
            elif name == 'scan' and equation.params['length'] > 1:
                found.append(f'scan of {equation.params["length"]} rounds')
            for inner in _jaxprs(tuple(equation.params.values())):
                walk(inner)

    walk(jax.make_jaxpr(function)(*arguments).jaxpr)
    return found


def _jaxprs(value):
    """The programs among the parameters of one operation."""
    if hasattr(value, 'eqns'):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _jaxprs(item)


def loop_warnings(found: list[str]) -> list[str]:
    """The warning about what `loops` found in a model, if anything."""
    if not found:
        return []
    kinds = ', '.join(dict.fromkeys(found))
    return [
        f'the model runs {len(found)} loop{"s" * (len(found) > 1)} ({kinds}): if that optimises at test time, attack it '
        'through the unrolled loop (attacks.unrolled) and by attacks.bpda'
    ]


def _share(mask) -> str:
    return f'{int(mask.sum())} of {len(mask)} images'


def output_warnings(logits, again=None) -> list[str]:
    """What the outputs of a model say: probabilities instead of logits, and randomness.

    Args:
      logits: [B, K], of one pass.
      again: [B, K], of another pass over the same images; None for no comparison.
    """
    logits, found = np.asarray(logits, np.float64), []
    if again is not None:
        largest = np.max(np.abs(logits), initial=0)
        difference = float(np.max(np.abs(np.asarray(again, np.float64) - logits), initial=0))
        if not difference <= SAME * largest:
            found.append(
                f'two passes over the same images differ by up to {difference:.3g} in the logits (the largest is '
                f'{largest:.3g}): attack the expectation over the randomness (attacks.expectation)'
            )
    if logits.min() >= 0 and logits.max() <= 1 and np.all(np.abs(logits.sum(axis=1) - 1) <= SUMS):
        found.append(
            f'the outputs are probabilities: the rows of all {len(logits)} images lie in 0..1 and sum to 1; give attacks '
            'the logits, whose gradients do not vanish where the model is confident'
        )
    return found


def attack_warnings(
    at_eps: Evidence, at_zero: Evidence, at_half: Evidence, labels, eps: float, half: float, squared=None
) -> list[str]:
    """What attacks of three radii say about whether gradients lead anywhere.

    Args:
      at_eps, at_zero, at_half: of `evidence` on one batch, at the radius of the evaluation, at 0 and at `half_range`.
      labels: int [B].
      eps, half: the first and the last of these radii.
      squared: bool [B], whether the model is right on the image of a Square attack of radius eps; None if there was none.
    """
    at_eps, at_zero, at_half = (Evidence(*map(np.asarray, each)) for each in (at_eps, at_zero, at_half))
    labels, found = np.asarray(labels), []
    clean = np.asarray(correct(jnp.asarray(at_eps.logits), jnp.asarray(labels)))
    right = int(clean.sum())
    if stuck := int((clean & at_eps.zero_gradient).sum()):
        found.append(
            f'the gradient of the loss by the image is exactly zero for {stuck} of {right} images that the model gets '
            'right: gradient attacks have no direction there, and leave such images standing without being resisted'
        )
    by_gradient, blind = int((clean & ~at_eps.attacked).sum()), {f'{DRAWS} draws of random noise': at_eps.noisy}
    if squared is not None:
        blind[f'the Square attack, {QUERIES} queries without a gradient,'] = np.asarray(squared)
    for name, survived in blind.items():
        if (fooled := int((clean & ~survived).sum())) > by_gradient:
            found.append(
                f'of {right} images that the model gets right {name} of radius {eps:.4g} fool{"s" * ("Square" in name)} '
                f'{fooled}, a gradient attack of {STEPS} steps {by_gradient}: gradients do not lead to adversarial images'
            )
    if moved := int((clean & ~at_zero.attacked).sum()):
        found.append(
            f'an attack of radius 0 fools {moved} of {right} images that the model gets right: the evaluation is random by '
            'itself'
        )
    chance = np.bincount(labels).max() / len(labels)
    slack = 2 * np.sqrt(chance * (1 - chance) / len(labels))
    accuracy = float(np.mean(clean & at_half.attacked))
    if accuracy > chance + slack:
        found.append(
            f'accuracy is {accuracy:.3f} under a gradient attack of radius {half:.4g}, which can turn every image into the '
            f'same one: at most {chance:.3f}, by chance, would be left by an attack that works'
        )
    return found


def diagnose(
    logits_fn: Callable,
    images,
    labels,
    eps: float,
    *,
    rng,
    norm: str = 'linf',
    bounds: tuple[float, float] = (0.0, 1.0),
) -> list[str]:
    """Warnings, each one sentence with its numbers, about evaluating a model by gradient attacks; [] if there are none.

    It looks for gradients that are exactly zero, outputs that are random or probabilities, noise or a short Square attack
    (of images [B, H, W, C], in l2 of 5 x 5 pixels or more) that beats a gradient attack, loops inside the model, success at
    radius 0, and accuracy above chance where every image can become the same. It compiles the model four times and costs a
    few hundred passes over the images, so give it a batch, not a test set.

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K].
      images: [B, H, W, C] (or [B, ...]) within the bounds; a hundred of all classes will do.
      labels: int [B], the true labels.
      eps: the radius of the evaluation, a number.
      rng: a key.
      norm: 'linf' or 'l2'.
      bounds: (low, high), the range of the images.

    Raises:
      ValueError: as `gjax.attacks.pgd`; an attack returned an image that `audit` does not allow.
    """
    check_norm('norm', norm)
    images = as_images(images, bounds)
    check_shape('labels', labels, (len(images),), f'({len(images)},), one an image')
    check_integers(labels=labels)
    check_shape('eps', np.asarray(eps), ())
    check_eps('eps', eps, norm, bounds)
    # Two programs, for a model may be random only when it is traced.
    passes = [jax.jit(lambda x: logits_fn(x))(images) for _ in range(2)]
    half = half_range(images.shape[1:], norm=norm, bounds=bounds)
    program = jax.jit(lambda *inputs: evidence(logits_fn, *inputs, rng=rng, norm=norm, bounds=bounds))
    found = [program(images, labels, np.float32(radius)) for radius in (eps, 0.0, half)]
    refuse_disallowed(*found)
    searched = images.ndim == 4 and (norm == 'linf' or min(images.shape[1:3]) >= 5)
    squared = _under_square(logits_fn, images, labels, eps, rng, norm, bounds) if searched else None
    return [
        *output_warnings(*passes),
        *attack_warnings(*found, labels, float(eps), half, squared),
        *loop_warnings(loops(logits_fn, images)),
    ]


def _under_square(logits_fn, images, labels, eps, rng, norm, bounds) -> np.ndarray:
    """Whether the model is right on what a short Square attack finds, bool [B]."""

    def right(images, labels):
        found = square(logits_fn, images, labels, eps, rng=rng, norm=norm, queries=QUERIES, bounds=bounds)
        return correct(logits_fn(found), labels)

    return np.asarray(jax.jit(right)(images, labels))


def refuse_disallowed(*found: Evidence) -> None:
    """Raises ValueError if an attack on which evidence stands returned an image that it may not."""
    allowed = np.concatenate([np.asarray(each.allowed) for each in found])
    if not allowed.all():
        raise ValueError(f'a gradient attack left its ball, its bounds or the finite numbers in {_share(~allowed)}')
