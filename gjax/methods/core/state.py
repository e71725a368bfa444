"""The state of a run, and one masked optimiser update of one player."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from gjax import masks


@flax.struct.dataclass
class State:
    """All that training changes, as one pytree; dicts are keyed by player ('classifier', 'generator', ...).

    memory holds what a method remembers between steps (e.g. one radius per training example); rng never changes: the
    randomness of step t is fold_in(rng, t).
    """

    step: jax.Array
    rng: jax.Array
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    opt_state: dict[str, Any]
    masks: dict[str, Any]
    memory: dict[str, Any]

    def step_rng(self):
        """The key of the current step."""
        return jax.random.fold_in(self.rng, self.step)


def update_player(state: State, player: str, gradients, optimizer, batch_stats=None):
    """One optimiser step of one player, its pruning masks applied again afterwards.

    Returns:
      The new state (same `step`), and {'grad_norm/PLAYER', 'update_norm/PLAYER'}.
    """
    params = state.params[player]
    with jax.numpy_dtype_promotion('standard'):  # optax's Adam raises a float to an int power
        updates, opt_state = optimizer.update(gradients, state.opt_state[player], params)
    params = masks.apply(state.masks.get(player), optax.apply_updates(params, updates))
    norms = {
        f'grad_norm/{player}': optax.global_norm(gradients),
        f'update_norm/{player}': optax.global_norm(updates),
    }
    state = state.replace(
        params={**state.params, player: params},
        opt_state={**state.opt_state, player: opt_state},
    )
    if batch_stats is not None:
        state = state.replace(batch_stats={**state.batch_stats, player: batch_stats})
    return state, norms


def new_state(rng, params, batch_stats, opt_state, memory=None) -> State:
    """A state at step 0 without pruning masks; the dicts are keyed by player."""
    return State(
        step=jnp.zeros((), jnp.int32),
        rng=rng,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        masks=dict.fromkeys(params),
        memory=memory or {},
    )
