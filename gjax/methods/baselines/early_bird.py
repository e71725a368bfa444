"""Structured early-bird tickets of generative models (You et al. 2020, arXiv:1909.11957; Kalibhat et al. 2020, Sec. 5).

  1. Train the dense model with an L1 penalty on the scales gamma of its batch normalisations. After every epoch, mask the
     share of channels that have the smallest |gamma| (stage `search`).
  2. Stop when the masks of the last epochs agree (`gjax.masks.masks_agree`): the ticket is drawn.
  3. Cut the masked channels out. Go on training the smaller network for the steps that are left (stage `early_bird`).

Controls: the dense model; as many channels of each layer, drawn at random (`random`); the small network from a new
initialisation, for all steps (`reinit`); SNIP's and GraSP's single weights, at the early bird's number of FLOPs (`snip`,
`grasp`).
"""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from gjax import masks, nets
from gjax.checks import each_of, one_of, positive
from gjax.methods.core.contract import Stage
from gjax.methods.core.pruning import PrunedModel
from gjax.methods.core.state import State
from gjax.nets.channel_groups import narrowed
from gjax.nets.flops import flops_per_weight, forward_flops

SCOPES = {'together': 'global', 'layer': 'layer'}
CONTROLS = ('random', 'reinit', 'snip', 'grasp')


def penalise_scales(coefficient: float) -> optax.GradientTransformation:
    """Adds the gradient of coefficient * sum |gamma| over all scales of normalisation (the leaves named 'scale')."""

    def add(path, gradient, value):
        return gradient + coefficient * jnp.sign(value) if path[-1].key == 'scale' else gradient

    return optax.stateless(lambda gradients, params: jax.tree_util.tree_map_with_path(add, gradients, params))


