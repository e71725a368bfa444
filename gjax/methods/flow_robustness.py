"""Flows whose likelihood is attacked, and trained to withstand it (Pope, Balaji & Feizi 2020, arXiv:1911.08654)."""

import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from gjax import attacks, masks, nets
from gjax.checks import check_eps, check_norm, positive
from gjax.evaluators import Examples, Memory
from gjax.evaluators.likelihood import Density, Foreign, LikelihoodEvaluation, final_bits, quick_bits
from gjax.losses import bits_per_dim, dequantise
from gjax.methods.core.contract import DataInfo, Method
from gjax.methods.core.optimisers import ramp
from gjax.methods.core.state import State, new_state, update_player
from gjax.nets.flow import flow_nll, flow_samples

PLAYER = 'flow'


@dataclasses.dataclass(frozen=True)
class FlowRobustness(Method):
    """min (1 - w) E NLL(x) + w E max over |delta| <= eps of NLL(x + delta): clean training (w = 0), adversarial (w = 1),
    hybrid between.

    A hybrid step takes the first expectation over one half of the batch, the second over the other. Radii and step sizes are
    in [0, 1] units.
    """

    NETS: ClassVar[dict] = nets.FLOWS
    EVALUATION: ClassVar[type] = LikelihoodEvaluation
    init_examples: ClassVar[int] = 256  # on which the flow is normalised at its initialisation

    net: Any
    optimizer: Any
    info: DataInfo
    evaluation: LikelihoodEvaluation
    adversarial_weight: float = 0.5  # w
    eps: float = 8 / 255
    step_size: float = 0.0  # of PGD; 0: 2.5 eps / attack_steps
    attack_steps: int = 10
    attack_norm: str = 'linf'  # or 'l2'
    clean_epochs: float = 0.0  # how long w is 0 first (a warm start from the clean model)
    eps_warmup_epochs: float = 0.0  # how long the radius rises from 0 after that

    def __post_init__(self):
        if not 0 <= self.adversarial_weight <= 1:
            raise ValueError(f'method.adversarial_weight is {self.adversarial_weight}; allowed: 0..1')
        for name in ('step_size', 'clean_epochs', 'eps_warmup_epochs'):
            positive(f'method.{name}', getattr(self, name))
        positive('method.attack_steps', self.attack_steps, zero=False)
        check_norm('method.attack_norm', self.attack_norm)
        check_eps('method.eps', self.eps, self.attack_norm)

    def evaluators(self):
        density, test = Density(self.nll, self.generate, self.dimensions), self.evaluation
        return (
            quick_bits(density, test),
            final_bits(density, test),
            Memory(self.summarize),
            Examples(self.describe_example, self.summarize_examples),
            Foreign(density, test),
        )

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
        density = Density(self.nll, self.generate, self.dimensions)
        return density.bits(state, images, rng=rng, draws=self.evaluation.draws)

    def describe_example(self, state, batch, *, rng):
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
