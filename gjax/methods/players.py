"""The common ground of methods with several networks: how one is applied, and its parameters under their mask."""

from typing import Any

import jax

from gjax import masks
from gjax.methods.base import State


class Players:
    """Mixin; `modules` gives the networks. All take (inputs, *, train)."""

    def modules(self) -> dict[str, Any]:
        """The Linen module of every player, in the order of their initialisation."""
        raise NotImplementedError

    def init_players(self, rng, inputs) -> tuple[dict, dict]:
        """Parameters and batch statistics of every player; inputs: (player, params, batch_stats so far) -> an example."""
        params, stats = {}, {}
        for i, (player, module) in enumerate(self.modules().items()):
            variables = module.init(jax.random.fold_in(rng, i), inputs(player, params, stats), train=False)
            params[player] = variables['params']
            stats[player] = variables.get('batch_stats', {})
        return params, stats

    def apply(self, player: str, params, batch_stats, inputs, *, train: bool):
        """A player's outputs and its batch statistics after this pass (unchanged unless `train`)."""
        variables = {'params': params, 'batch_stats': batch_stats}
        module = self.modules()[player]
        if not train:
            return module.apply(variables, inputs, train=False), batch_stats
        outputs, new = module.apply(variables, inputs, train=True, mutable=['batch_stats'])
        return outputs, new.get('batch_stats', {})

    def masked(self, state: State, player: str, params=None):
        """A player's parameters (default: the state's) under its mask."""
        return masks.apply(state.masks[player], state.params[player] if params is None else params)
