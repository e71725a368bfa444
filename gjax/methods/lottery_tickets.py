"""Winning lottery tickets in deep generative models (Kalibhat, Balaji & Feizi 2020, arXiv:2010.02350).

Iterative magnitude pruning with late rewinding, on autoencoders, VAEs and GANs:

  1. train from theta_0 to theta_T, keeping theta_k (stage `dense`);
  2. mask the 20 % of the surviving weights that are smallest in |theta_T|;
  3. put the survivors back to theta_k, with a fresh optimiser, and train from step k to T again (`round01`, ...); go to 2.

Each stage is a run of its own that begins from the last state of the one before. Controls branch off a round. A transfer
takes the last round's mask and theta_k to another model, whose generator is the decoder and whose discriminator has the
encoder's trunk.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from gjax import masks
from gjax.checks import each_of, one_of, positive
from gjax.methods.core.contract import Stage
from gjax.methods.core.pruning import MODELS, PLAYERS, PrunedModel
from gjax.methods.core.state import State

SCOPES = ('together', 'each', 'layer')
CONTROLS = ('random', 'reinit', 'no_rewind', 'one_shot', 'snip', 'grasp')
# What a VAE's player is in a GAN, and the other way round; of encoder and discriminator the trunk is shared.
COUNTERPARTS = {'encoder': 'discriminator', 'decoder': 'generator'}
COUNTERPARTS |= {other: player for player, other in COUNTERPARTS.items()}


def remaining(prune: float, rounds: int) -> float:
    """The share of weights that is left after so many rounds: (1 - prune)^rounds."""
    return (1 - prune) ** rounds


def smaller_masks(old, scores, share: float, scope: str):
    """Masks of all players that leave `share` of the prunable weights, the highest-scored survivors.

    Args:
      old: {player: masks or None}.
      scores: {player: tree}.
      share: in [0, 1].
      scope: 'together' ranks the players' weights in one list, 'each' every player's in its own, 'layer' every layer's.
    """
    if scope == 'together':
        return masks.keep_highest(old, scores, share)
    within = 'layer' if scope == 'layer' else 'global'
    pruned = {p: m for p, m in old.items() if masks.count(m)[1]}  # some players are not, and some are protected wholly
    return old | {p: masks.keep_highest(m, scores[p], share, scope=within) for p, m in pruned.items()}


def transplant(new, old):
    """`new` with the leaves of `old` wherever both have one of the same shape; nested dicts."""
    if isinstance(new, dict):
        return {
            key: transplant(value, old[key]) if isinstance(old, dict) and key in old else value for key, value in new.items()
        }
    return old if old is not None and new is not None and not isinstance(old, dict) and old.shape == new.shape else new


def _random_masks(ticket, rng):
    """Every player's masks drawn anew, with each layer's count."""
    keys = jax.random.split(rng, len(ticket))
    pairs = zip(ticket.items(), keys, strict=True)
    return {p: m if m is None else masks.random_like(m, rng=key) for (p, m), key in pairs}


def _pair(setting: str) -> tuple[str, str]:
    """(key, value) of 'KEY=VALUE'; ValueError for anything else."""
    key, equals, value = setting.partition('=')
    if not (key and equals):
        raise ValueError(f"method.transfer_settings has {setting!r}; allowed: 'KEY=VALUE'")
    return key, value


def _counterpart(tree: dict, player: str):
    """The entry of `player`, or of its counterpart (encoder <-> discriminator, decoder <-> generator)."""
    return tree.get(player, tree.get(COUNTERPARTS[player]))


@dataclasses.dataclass(frozen=True)
class LotteryTickets(PrunedModel):
    """Iterative magnitude pruning with late rewinding; `PrunedModel` has the model's own options."""

    GIVEN: ClassVar[tuple] = ('trained',)

    prune: float = 0.2  # share of the surviving weights that each round removes
    rounds: int = 10  # 0 trains the dense model alone
    rewind_epochs: float = 1.0  # k, the time of theta_k
    scope: str = 'together'  # see `smaller_masks`
    components: tuple = ()  # players that are pruned; () for all
    protect: tuple = ()  # layers that are not, as 'PLAYER/LAYER'
    # Stages that branch off at each of `control_rounds`, with that round's sparsity: 'random' (a mask of the same sparsity
    # in each layer, theta_k), 'reinit' (the ticket's mask on another initialisation), 'no_rewind' (the ticket's mask on
    # theta_0), 'one_shot' (pruned once, after the dense run), 'snip' and 'grasp' (masks from one batch at initialisation).
    controls: tuple = ()
    control_rounds: tuple = ()  # () for the last one
    # 'ae', 'vae' or 'gan': stages, named after it, that train that model dense, with the ticket ('ticket'), with the
    # ticket's mask on its own initialisation ('reinit') and with a random mask of the same sparsity in each layer on the
    # ticket's weights ('random').
    transfer_to: str = ''
    transfer_round: int = 0  # whose ticket; 0 for the last one's
    transfer_settings: tuple = ()  # config keys of these stages, each as 'KEY=VALUE'
    trained: str = ''  # the model of this stage, set by `at`; '' for `model`

    def __post_init__(self):
        super().__post_init__()
        one_of('method.scope', self.scope, SCOPES)
        one_of('method.transfer_to', self.transfer_to, ('', *(m for m in MODELS if m != self.model)))
        positive('method.rounds', self.rounds)
        positive('method.rewind_epochs', self.rewind_epochs)
        if not 0 < self.prune < 1:
            raise ValueError(f'method.prune is {self.prune}; allowed: 0 < prune < 1')
        if self.transfer_to and not self.rounds:
            raise ValueError(f'method.rounds is 0; allowed with method.transfer_to={self.transfer_to!r}: at least 1')
        each_of('method.components', self.components, PLAYERS[self.model])
        each_of('method.controls', self.controls, CONTROLS)
        for number in self.control_rounds:
            if not isinstance(number, int) or not 1 <= number <= self.rounds:
                raise ValueError(f'method.control_rounds has {number!r}; allowed: 1..{self.rounds}, the rounds')
        if not 0 <= self.transfer_round <= self.rounds:
            raise ValueError(f'method.transfer_round is {self.transfer_round}; allowed: 0..{self.rounds}')
        for setting in self.transfer_settings:
            _pair(setting)
        players = ', '.join(PLAYERS[self.model])
        for layer in self.protect:
            if layer.partition('/')[0] not in PLAYERS[self.model]:
                raise ValueError(f'method.protect has {layer!r}; allowed: PLAYER/LAYER with {players}')

    def fits(self):
        super().fits()
        if self.rewind_step >= self.info.num_steps:
            raise ValueError(f'method.rewind_epochs is {self.rewind_epochs}, which leaves nothing to train; allowed: less')

    @property
    def trainer(self):
        """The method of the model that this stage trains."""
        return self.method_of(self.trained or self.model)

    @property
    def rewind_step(self) -> int:
        """k, in steps."""
        return round(self.rewind_epochs * self.info.steps_per_epoch)

    def stages(self) -> tuple[Stage, ...]:
        """The dense run, the rounds, the controls, the transfers."""
        rounds = [f'round{n:02d}' for n in range(1, self.rounds + 1)]
        chain = {'dense': ()} | {name: (parent,) for name, parent in zip(rounds, ['dense', *rounds], strict=False)}
        for number in self.control_rounds or (self.rounds,) * bool(self.rounds):
            own = rounds[number - 1]
            parents = {'one_shot': ('dense',), 'snip': (), 'grasp': ()}
            chain |= {f'{own}_{control}': parents.get(control, (own,)) for control in self.controls}
        changes = {}
        if self.transfer_to:
            changes = dict(_pair(setting) for setting in self.transfer_settings)
            source = ['dense', *rounds][self.transfer_round or -1]
            kinds = {'dense': ()} | dict.fromkeys(('ticket', 'reinit', 'random'), (source,))
            chain |= {f'{self.transfer_to}_{kind}': parents for kind, parents in kinds.items()}
        # Keys by position, not by name: with these the tables of experiments/lottery_tickets were made.
        return tuple(
            Stage(name, parents, changes if self._transfers(name) else {}, key=1 + i)
            for i, (name, parents) in enumerate(chain.items())
        )

    def _transfers(self, stage: str) -> bool:
        return bool(self.transfer_to) and stage.startswith(f'{self.transfer_to}_')

    def at(self, stage: str):
        """The same method or, in the stages of a transfer, one that trains the other model."""
        return dataclasses.replace(self, trained=self.transfer_to) if self._transfers(stage) else self

    def init(self, rng, batch) -> State:
        state = self.trainer.init(rng, batch)
        own = not self.trained or self.trained == self.model
        pruned = (self.components if own else ()) or tuple(state.params)
        protected = {player: [] for player in state.params}
        for layer in self.protect if own else ():
            player, _, name = layer.partition('/')
            protected[player].append(name)
        full = {p: masks.dense(state.params[p], tuple(protected[p])) if p in pruned else None for p in state.params}
        if not masks.count(full)[1]:
            raise ValueError('method.protect leaves no weight to prune; allowed: at least one layer unprotected')
        return state.replace(masks=full, memory={**state.memory, 'rewind': self._kept(state)})

    def _kept(self, state):
        """What rewinding goes back to, copied: buffers of the state are donated once each."""
        return jax.tree.map(jnp.copy, {'params': state.params, 'batch_stats': state.batch_stats})

    def begin(self, stage: str, state: State, parents, batch, *, rng) -> State:
        """The first state of a stage.

        Args:
          stage: its name.
          state: a new state, theta_0.
          parents: the last state of its parent, if it has one.
          batch: training examples, for SNIP and GraSP.
          rng: randomness of the controls, another for each stage.
        """
        name, _, control = stage.partition('_')
        parent = next(iter(parents.values()), None)
        if 'dense' in (name, control):
            return state
        if name == self.transfer_to:
            return self.transferred(control, state, parent, rng)
        share = remaining(self.prune, int(name.removeprefix('round')))
        if control in ('snip', 'grasp'):
            scores = self.sensitivity(control, state, batch, rng=rng)
            return self.start(state, smaller_masks(state.masks, scores, share, self.scope), state, 0)
        if control in ('', 'one_shot'):
            ticket = smaller_masks(parent.masks, masks.magnitude(parent.params), share, self.scope)
        elif control == 'random':
            ticket = _random_masks(parent.masks, rng)
        else:
            ticket = parent.masks
        if control == 'reinit':
            other = self.init(rng, batch).replace(rng=state.rng)
            return self.start(other, ticket, other, 0)
        if control == 'no_rewind':
            return self.start(state, ticket, state, 0)
        return self.rewound(state, ticket, parent.memory['rewind'])

    def rewound(self, state: State, ticket, kept) -> State:
        """m theta_k at step k: the start of a round."""
        state = state.replace(batch_stats=kept['batch_stats'], memory={**state.memory, 'rewind': kept})
        return self.start(state, ticket, state.replace(params=kept['params']), self.rewind_step)

    def transferred(self, kind: str, state: State, parent: State, rng) -> State:
        """The start of another model from the masks and theta_k of `parent`; what the parent lacks is dense and new."""
        ticket = {p: transplant(m, _counterpart(parent.masks, p)) for p, m in state.masks.items()}
        if kind == 'random':
            ticket = _random_masks(ticket, rng)
        if kind != 'reinit':
            kept = parent.memory['rewind']
            moved = {}
            for part in ('params', 'batch_stats'):
                moved[part] = {p: transplant(new, _counterpart(kept[part], p)) for p, new in getattr(state, part).items()}
            state = state.replace(**moved)
        state = state.replace(memory={**state.memory, 'rewind': self._kept(state)})
        return self.start(state, ticket, state, 0)

    def files(self, state: State):
        """ticket.npz: the masks, with m theta_k and its batch statistics, all that it takes to train the ticket again."""
        kept = state.memory['rewind']
        params = {player: masks.apply(state.masks[player], kept['params'][player]) for player in kept['params']}
        return {'ticket.npz': masks.pack({'params': state.masks}, {**kept, 'params': params})}

    def step(self, state, batch):
        rewind = state.memory['rewind']
        state, metrics = self.trainer.step(state, batch)
        kept = {'params': state.params, 'batch_stats': state.batch_stats}
        rewind = lax.cond(state.step == self.rewind_step, lambda: kept, lambda: rewind)
        return state.replace(memory={**state.memory, 'rewind': rewind}), metrics


METHOD = LotteryTickets
