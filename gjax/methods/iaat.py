"""Instance-adaptive adversarial training (Balaji, Goldstein & Hoffman 2019, arXiv:1910.08051).

min_theta (1/N) sum_i max_{|d|_inf <= eps_i} CE(f(x_i + d), y_i), with one radius eps_i per training example: nudged up
while the example stays robust at a slightly larger radius, down when it is not. All radii are in [0, 1] units.

One default differs from the authors' code: attacks start within [0, 1] (`IAAT.clip_start`).
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from gjax import attacks
from gjax.checks import check_eps, positive
from gjax.losses import correct, cross_entropy
from gjax.methods.core.classifier import PLAYER, Classifier
from gjax.methods.core.optimisers import ramp
from gjax.metrics import spearman
from gjax.nets.layers import BATCH_NORM_RETENTION


def attack_step_size(eps, attack_steps: int, min_step):
    """alpha_i = max(eps_i / (0.5 T), a0): any start reaches any corner of the ball in T steps. eps float or [B]."""
    return jnp.maximum(eps / (0.5 * attack_steps), min_step)


def select_radius(radius, robust, robust_above, clean_correct, *, gamma, beta, eps_max=None):
    """The radius rule after warm-up; every array is [B].

    candidate = e + gamma if robust at e + gamma; else e if robust at e; else e - gamma. Robust at e + gamma decides even
    where the attack at e succeeded. Clean-misclassified examples get candidate 0; candidates are clipped at 0 (and, as an
    option the paper does not have, at eps_max). Then eps = beta candidate + (1 - beta) e.

    Args:
      radius: e, the memory's entries, >= 0.
      robust: bool, still correct under the attack at e.
      robust_above: bool, still correct under the attack at e + gamma.
      clean_correct: bool, correct on the clean image.
      gamma: discretisation of the radius, > 0.
      beta: smoothing in [0, 1].
      eps_max: optional cap on the candidate.

    Returns:
      The new radius, [B].
    """
    candidate = jnp.where(robust_above, radius + gamma, jnp.where(robust, radius, radius - gamma))
    candidate = jnp.maximum(jnp.where(clean_correct, candidate, 0.0), 0.0)
    if eps_max is not None:
        candidate = jnp.minimum(candidate, eps_max)
    return beta * candidate + (1 - beta) * radius


@dataclasses.dataclass(frozen=True)
class IAAT(Classifier):
    """The paper's method; defaults are its CIFAR-10 values, but for `clip_start`."""

    attack_batch_norm: str = 'train_update'
    eps: float = 8 / 255  # radius of the warm-up
    gamma: float = 1.9 / 255  # see `select_radius`
    beta: float = 0.1  # see `select_radius`
    min_step: float = 2 / 255  # a0
    attack_steps: int = 10
    warmup_epochs: int = 10  # W, counted from 0
    # The warm-up radius rises linearly from zero over this time, like that of the uniform attacks; 0, the paper: eps from
    # the start.
    eps_warmup_epochs: float = 0.0
    # Whether the random start of every attack is clipped to [0, 1] before the first gradient. The authors' code takes that
    # gradient at the start as drawn, outside [0, 1] in 22 to 30 % of the pixels; with the same draws 1 to 4 radii of 128 are
    # others after a step.
    clip_start: bool = True
    eps_max: float = 0.0  # cap on all radii, the warm-up's included; 0, the paper: none
    # Train on the selection's own attack image (at e + gamma where the radius rose, else at e), projected to eps_i. This
    # saves a third of the cost and changes the method.
    reuse_attack: bool = False

    def __post_init__(self):
        super().__post_init__()
        for name in ('gamma', 'min_step', 'warmup_epochs', 'eps_warmup_epochs'):
            positive(f'method.{name}', getattr(self, name))
        for name in ('eps', 'eps_max'):
            check_eps(f'method.{name}', getattr(self, name), self.attack_norm)
        positive('method.attack_steps', self.attack_steps, zero=False)
        if not 0 <= self.beta <= 1:
            raise ValueError(f'method.beta is {self.beta}; allowed: 0..1')

    def init_memory(self):
        return {'radius': jnp.zeros(self.info.num_examples, jnp.float32)}

    def _pgd(self, state, stats, images, labels, eps, rng):
        return attacks.pgd(
            self.attack_logits(state),
            images,
            labels,
            eps,
            rng=rng,
            steps=self.attack_steps,
            step_size=attack_step_size(eps, self.attack_steps, self.min_step),
            norm=self.attack_norm,
            clip_start=self.clip_start,
            carry=stats,
        )

    def _selection(self, state, stats, images, labels, radius, clean_correct, rng):
        """New radii [B], the statistics after both attacks, and the images to reuse (used only with reuse_attack)."""

        def attack(eps, rng):
            adversarial, after = self._pgd(state, stats, images, labels, eps, rng)
            logits, after = self.attack_logits(state)(adversarial, after)
            return adversarial, correct(logits, labels), after

        # Attacks A (radius e) and B (radius e + gamma) run as one batched attack.
        radii = jnp.stack([radius, radius + self.gamma])
        adversarial, robust, after = jax.vmap(attack)(radii, jax.random.split(rng))
        new = select_radius(
            radius,
            robust[0],
            robust[1],
            clean_correct,
            gamma=self.gamma,
            beta=self.beta,
            eps_max=self.eps_max or None,
        )
        reused = jnp.where(robust[1][:, None, None, None], adversarial[1], adversarial[0])
        return new, self._one_after_the_other(stats, after), reused

    def _one_after_the_other(self, start, after):
        """The statistics had B begun where A ended, from `after` ([2, ...]: both begun at `start`).

        A training-mode pass maps s to a s + (1 - a) batch, and the batch's part does not depend on s: after k passes a
        difference d in the start is one of a^k d.
        """
        if self.attack_batch_norm != 'train_update':
            return start
        factor = BATCH_NORM_RETENTION ** (self.attack_steps + 1)
        return jax.tree.map(lambda s, both: both[1] + factor * (both[0] - s), start, after)

    def step(self, state, batch):
        images, labels, index = batch['image'], batch['label'], batch['index']
        selection_rng, attack_rng = jax.random.split(state.step_rng())
        logits, stats = self.attack_logits(state)(images, state.batch_stats[PLAYER])
        clean_correct = correct(logits, labels)
        remembered = state.memory['radius'][index]

        def warm_up(stats):
            eps = self.eps * ramp(state.step, self.eps_warmup_epochs * self.info.steps_per_epoch)
            eps = jnp.minimum(eps, self.eps_max) if self.eps_max else eps
            return eps * clean_correct.astype(jnp.float32), stats, images

        def adapt(stats):
            return self._selection(state, stats, images, labels, remembered, clean_correct, selection_rng)

        epoch = state.step // self.info.steps_per_epoch
        warm = epoch < self.warmup_epochs
        radius, stats, reused = lax.cond(warm, warm_up, adapt, stats)

        def fresh(stats):
            return self._pgd(state, stats, images, labels, radius, attack_rng)

        def reuse(stats):
            return attacks.project(reused, images, radius[:, None, None, None], self.attack_norm), stats

        if self.reuse_attack:
            adversarial, stats = lax.cond(warm, fresh, reuse, stats)
        else:
            adversarial, stats = fresh(stats)
        state = state.replace(memory={'radius': state.memory['radius'].at[index].set(radius)})
        state, metrics = self.minimize(state, lambda apply: cross_entropy(apply(adversarial), labels), stats)
        return state, {**metrics, 'batch_radius': radius.mean(), 'batch_clean_accuracy': clean_correct.mean()}

    def summarize(self, state):
        """Mean and deciles of the radii, and their histogram over 32 bins of width eps / 8 (the last takes the rest)."""
        radius = state.memory['radius']
        edges = jnp.arange(32, dtype=jnp.float32) * max(self.eps, 1e-6) / 8
        counts = jnp.bincount(jnp.clip(jnp.searchsorted(edges, radius, side='right') - 1, 0), length=32)
        low, middle, high = jnp.quantile(radius, jnp.asarray([0.1, 0.5, 0.9]))
        return {
            'mean_radius': radius.mean(),
            'radius_p10': low,
            'radius_p50': middle,
            'radius_p90': high,
            'radius_histogram': counts,
            'radius_bin_width': edges[1],
        }

    def summarize_examples(self, examples):
        """Mean radius of right and of misclassified training images, and the rank correlation of radius and margin."""
        radius, right = examples['radius'], examples['correct']
        groups = {'correct': right, 'misclassified': ~right}
        means = {f'mean_radius_{name}': float(radius[rows].mean()) for name, rows in groups.items() if rows.any()}
        return means | {'radius_margin_correlation': spearman(radius, examples['margin'])}


METHOD = IAAT
