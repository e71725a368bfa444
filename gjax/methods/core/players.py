"""The common ground of methods with several networks: how one is applied, and its parameters under their mask."""

from typing import Any

import jax

from gjax import masks
from gjax.methods.core.contract import Method
from gjax.methods.core.state import State, update_player


class Players(Method):
    """`modules` gives the networks, which all take (inputs, *, train). A field `ema` is the decay of a moving average."""

    def check_ema(self) -> None:
        """ValueError unless `ema` is a decay, or 0 for no average."""
        if not 0 <= self.ema < 1:
            raise ValueError(f'method.ema is {self.ema}; allowed: 0 <= ema < 1')

    def averaged(self, state: State, player: str, old):
        """The moving average `old` of a player's parameters after one more step, under its mask."""
        mean = jax.tree.map(lambda a, b: self.ema * a + (1 - self.ema) * b, old, state.params[player])
        return masks.apply(state.masks[player], mean)

    def modules(self) -> dict[str, Any]:
        """The Linen module of every player, in the order of their initialisation."""
        raise NotImplementedError

    def optimizer_of(self, player: str):
        """The optimiser of a player: the config's."""
        return self.optimizer

    def init_players(self, rng, inputs) -> tuple[dict, dict]:
        """Parameters and batch statistics of every player; inputs: (player, params, batch_stats so far) -> an example."""
        params, stats = {}, {}
        for i, (player, module) in enumerate(self.modules().items()):
            variables = module.init(jax.random.fold_in(rng, i), inputs(player, params, stats), train=False)
            params[player] = variables['params']
            stats[player] = variables.get('batch_stats', {})
        return params, stats

    def apply(self, player: str, params, batch_stats, inputs, *, train: bool, rng=None, **options):
        """A player's outputs and its batch statistics after this pass (unchanged unless `train`).

        rng: of its dropout, in training. options: what else its module is called with, such as gates.
        """
        variables = {'params': params, 'batch_stats': batch_stats}
        module = self.modules()[player]
        if not train:
            return module.apply(variables, inputs, train=False, **options), batch_stats
        rngs = {} if rng is None else {'dropout': rng}
        outputs, new = module.apply(variables, inputs, train=True, mutable=['batch_stats'], rngs=rngs, **options)
        return outputs, new.get('batch_stats', {})

    def masked(self, state: State, player: str, params=None):
        """A player's parameters (default: the state's) under its mask."""
        return masks.apply(state.masks[player], state.params[player] if params is None else params)

    def minimize(self, state: State, players, loss):
        """One optimiser step of these players together.

        Args:
          loss: ({player: params}) -> (scalar, (batch statistics by player, metrics)).

        Returns:
          The new state (same `step`, those batch statistics), and the metrics with 'loss/PLAYER' (that scalar, unless the
          metrics have another), 'grad_norm/PLAYER' and 'update_norm/PLAYER'.
        """

        def total(own):
            return loss({player: self.masked(state, player, params) for player, params in own.items()})

        own = {player: state.params[player] for player in players}
        (value, (stats, metrics)), gradients = jax.value_and_grad(total, has_aux=True)(own)
        metrics = {f'loss/{player}': value for player in players} | metrics
        for player in players:
            state, norms = update_player(state, player, gradients[player], self.optimizer_of(player))
            metrics |= norms
        return state.replace(batch_stats={**state.batch_stats, **stats}), metrics
