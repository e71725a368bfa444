"""Flows whose likelihood is attacked, and trained to withstand it (Pope, Balaji & Feizi 2020, arXiv:1911.08654)."""

import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gjax import attacks, masks, nets
from gjax.losses import bits_per_dim, dequantise, standard_normal_nll
from gjax.methods.base import DataInfo, State, new_state, update_player
from gjax.methods.classifier import check_norm, positive, ramp

PLAYER = 'flow'


@dataclasses.dataclass(frozen=True)
class LikelihoodEvaluation:
    """How likelihoods are attacked and scored; eps in [0, 1] units.

    norm, eps: ball of the test attack ('linf' or 'l2'). steps, restarts: of the final PGD, whose steps begin at
    2.5 eps / steps and fall to zero. draws: of the dequantisation noise over which the attacker, and apart from it the
    measurement, averages.
    curve: more radii. quick_steps: PGD steps of evaluations during training. ood: names of data sets of another
    distribution, or 'noise' (uniform pixels); ood_eps: radius of the attack on them (0: eps); ood_examples: of each at most.
    pictures: how many images are kept for figures.
    """

    norm: str = 'linf'
    eps: float = 8 / 255
    steps: int = 40
    restarts: int = 1
    draws: int = 1
    curve: tuple = ()
    quick_steps: int = 5
    ood: tuple = ()
    ood_eps: float = 0.0
    ood_examples: int = 1000
    pictures: int = 32

    def __post_init__(self):
        check_norm('evaluation.norm', self.norm)
        for name in ('eps', 'ood_eps', 'pictures'):
            positive(f'evaluation.{name}', getattr(self, name))
        for name in ('steps', 'restarts', 'draws', 'quick_steps', 'ood_examples'):
            positive(f'evaluation.{name}', getattr(self, name), zero=False)
        if list(self.curve) != sorted(self.curve) or any(eps < 0 for eps in self.curve):
            raise ValueError(f'evaluation.curve is {self.curve}; allowed: ascending radii >= 0')

    def options(self) -> dict:
        """Of the final attacks."""
        return {
            'steps': self.steps,
            'norm': self.norm,
            'restarts': self.restarts,
            'draws': self.draws,
            'step_schedule': 'cosine',
        }