def _sizes(tree, count=jnp.size) -> dict[str, int]:
    """{path: count(leaf)}."""
    return {masks.path_name(path): int(count(leaf)) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


@dataclasses.dataclass(frozen=True)
class EarlyBird(PrunedModel):
    """The search, the slice and the training of what is left; `PrunedModel` has the model's own options."""

    NETS: ClassVar[dict] = {name: nets.FAMILIES[name] for name in ('dcgan', 'resnet_gan')}
    GIVEN: ClassVar[tuple] = ('phase',)
    may_stop: ClassVar[bool] = True

    channels: float = 0.7  # share of the normalised channels that is cut out
    # 'together' ranks the channels of all layers and players in one list, 'layer' those of each layer alone.
    scope: str = 'together'
    gamma_l1: float = 1e-4  # weight of the L1 penalty during the search
    distance: float = 0.1  # the bound on the Hamming distance
    # Which distances must be so small: 'paper', each epoch's mask to the one before; 'released', the newest mask to the
    # others, as in the released code; 'any_two', any two masks. See `gjax.masks.masks_agree`.
    rule: str = 'paper'
    # How far back the search looks: 'paper' at so many distances, hence one mask more; the other rules at so many masks.
    history: int = 5
    controls: tuple = ()  # see the module
    phase: str = ''  # of this stage, set by `at`: 'search', 'sparse' (weights under masks) or ''

    def __post_init__(self):
        super().__post_init__()
        one_of('method.scope', self.scope, SCOPES)
        one_of('method.rule', self.rule, masks.EARLY_BIRD_RULES)
        each_of('method.controls', self.controls, CONTROLS)
        positive('method.gamma_l1', self.gamma_l1)
        positive('method.distance', self.distance, zero=False)
        if not 0 < self.channels < 1:
            raise ValueError(f'method.channels is {self.channels}; allowed: 0 < channels < 1')

    @classmethod
    def older(cls, config):
        return {**super().older(config), 'method.rule': 'any_two'}

    def fits(self):
        super().fits()
        more = self._compared - self.history
        if not 2 <= self._compared < self._epochs:
            allowed = f'{2 - more}..{self._epochs - 1 - more}'
            raise ValueError(
                f"method.history is {self.history}, method.rule {self.rule!r}; allowed: {allowed}, below the run's epochs"
            )
        if not self.groups():
            raise ValueError("net.trunk_norm leaves no normalised channels; allowed with early_bird: 'batch'")

    @property
    def _compared(self) -> int:
        """How many masks the rule looks at."""
        return self.history + (self.rule == 'paper')

    @property
    def _epochs(self) -> int:
        return self.info.num_steps // self.info.steps_per_epoch

    @property
    def trainer(self):
        if self.phase != 'search':
            return self.method_of(self.model)
        return self.method_of(self.model, optax.chain(penalise_scales(self.gamma_l1), self.optimizer))

    def groups(self) -> dict:
        """{player: its channel groups}, of players with normalised channels."""
        found = {}
        for player in self.trainer.modules():
            if player in ('decoder', 'generator'):
                found[player] = self.net.decoder_channels()
            elif player == 'encoder' or self.net.trunk_norm == 'batch':
                found[player] = self.net.trunk_channels()
        return {player: groups for player, groups in found.items() if groups}

    def stages(self) -> tuple[Stage, ...]:
        """The dense run, the search, the ticket, the controls."""
        chain = [Stage('dense'), Stage('search'), Stage('early_bird', ('search',), derived=True, fresh=False)]
        for control in self.controls:
            if control in ('snip', 'grasp'):
                chain.append(Stage(control, ('early_bird',)))
            else:
                chain.append(Stage(f'early_bird_{control}', ('search',), derived=True))
        # Keys by position, not by name: with these the tables of experiments/lottery_tickets were made.
        return tuple(dataclasses.replace(stage, key=1 + i) for i, stage in enumerate(chain))

    def at(self, stage: str):
        """The method of a stage: searching, training weights under masks, or training all weights."""
        phase = {'search': 'search', 'snip': 'sparse', 'grasp': 'sparse'}.get(stage, '')
        return dataclasses.replace(self, phase=phase) if phase else self

    def init(self, rng, batch) -> State:
        state = self.trainer.init(rng, batch)
        memory = {**state.memory, 'began': jnp.zeros((), jnp.int32)}
        if self.phase == 'sparse':
            state = state.replace(masks={player: masks.dense(params) for player, params in state.params.items()})
        if self.phase == 'search':
            channels = self._joined(self._channel_masks(state)).size
            memory |= {'drawn': jnp.zeros((self._epochs, channels), bool), 'found': jnp.zeros((), bool)}
        return state.replace(memory=memory)

    def _channel_masks(self, state: State) -> dict:
        """{(player, group): bool [C]}: the smallest |gamma| are dropped."""
        scores = {}
        for player, groups in self.groups().items():
            own = masks.channel_scores(state.params[player], groups)
            scores |= {(player, name): score for name, score in own.items()}
        return masks.channel_masks(scores, self.channels, scope=SCOPES[self.scope])

    def _joined(self, chosen: dict):
        return jnp.concatenate(list(chosen.values()))

    def step(self, state, batch):
        state, metrics = self.trainer.step(state, batch)
        if self.phase != 'search':
            return state, metrics
        epoch, rest = jnp.divmod(state.step, self.info.steps_per_epoch)

        def draw(memory):
            drawn = memory['drawn'].at[epoch - 1].set(self._joined(self._channel_masks(state)))
            last = lax.dynamic_slice_in_dim(drawn, epoch - self._compared, self._compared)
            enough = (epoch >= self._compared) & (state.step < self.info.num_steps)  # masks so far, and steps that are left
            found = enough & masks.masks_agree(last, self.distance, rule=self.rule)
            return {**memory, 'drawn': drawn, 'found': memory['found'] | found}

        return state.replace(memory=lax.cond(rest == 0, draw, lambda memory: memory, state.memory)), metrics

    def done(self, state):
        """Whether the run ends here: the ticket is drawn."""
        return state.memory['found'] if self.phase == 'search' else jnp.zeros((), bool)

    def drawn(self, searched: State) -> dict:
        """{player: {group: bool [C]}}: the last mask of a search."""
        row = np.asarray(searched.memory['drawn'])[int(searched.step) // self.info.steps_per_epoch - 1]
        found, start = {}, 0
        for player, groups in self.groups().items():
            sizes = {name: score.size for name, score in masks.channel_scores(searched.params[player], groups).items()}
            ends = dict(zip(sizes, start + np.cumsum(list(sizes.values())), strict=True))
            found[player] = {name: row[ends[name] - size : ends[name]] for name, size in sizes.items()}
            start += sum(sizes.values())
        return found

    def derive(self, stage: str, parents) -> dict:
        """The options of the network that the search leaves; ValueError if it found no ticket."""
        searched = parents['search']
        if not searched.memory['found']:
            raise ValueError(
                f'the search drew no early-bird ticket in {self._epochs} epochs; allowed: a larger method.distance, '
                'a shorter method.history, more epochs'
            )
        kept = {}
        for chosen in self.drawn(searched).values():
            kept |= masks.kept(chosen)
        return {f'net.{option}': sizes for option, sizes in narrowed(self.net.channel_sizes(), kept).items()}

    def begin(self, stage: str, state: State, parents, batch, *, rng) -> State:
        """The first state of a stage; see `LotteryTickets.begin`."""
        if stage in ('dense', 'search', 'early_bird_reinit'):
            return state
        (parent,) = parents.values()
        if stage in ('snip', 'grasp'):
            return self.sparse_start(state, self.sensitivity(stage, state, batch, rng=rng), parent)
        ticket = self.drawn(parent)
        if stage == 'early_bird_random':
            keys = iter(jax.random.split(rng, sum(map(len, ticket.values()))))
            ticket = {p: {g: jax.random.permutation(next(keys), m) for g, m in own.items()} for p, own in ticket.items()}
        params, stats = dict(parent.params), dict(parent.batch_stats)  # a player without groups stays whole
        for player, groups in self.groups().items():
            params[player], stats[player] = masks.slice_channels(params[player], stats[player], groups, ticket[player])
        state = state.replace(batch_stats=stats, memory={**state.memory, 'began': parent.step})
        return self.start(state, state.masks, state.replace(params=params), parent.step)

    def flops_per_weight(self) -> dict[str, float]:
        """{'PLAYER/LAYER/kernel': FLOPs of a forward pass for each weight}; the same however many channels there are."""
        found = {}
        for player, module in self.trainer.modules().items():
            shape = (self.net.latent,) if player == self.trainer.DECODER else self.net.image_shape
            own = flops_per_weight(module, jax.ShapeDtypeStruct((1, *shape), jnp.float32), train=False)
            found |= {f'{player}/{name}': cost for name, cost in own.items()}
        return found

    def sparse_start(self, state: State, scores, early_bird: State) -> State:
        """Theta_0 under masks that keep the highest scores of all: as many as cost, over the whole training, no more FLOPs
        than the search and the early bird did; those of one forward pass of every player stand for a step's."""
        per_weight = self.flops_per_weight()
        cost = partial(forward_flops, per_weight)
        searched = int(early_bird.memory['began']) / self.info.num_steps
        small, dense = cost(_sizes(early_bird.params)), cost(_sizes(state.masks))
        budget = searched * dense + (1 - searched) * small
        low, high = 0.0, 1.0  # shares of the weights: the cost of `low` is within the budget
        for _ in range(20):
            middle = (low + high) / 2
            affordable = cost(_sizes(masks.keep_highest(state.masks, scores, middle), jnp.sum)) <= budget
            low, high = (middle, high) if affordable else (low, middle)
        return self.start(state, masks.keep_highest(state.masks, scores, low), state, 0)

    def summarize(self, state):
        """The numbers of `Generative.summarize`; of a search also 'mask_distance', [epochs, epochs], the Hamming distance
        between the masks of any two epochs. The mask of an epoch that is not over is empty."""
        more = {}
        if self.phase == 'search':
            drawn = state.memory['drawn']
            more = {'mask_distance': masks.hamming(drawn[:, None], drawn[None])}
        return super().summarize(state) | more


METHOD = EarlyBird
