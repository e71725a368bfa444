"""The common ground of generative methods: networks of a family, their state, and what evaluation needs of them."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gjax import masks, nets
from gjax.evaluators import Cost, Examples, Means, Memory
from gjax.evaluators.samples import GenerativeEvaluation, Samples
from gjax.methods.core.contract import DataInfo
from gjax.methods.core.players import Players
from gjax.methods.core.state import State, new_state


@dataclasses.dataclass(frozen=True)
class Generative(Players):
    """Players made of one family's parts; subclasses add `modules`, `step`, `evaluate` and what they can do."""

    NETS: ClassVar[dict] = nets.FAMILIES
    EVALUATION: ClassVar[type] = GenerativeEvaluation
    DECODER: ClassVar[str] = ''  # the player that makes images

    net: Any
    optimizer: Any
    info: DataInfo
    evaluation: GenerativeEvaluation
    # Decay of an exponential moving average of the decoder's or generator's weights, which evaluation then uses; 0 for none.
    ema: float = 0.0

    def __post_init__(self):
        self.check_ema()

    def able(self) -> dict:
        """Which of 'generate', 'encode' and 'reconstruct' mean something for this model, with the functions."""
        return {'generate': self.generate}

    def evaluators(self):
        return (
            Means(self.evaluate),
            Memory(self.summarize),
            Examples(self.describe_example),
            Samples(self.evaluation, **self.able()),
            Cost(),
        )

    def init(self, rng, batch) -> State:
        init_rng, run_rng = jax.random.split(rng)
        codes = jnp.zeros((1, self.net.latent))
        params, stats = self.init_players(init_rng, lambda player, *_: codes if player == self.DECODER else batch['image'])
        opt_state = {player: self.optimizer.init(params[player]) for player in params}
        memory = {'ema': params[self.DECODER]} if self.ema else {}
        return new_state(run_rng, params, stats, opt_state, jax.tree.map(jnp.copy, memory))

    def after_step(self, state: State) -> State:
        """The state at the next step, its moving average taken."""
        if self.ema:
            average = self.averaged(state, self.DECODER, state.memory['ema'])
            state = state.replace(memory={**state.memory, 'ema': average})
        return state.replace(step=state.step + 1)

    def decode(self, state: State, codes):
        """Image logits [B, H, W, C] of codes [B, latent], as evaluation sees them."""
        params = self.masked(state, self.DECODER, state.memory['ema'] if self.ema else None)
        return self.apply(self.DECODER, params, state.batch_stats[self.DECODER], codes, train=False)[0]

    def generate(self, state: State, count: int, *, rng):
        """`count` images [count, H, W, C] in [0, 1] from codes of the prior N(0, I)."""
        return jax.nn.sigmoid(self.decode(state, jax.random.normal(rng, (count, self.net.latent))))

    def updates(self, player: str, step):
        """How many updates `player` has had after `step` steps."""
        return step

    def sensitivity_losses(self, state: State, batch, *, rng) -> list:
        """[(players, {player: params} -> scalar)]: each player's own training loss on a batch, for SNIP and GraSP."""
        raise NotImplementedError

    def evaluate(self, state: State, batch, *, rng):
        """Per-example results [B], during training."""
        raise NotImplementedError

    def describe_example(self, state: State, batch, *, rng):
        """Nothing per example by default but its index."""
        return {'index': batch['index']}

    def summarize(self, state: State) -> dict[str, jax.Array]:
        """The number of parameters but for pruned ones, and the share of those, over all players and of each."""
        kept, total = masks.count(state.masks)
        found = {'parameters': sum(leaf.size for leaf in jax.tree.leaves(state.params)) - (total - kept)}
        if not total:
            return found
        each = {f'sparsity/{player}': masks.sparsity(tree) for player, tree in state.masks.items()}
        return found | {'sparsity': masks.sparsity(state.masks), **each}