@dataclasses.dataclass(frozen=True)
class FlowRobustness:
    """min (1 - w) E NLL(x) + w E max over |delta| <= eps of NLL(x + delta): clean training (w = 0), adversarial (w = 1),
    hybrid between.

    A hybrid step takes the first expectation over one half of the batch, the second over the other.

    adversarial_weight: w. eps, step_size: in [0, 1] units. attack_steps: of PGD. attack_norm: 'linf' or 'l2'.
    clean_epochs: how long w is 0 first (a warm start from the clean model). eps_warmup_epochs: how long the radius rises
    from 0 after that.
    """

    NETS: ClassVar[dict] = nets.FLOWS
    EVALUATION: ClassVar[type] = LikelihoodEvaluation

    net: Any
    optimizer: Any
    info: DataInfo
    evaluation: LikelihoodEvaluation
    adversarial_weight: float = 0.5
    eps: float = 8 / 255
    step_size: float = 2 / 255
    attack_steps: int = 10
    attack_norm: str = 'linf'
    clean_epochs: float = 0.0
    eps_warmup_epochs: float = 0.0

    init_examples: ClassVar[int] = 256  # on which the flow is normalised at its initialisation

    def __post_init__(self):
        if not 0 <= self.adversarial_weight <= 1:
            raise ValueError(f'method.adversarial_weight is {self.adversarial_weight}; allowed: 0..1')
        for name in ('eps', 'step_size', 'clean_epochs', 'eps_warmup_epochs'):
            positive(f'method.{name}', getattr(self, name))
        positive('method.attack_steps', self.attack_steps, zero=False)
        check_norm('method.attack_norm', self.attack_norm)

    @property
    def dimensions(self) -> int:
        """D, of an image."""
        height, width, channels = self.info.image_shape
        return height * width * channels

    def init(self, rng, batch) -> State:
        init_rng, noise_rng, run_rng = jax.random.split(rng, 3)
        images = batch['image']
        variables = self.net.init(init_rng, dequantise(images, jax.random.uniform(noise_rng, images.shape)))
        params = variables['params']
        stats = {PLAYER: variables.get('batch_stats', {})}
        return new_state(run_rng, {PLAYER: params}, stats, {PLAYER: self.optimizer.init(params)})

    def nll(self, state: State, images, rng, params=None):
        """-log p(y) [B] in nats, y the images [B, H, W, C] in [0, 1] dequantised with noise from rng."""
        params = masks.apply(state.masks[PLAYER], state.params[PLAYER] if params is None else params)
        variables = {'params': params, 'batch_stats': state.batch_stats[PLAYER]}
        noise = jax.random.uniform(rng, images.shape)
        return standard_normal_nll(*self.net.apply(variables, dequantise(images, noise)))

    def attack(self, state: State, images, *, rng):
        """The in-distribution attack of training at this step's radius."""
        since = state.step - round(self.clean_epochs * self.info.steps_per_epoch)
        scale = ramp(since, self.eps_warmup_epochs * self.info.steps_per_epoch)
        eps, step_size = self.eps * scale, self.step_size * scale
        options = {'steps': self.attack_steps, 'step_size': step_size, 'norm': self.attack_norm}
        return attacks.raise_nll(partial(self.nll, state), images, eps, rng=rng, **options)

    def _clean(self, state, images, rng):
        """(images, weights of their losses) of a clean step."""
        return images, jnp.full(len(images), 1 / len(images))

    def _hybrid(self, state, images, rng):
        """The same with attacked images: every second one, or all of them if w is 1."""
        if len(images) % 2 and self.adversarial_weight < 1:
            raise ValueError(f'train.batch_size is {len(images)}; allowed in hybrid training: even')
        weight = self.adversarial_weight
        if weight == 1:
            return self.attack(state, images, rng=rng), jnp.full(len(images), 1 / len(images))
        attacked = self.attack(state, images[1::2], rng=rng)
        clean = images[::2]
        inputs = jnp.stack([clean, attacked], axis=1).reshape(images.shape)
        shares = jnp.asarray([(1 - weight) / len(clean), weight / len(attacked)], jnp.float32)
        return inputs, jnp.tile(shares, len(clean))

    def step(self, state, batch):
        attack_rng, noise_rng = jax.random.split(state.step_rng())
        images, warm = batch['image'], round(self.clean_epochs * self.info.steps_per_epoch)
        if self.adversarial_weight == 0:
            images, weights = self._clean(state, images, attack_rng)
        elif warm:
            images, weights = jax.lax.cond(state.step < warm, self._clean, self._hybrid, state, images, attack_rng)
        else:
            images, weights = self._hybrid(state, images, attack_rng)

        def total(params):
            nll = self.nll(state, images, noise_rng, params)
            return jnp.sum(weights * nll) / self.dimensions, jnp.mean(nll)

        (loss, nll), gradients = jax.value_and_grad(total, has_aux=True)(state.params[PLAYER])
        state, norms = update_player(state, PLAYER, gradients, self.optimizer)
        metrics = {f'loss/{PLAYER}': loss, 'bits_per_dim': bits_per_dim(nll, self.dimensions)}
        return state.replace(step=state.step + 1), metrics | norms

    def generate(self, state: State, count: int, *, rng, temperature: float = 1.0):
        """`count` images [count, H, W, C] in [0, 1] from latents of N(0, temperature^2 I)."""
        latents = temperature * jax.random.normal(rng, (count, self.dimensions))
        variables = {'params': masks.apply(state.masks[PLAYER], state.params[PLAYER])}
        variables['batch_stats'] = state.batch_stats[PLAYER]
        return jnp.clip(self.net.apply(variables, latents, inverse=True)[0], 0.0, 1.0)

    def bits(self, state: State, images, rng):
        """Bits per dimension [B], over the draws of the noise that the evaluation takes."""
        nll = attacks.expected_nll(partial(self.nll, state), rng, self.evaluation.draws)
        return bits_per_dim(nll(images), self.dimensions)

    def evaluate(self, state, batch, *, rng):
        """Bits per dimension, clean and under a quick attack; each [B]."""
        test, images = self.evaluation, batch['image']
        attack_rng, noise_rng = jax.random.split(rng)
        options = {'steps': test.quick_steps, 'norm': test.norm}
        attacked = attacks.raise_nll(partial(self.nll, state), images, test.eps, rng=attack_rng, **options)
        return {
            'bits_per_dim': self.bits(state, images, noise_rng),
            'attacked_bits_per_dim': self.bits(state, attacked, noise_rng),
        }

    def final_evaluate(self, state, batch, *, rng):
        """Bits per dimension of images clean, under noise and attacked, [B], and at the radii of the curve, [B, E]. Where
        one is not finite it is 0 and its 'NAME_non_finite' 1.
        """
        test, images = self.evaluation, batch['image']
        attack_rng, noise_rng, measure_rng = jax.random.split(rng, 3)

        def perturbed(eps):
            attacked = attacks.raise_nll(partial(self.nll, state), images, eps, rng=attack_rng, **test.options())
            noisy = attacks.random_noise(images, eps, rng=noise_rng, norm=test.norm)
            return tuple(self.bits(state, x, measure_rng) for x in (attacked, noisy))

        found = {'bits_per_dim': self.bits(state, images, measure_rng)}
        radii = jnp.asarray([test.eps, *test.curve], jnp.float32)
        attacked, noisy = (values.T for values in jax.lax.map(perturbed, radii))
        found |= {'attacked_bits_per_dim': attacked[:, 0], 'noise_bits_per_dim': noisy[:, 0]}
        if test.curve:
            found |= {'attacked_curve': attacked[:, 1:], 'noise_curve': noisy[:, 1:]}
        finite = {name: jnp.isfinite(values) for name, values in found.items()}
        broken = {f'{name}_non_finite': 1 - finite[name].astype(jnp.float32) for name in found}
        return {name: jnp.where(finite[name], values, 0) for name, values in found.items()} | broken

    def conclude(self, means: dict) -> dict[str, float]:
        """Means over the finite values, if any, and the share of the others; a curve's radii by name."""
        concluded = {}

        def conclude(name, value, broken):
            concluded[f'{name}_non_finite'] = broken
            if broken < 1:
                concluded[name] = value / (1 - broken)

        for name in ('bits_per_dim', 'attacked_bits_per_dim', 'noise_bits_per_dim'):
            conclude(name, means[name], means[f'{name}_non_finite'])
        for kind in ('attacked', 'noise') if self.evaluation.curve else ():
            rows = zip(self.evaluation.curve, means[f'{kind}_curve'], means[f'{kind}_curve_non_finite'], strict=True)
            for eps, value, broken in rows:
                conclude(f'{kind}_bits_per_dim_at_{eps:.4f}', value, broken)
        return concluded

    def describe_example(self, state, batch):
        """Bits per dimension of un-augmented training images, [B]."""
        return {'bits_per_dim': self.bits(state, batch['image'], jax.random.fold_in(state.rng, 0))}

    def summarize(self, state):
        """The number of parameters."""
        return {'parameters': sum(leaf.size for leaf in jax.tree.leaves(state.params))}

    def summarize_examples(self, examples):
        """The mean over the training images."""
        return {'train_bits_per_dim': float(examples['bits_per_dim'].mean())}


METHOD = FlowRobustness
