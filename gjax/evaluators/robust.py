"""Clean and robust accuracy of classifiers: a quick attack while training, the worst case of several at the end."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from gjax import attacks
from gjax.checks import check_eps, check_norm, check_radii, each_of, positive
from gjax.evaluators.base import END, LOG
from gjax.evaluators.means import Means
from gjax.losses import correct, cross_entropy


@dataclasses.dataclass(frozen=True)
class RobustEvaluation:
    """How robust accuracy is measured; radii and step sizes in [0, 1] units."""

    norm: str = 'linf'  # ball of the test attacks: 'linf' or 'l2'
    eps: float = 8 / 255
    steps: int = 50  # of the final attacks
    restarts: int = 5  # random starts of the final PGD, of which the worst counts
    step_size: float = 2 / 255  # of the final PGD
    attacks: tuple = ('pgd',)  # of pgd, margin_pgd, momentum_iterative (linf alone); the worst case over all counts
    quick_steps: int = 10  # PGD steps of evaluations during training
    curve: tuple = ()  # radii of accuracy against eps
    curve_steps: int = 20  # of that curve's own PGD: one start, steps of 2.5 eps / curve_steps

    def __post_init__(self):
        positive('evaluation.step_size', self.step_size)
        for name in ('steps', 'restarts', 'quick_steps', 'curve_steps'):
            positive(f'evaluation.{name}', getattr(self, name), zero=False)
        if not self.attacks:
            raise ValueError('evaluation.attacks is empty; allowed: at least one of pgd, margin_pgd, momentum_iterative')
        check_norm('evaluation.norm', self.norm)
        check_eps('evaluation.eps', self.eps, self.norm)
        allowed = ('pgd', 'margin_pgd', 'momentum_iterative') if self.norm == 'linf' else ('pgd', 'margin_pgd')
        each_of('evaluation.attacks', self.attacks, allowed)
        check_radii('evaluation.curve', self.curve, self.norm, digits=4)  # as the metrics' names have

    def functions(self):
        """The final attacks as functions (logits_fn, images, labels, rng) -> adversarial images."""

        def pgd(logits_fn, images, labels, rng, attack=attacks.pgd):
            return attack(
                logits_fn,
                images,
                labels,
                self.eps,
                rng=rng,
                steps=self.steps,
                step_size=self.step_size,
                norm=self.norm,
                restarts=self.restarts,
            )

        def momentum(logits_fn, images, labels, rng):
            return attacks.momentum_iterative(
                logits_fn, images, labels, self.eps, steps=self.steps, step_size=self.eps / self.steps
            )

        named = {'pgd': pgd, 'margin_pgd': partial(pgd, attack=attacks.margin_pgd), 'momentum_iterative': momentum}
        return [named[name] for name in self.attacks]

    def protocol(self) -> str:
        """How the final accuracy is measured, in words."""
        names = ' and '.join(name.replace('_', ' ') for name in self.attacks)
        radius = f'{255 * self.eps:.4g}/255' if self.norm == 'linf' else f'{self.eps:.4g}'
        curve = f', curve of {self.curve_steps} steps' if self.curve else ''
        steps = f'{self.steps} steps of {self.step_size:.4g}'
        return f'worst case of {names}: {steps}, {self.restarts} starts, {self.norm} {radius}{curve}'


def _short_pgd(test: RobustEvaluation, logits_fn, images, labels, eps, rng, *, steps: int):
    """PGD from one random start whose steps add up to 2.5 eps."""
    step_size = 2.5 * eps / steps
    return attacks.pgd(logits_fn, images, labels, eps, rng=rng, steps=steps, step_size=step_size, norm=test.norm)


def quick_accuracy(logits_fn: Callable, batch, test: RobustEvaluation, *, rng) -> dict[str, jax.Array]:
    """Clean and quick-PGD correctness, and the clean loss; each float32 [B].

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K].
      batch: with 'image' and 'label'.
      test: norm, eps and quick_steps count.
      rng: a key, of the random start.
    """
    image, label = batch['image'], batch['label']
    logits = logits_fn(image)
    clean = correct(logits, label)
    adversarial = _short_pgd(test, logits_fn, image, label, test.eps, rng, steps=test.quick_steps)
    return {
        'clean_accuracy': clean.astype(jnp.float32),
        'robust_accuracy': (clean & correct(logits_fn(adversarial), label)).astype(jnp.float32),
        'clean_loss': cross_entropy(logits, label),
    }


def final_accuracy(logits_fn: Callable, batch, test: RobustEvaluation, *, rng) -> dict[str, jax.Array]:
    """Clean and worst-case correctness [B], and correctness [B, E] at the radii of the curve; arguments as above."""
    image, label = batch['image'], batch['label']
    attack_rng, curve_rng = jax.random.split(rng)
    survived = attacks.worst_case(logits_fn, image, label, test.functions(), rng=attack_rng)
    results = {
        'clean_accuracy': correct(logits_fn(image), label).astype(jnp.float32),
        'robust_accuracy': survived.astype(jnp.float32),
    }
    if test.curve:
        attack = partial(_short_pgd, test, steps=test.curve_steps)
        curve = attacks.accuracy_curve(logits_fn, image, label, test.curve, attack, rng=curve_rng)
        results['accuracy_curve'] = curve.astype(jnp.float32)
    return results


def curve_by_radius(test: RobustEvaluation, means: dict) -> dict[str, float]:
    """The means of `final_accuracy` with the curve as numbers, one radius a name: 'accuracy_at_0.0314'."""
    found = {name: value for name, value in means.items() if name != 'accuracy_curve'}
    curve = zip(test.curve, means.get('accuracy_curve', ()), strict=True)
    return found | {f'accuracy_at_{eps:.4f}': value for eps, value in curve}


def robust_accuracy(logits: Callable, test: RobustEvaluation) -> tuple[Means, Means]:
    """The evaluators of a classifier's accuracy: cheap ones while training, the final protocol at the end.

    Args:
      logits: (state, images [B, H, W, C]) -> [B, K], as evaluation sees them.
      test: the options.
    """

    def quick(state, batch, *, rng):
        return quick_accuracy(partial(logits, state), batch, test, rng=rng)

    def final(state, batch, *, rng):
        return final_accuracy(partial(logits, state), batch, test, rng=rng)

    return (
        Means(quick, when=LOG, needs=('label',)),
        Means(
            final,
            when=END,
            conclude=partial(curve_by_radius, test),
            splits=('test',),
            needs=('label',),
            protocol=test.protocol(),
            concerns=('robust_accuracy', 'accuracy_at_'),
        ),
    )
