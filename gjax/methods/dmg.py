"""Domain-specific Masks for Generalization (DMG; Chattopadhyay, Balaji & Hoffman 2020, arXiv:2008.12839): one network, and
for every source domain d a learnt stochastic mask on what enters some of its layers l.

A penalty pushes the domains' masks apart, so that some units serve one domain and others all. One step, for a batch
(x, y, d) of the pooled sources and mask logits t:

  q[l, d] = sigmoid(t[l, d])
  m_i[l] ~ Bernoulli(q[l, d_i])                         for each example and unit; the gradient is that of q
  L = mean_i CE(f(x_i; m_i), y_i) + lambda_o sum_l mean_(d < d') sIoU(q[l, d], q[l, d']) + lambda_s sum_(l, d) |q[l, d]|_1
  f and t descend L together, each with an optimiser of its own

An image of a source is judged under that domain's hard mask, 1[q > 1/2]; an unseen one under the expected mask q of every
source, whose logits are averaged.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from gjax import masks
from gjax.checks import one_of, positive
from gjax.evaluators import Memory
from gjax.evaluators.generalization import MasksEvaluation, combined
from gjax.methods.core.generalization import PLAYER, PartsOfSources
from gjax.methods.core.optimisers import build_optimizer, checked_spec
from gjax.methods.core.state import State, new_state
from gjax.nets.gates import MODES, gate_shapes

MASKS = 'masks'  # the player whose parameters are the mask logits {layer: [p, *units]}
FIXED = ('', 'start', 'random', 'ones')
MASK_SCHEDULES = ('constant', 'network')
SURE = 200.0  # a logit whose sigmoid is exactly 1, and exactly 0 of its negative


@dataclasses.dataclass(frozen=True)
class DMG(PartsOfSources):
    """The algorithm of the module's docstring; defaults are the released code's for PACS and ResNets."""

    PART: ClassVar[str] = 'mask'
    EVALUATION: ClassVar[type] = MasksEvaluation
    GIVEN: ClassVar[tuple] = ('spec',)

    spec: Any = dataclasses.field(default=None, hash=False)  # the config's section `optimizer`
    overlap_weight: float = 0.1  # lambda_o
    # Over pairs of domains: 'mean' (the released code) or 'sum' (the paper's figure), p (p - 1) / 2 times as much.
    overlap: str = 'mean'
    sparsity_weight: float = 0.0  # lambda_s
    mode: str = 'channel'  # one mask unit for each 'channel', or for each 'element' of a layer's input
    mask_start: tuple = (0.0, 1.0)  # mask logits begin uniform in [low, high); equal ones for a constant
    # Of the masks' optimiser; 0 for the network's. Adam moves a logit by about its rate in a step: at 1e-4 masks hardly
    # leave their start within the published schedules.
    mask_learning_rate: float = 0.0
    # 'constant', also where the network's rate decays (the released code on PACS), or 'network' for the same schedule (the
    # released code on DomainNet).
    mask_schedule: str = 'constant'
    mask_weight_decay: float = 0.0  # pulls q toward 1/2; 1e-5 in the released code on PACS
    # '' learns the masks. Controls never do. Masks of 'start' stay as they begin: with a constant `mask_start` that is
    # dropout, the same for all domains. Of 'random' masks each unit of each domain is on with probability `fixed_share`.
    # 'ones' is the aggregate network.
    fixed_masks: str = ''
    fixed_share: float = 0.5

    @classmethod
    def optimizers(cls, spec, info):
        return super().optimizers(spec, info) | {'spec': checked_spec(spec)}

    def __post_init__(self):
        for option in ('overlap_weight', 'sparsity_weight', 'mask_learning_rate', 'mask_weight_decay'):
            positive(f'method.{option}', getattr(self, option))
        one_of('method.overlap', self.overlap, masks.REDUCTIONS)
        one_of('method.mode', self.mode, MODES)
        one_of('method.mask_schedule', self.mask_schedule, MASK_SCHEDULES)
        one_of('method.fixed_masks', self.fixed_masks, FIXED)
        if len(self.mask_start) != 2 or self.mask_start[0] > self.mask_start[1]:
            raise ValueError(f'method.mask_start is {self.mask_start}; allowed: (low, high), low <= high')
        if not 0 < self.fixed_share <= 1:
            raise ValueError(f'method.fixed_share is {self.fixed_share}; allowed: 0 < share <= 1')

    # Training.

    def optimizer_of(self, player):
        if player == PLAYER:
            return self.optimizer
        if self.fixed_masks:
            return optax.set_to_zero()
        own = {
            'learning_rate': self.mask_learning_rate or self.spec['learning_rate'],
            'weight_decay': self.mask_weight_decay,
        }
        if self.mask_schedule == 'constant':
            own |= {'schedule': 'constant', 'warmup_epochs': 0.0}
        return build_optimizer({**self.spec, **own}, self.info)

    def first_masks(self, image_shape, *, rng) -> dict:
        """The mask logits before the first step, {layer: [p, *units]}."""
        found = {}
        for number, (layer, units) in enumerate(gate_shapes(self.net, image_shape, self.mode).items()):
            key, shape = jax.random.fold_in(rng, number), (self.domains, *units)
            if self.fixed_masks == 'ones':
                found[layer] = jnp.full(shape, SURE)
            elif self.fixed_masks == 'random':
                found[layer] = jnp.where(jax.random.bernoulli(key, self.fixed_share, shape), SURE, -SURE)
            else:
                low, high = self.mask_start
                found[layer] = low + (high - low) * jax.random.uniform(key, shape)
        return found

    def init(self, rng, batch) -> State:
        init_rng, mask_rng, run_rng = jax.random.split(rng, 3)
        params, stats = self.init_players(init_rng, lambda *_: batch['image'])
        params[MASKS], stats[MASKS] = self.first_masks(batch['image'].shape[1:], rng=mask_rng), {}
        opt_state = {player: self.optimizer_of(player).init(own) for player, own in params.items()}
        return new_state(run_rng, params, stats, opt_state, {'first_masks': jax.tree.map(jnp.copy, params[MASKS])})

    def step(self, state, batch):
        def loss(params):
            t = params[MASKS]
            m = masks.sample_gates(masks.of_examples(t, batch['domain']), rng=state.step_rng())
            before = state.batch_stats[PLAYER]
            logits, stats = self.apply(PLAYER, params[PLAYER], before, batch['image'], gates=m, train=True)
            classification, metrics = self.classification(logits, batch)
            overlap = sum(masks.overlap(t, reduction=self.overlap).values())
            kept = sum(jnp.sum(q) for q in masks.expected_gates(t).values())
            total = classification + self.overlap_weight * overlap + self.sparsity_weight * kept
            metrics |= {'classification': classification, 'overlap': overlap}
            return total, ({PLAYER: stats}, metrics)

        state, metrics = self.minimize(state, (PLAYER, MASKS), loss)
        return state.replace(step=state.step + 1), metrics

    # Evaluation.

    def protocols(self):
        own, unseen = (f'{inference} masks' for inference in (self.evaluation.in_domain, self.evaluation.unseen))
        if self.evaluation.unseen != 'average':
            unseen += f', mean of {self.evaluation.combine}'
        return f'sources: {own}', unseen

    def gates(self, logits, inference: str, *, rng) -> dict:
        """Gates {layer: [B, *units]} from the mask logits of examples."""
        if inference == 'sample':
            return masks.sample_gates(logits, rng=rng)
        return masks.hard_gates(logits) if inference == 'greedy' else masks.expected_gates(logits)

    def gated(self, state: State, images, gates):
        """Logits [B, K] of images under these gates, as evaluation sees them."""
        own, stats = self.masked(state, PLAYER), state.batch_stats[PLAYER]
        return self.apply(PLAYER, own, stats, images, gates=gates, train=False)[0]

    def own_logits(self, state, batch, *, rng):
        own = masks.of_examples(self.masked(state, MASKS), batch['domain'])
        return self.gated(state, batch['image'], self.gates(own, self.evaluation.in_domain, rng=rng))

    def every_logits(self, state, images, inference: str = '', *, rng):
        """Logits [p, B, K] of images under the mask of each source; inference: by default as for images of sources."""

        def of_source(number):
            every = self.masked(state, MASKS).items()
            own = {layer: jnp.broadcast_to(t[number], (len(images), *t.shape[1:])) for layer, t in every}
            gates = self.gates(own, inference or self.evaluation.in_domain, rng=jax.random.fold_in(rng, number))
            return self.gated(state, images, gates)

        return jax.lax.map(of_source, jnp.arange(self.domains))  # one compiled pass, however many domains

    def unseen_logits(self, state, images, *, rng):
        evaluation = self.evaluation
        average = evaluation.unseen == 'average'
        every = self.every_logits(state, images, 'softscale' if average else evaluation.unseen, rng=rng)
        if not average:
            return combined(every, evaluation.combine), every
        q = masks.expected_gates(self.masked(state, MASKS))
        mean = {layer: jnp.broadcast_to(own.mean(axis=0), (len(images), *own.shape[1:])) for layer, own in q.items()}
        return self.gated(state, images, mean), every

    def evaluators(self):
        return (*super().evaluators(), Memory(self.summarize))

    def summarize(self, state: State) -> dict[str, jax.Array]:
        """What hard masks look like and how far their logits have moved, over all layers and, as 'NAME_LAYER', of each.

        'mask_on': the share of units that are on, averaged over domains. 'domain_specific_units': the share that are on for
        some domains but not for all; 'exclusive_units': for exactly one of several. 'empty_masks': how many masks of a
        domain and a layer have no unit on. 'mask_iou': the intersection over union of two domains' masks, averaged over
        pairs and layers. 'mask_movement': the mean |t - t_0| over units and domains. Over all layers every unit counts the
        same, but for 'mask_iou', of which every layer does.
        """
        logits = self.masked(state, MASKS)
        layers = masks.mask_statistics(logits)
        sizes = {layer: own[0].size for layer, own in logits.items()}
        moved = jax.tree.map(lambda t, first: jnp.mean(jnp.abs(t - first)), logits, state.memory['first_masks'])
        named = {'on': 'mask_on', 'specific': 'domain_specific_units', 'exclusive': 'exclusive_units'}
        values = {name: {layer: own[key] for layer, own in layers.items()} for key, name in named.items()}
        values['mask_movement'] = moved
        found = {}
        for name, own in values.items():
            found[name] = sum(own[layer] * size for layer, size in sizes.items()) / sum(sizes.values())
            found |= {f'{name}_{layer}': value for layer, value in own.items()}
        found['empty_masks'] = sum(own['empty'] for own in layers.values())
        if self.domains > 1:
            found |= {f'mask_iou_{layer}': own['iou'] for layer, own in layers.items()}
            found['mask_iou'] = sum(own['iou'] for own in layers.values()) / len(layers)
        return found

    def files(self, state: State):
        """The mask logits, and those before the first step: {layer: [p, *units]}."""
        return {'masks.npz': dict(state.params[MASKS]), 'first_masks.npz': dict(state.memory['first_masks'])}


METHOD = DMG
