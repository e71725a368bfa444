"""Flows whose likelihood is attacked, and trained to withstand it (Pope, Balaji & Feizi 2020, arXiv:1911.08654)."""

import dataclasses
import itertools
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from gjax import attacks, masks, nets
from gjax.losses import bits_per_dim, dequantise
from gjax.methods.base import DataInfo, State, new_state, update_player
from gjax.methods.classifier import check_norm, check_radii, positive, ramp
from gjax.nets.flow import flow_nll, flow_samples

PLAYER = 'flow'


@dataclasses.dataclass(frozen=True)
class LikelihoodEvaluation:
    """How likelihoods are attacked and scored; eps in [0, 1] units.

    norm, eps: ball of the test attack ('linf' or 'l2'). steps, restarts: of the final PGD, whose steps fall to zero and add
    up to 2.5 eps. draws: of the dequantisation noise over which the attacker averages, and the measurement, over others.
    curve: more radii. quick_steps: PGD steps of evaluations during training. ood: names of data sets of another
    distribution, or 'noise' (uniform pixels), ood_examples of each at most, which `lower_nll` brings down to a quantile of
    the test images, ood_quantile, within ood_eps (0: eps) in ood_steps (0: steps). pictures: how many images are kept for
    figures.
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
    ood_steps: int = 0
    ood_quantile: float = 0.25
    ood_examples: int = 1000
    pictures: int = 32

    def __post_init__(self):
        check_norm('evaluation.norm', self.norm)
        for name in ('eps', 'ood_eps', 'ood_steps', 'pictures'):
            positive(f'evaluation.{name}', getattr(self, name))
        for name in ('steps', 'restarts', 'draws', 'quick_steps', 'ood_examples'):
            positive(f'evaluation.{name}', getattr(self, name), zero=False)
        if not 0 <= self.ood_quantile <= 1:
            raise ValueError(f'evaluation.ood_quantile is {self.ood_quantile}; allowed: 0..1')
        check_radii('evaluation.curve', self.curve)

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

    adversarial_weight: w. eps, step_size: in [0, 1] units; a step_size of 0 stands for 2.5 eps / attack_steps.
    attack_steps: of PGD. attack_norm: 'linf' or 'l2'.
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
    step_size: float = 0.0
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

    def variables(self, state: State, params=None):
        """The flow's, under its mask."""
        params = masks.apply(state.masks[PLAYER], state.params[PLAYER] if params is None else params)
        return {'params': params, 'batch_stats': state.batch_stats[PLAYER]}

    def nll(self, state: State, images, *, rng, params=None):
        """`flow_nll` [B] in nats, of images [B, H, W, C] in [0, 1]."""
        return flow_nll(self.net, self.variables(state, params), images, rng=rng)

    def attack(self, state: State, images, *, rng):
        """The in-distribution attack of training at this step's radius."""
        since = state.step - round(self.clean_epochs * self.info.steps_per_epoch)
        scale = ramp(since, self.eps_warmup_epochs * self.info.steps_per_epoch)
        step_size = self.step_size * scale if self.step_size else None
        options = {'steps': self.attack_steps, 'step_size': step_size, 'norm': self.attack_norm}
        return attacks.raise_nll(partial(self.nll, state), images, self.eps * scale, rng=rng, **options)

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
            nll = self.nll(state, images, rng=noise_rng, params=params)
            return jnp.sum(weights * nll) / self.dimensions, jnp.mean(nll)

        (loss, nll), gradients = jax.value_and_grad(total, has_aux=True)(state.params[PLAYER])
        state, norms = update_player(state, PLAYER, gradients, self.optimizer)
        metrics = {f'loss/{PLAYER}': loss, 'batch_bits_per_dim': bits_per_dim(nll, self.dimensions)}  # of what it stepped on
        return state.replace(step=state.step + 1), metrics | norms

    def generate(self, state: State, count: int, *, rng, temperature: float = 1.0):
        """`flow_samples`: `count` images [count, H, W, C] in [0, 1]."""
        return flow_samples(self.net, self.variables(state), count, rng=rng, temperature=temperature)

    def bits(self, state: State, images, *, rng):
        """Bits per dimension [B], over the draws of the noise that the evaluation takes."""
        nll = attacks.expected_nll(partial(self.nll, state), rng=rng, draws=self.evaluation.draws)
        return bits_per_dim(nll(images), self.dimensions)

    def evaluate(self, state, batch, *, rng):
        """Bits per dimension, clean and under a quick attack; each [B]."""
        test, images = self.evaluation, batch['image']
        attack_rng, noise_rng = jax.random.split(rng)
        options = {'steps': test.quick_steps, 'norm': test.norm}
        attacked = attacks.raise_nll(partial(self.nll, state), images, test.eps, rng=attack_rng, **options)
        return {
            'bits_per_dim': self.bits(state, images, rng=noise_rng),
            'attacked_bits_per_dim': self.bits(state, attacked, rng=noise_rng),
        }

    def final_evaluate(self, state, batch, *, rng):
        """Bits per dimension of images clean, [B], and under noise and attacked at all radii, [B, E], and what those add to
        the clean ones. Where a value is not finite it is 0 and its 'NAME_non_finite' 1.
        """
        test, images = self.evaluation, batch['image']
        attack_rng, noise_rng, measure_rng = jax.random.split(rng, 3)

        def perturbed(eps):
            attacked = attacks.raise_nll(partial(self.nll, state), images, eps, rng=attack_rng, **test.options())
            noisy = attacks.random_noise(images, eps, rng=noise_rng, norm=test.norm)
            return tuple(self.bits(state, x, rng=measure_rng) for x in (attacked, noisy))

        clean = self.bits(state, images, rng=measure_rng)
        found = {'clean': clean}
        curves = jax.lax.map(perturbed, jnp.asarray(self.radii, jnp.float32))
        for kind, values in zip(('attacked', 'noise'), curves, strict=True):
            found |= {kind: values.T, f'{kind}_adds': values.T - clean[:, None]}
        finite = {name: jnp.isfinite(values) for name, values in found.items()}
        broken = {f'{name}_non_finite': 1 - finite[name].astype(jnp.float32) for name in found}
        return {name: jnp.where(finite[name], values, 0) for name, values in found.items()} | broken

    @property
    def radii(self) -> tuple[float, ...]:
        """Of the final evaluation, each once, ascending."""
        return tuple(sorted({self.evaluation.eps, *self.evaluation.curve}))

    def conclude(self, means: dict) -> dict[str, float]:
        """'bits_per_dim', and 'KIND_bits_per_dim' and 'KIND_adds' (what it adds, image by image) of KIND attacked and noise,
        at eps and with '_at_EPS' along the curve: means over the finite values, if any; 'KIND_bits_per_dim_non_finite': the
        share of the others.
        """
        concluded = {}

        def add(name, kind, i=..., counted=True):
            value, broken = (np.asarray(means[key])[i].item() for key in (kind, f'{kind}_non_finite'))
            if broken < 1:
                concluded[name] = value / (1 - broken)
            if counted:
                concluded[f'{name}_non_finite'] = broken

        add('bits_per_dim', 'clean')
        for i, eps in enumerate(self.radii):
            own = [''] * (eps == self.evaluation.eps) + [f'_at_{eps:.4f}'] * (eps in self.evaluation.curve)
            for kind, suffix in itertools.product(('attacked', 'noise'), own):
                add(f'{kind}_bits_per_dim{suffix}', kind, i)
                add(f'{kind}_adds{suffix}', f'{kind}_adds', i, counted=False)
        return concluded

    def describe_example(self, state, batch):
        """Bits per dimension of un-augmented training images, [B]."""
        return {'bits_per_dim': self.bits(state, batch['image'], rng=jax.random.fold_in(state.rng, 0))}

    def summarize(self, state):
        """The number of parameters."""
        return {'parameters': sum(leaf.size for leaf in jax.tree.leaves(state.params))}

    def summarize_examples(self, examples):
        """The mean over the training images whose value is finite, and the share of the others."""
        bits = examples['bits_per_dim']
        finite = bits[np.isfinite(bits)]
        mean = {'train_bits_per_dim': float(finite.mean())} if len(finite) else {}
        return {'train_bits_per_dim_non_finite': 1 - len(finite) / len(bits)} | mean


METHOD = FlowRobustness
