"""The compiled functions of a run: the training loop, and functions of a state over batches."""

import jax
import jax.numpy as jnp

from gjax import data
from gjax.train.devices import compiled, sharded


def make_train_call(method, mesh, feed, *, max_steps: int, augmentation: dict):
    """The compiled function (state, source, rng, count) -> (state, metrics of each step [max_steps]).

    It runs `count` steps (a number known only at run time, so one compilation serves every length) of reading batches,
    augmentation and `method.step` in one loop on the device. Batches are sharded over the mesh, the rest is replicated; the
    state is donated.

    Args:
      method: a `gjax.methods.Method`.
      mesh: the devices.
      feed: of `gjax.train.feeds`.
      max_steps: the largest count.
      augmentation: options of `data.augment_batch`. A single role is augmented with fold_in(rng, step), several with that
        key folded once more with their number.
    """

    def call(state, source, rng, count):
        read = feed.begin(source, state.step, max_steps)

        def step(i, state):
            roles = read(i, state.step)
            step_rng = jax.random.fold_in(rng, state.step)
            for number, (role, batch) in enumerate(roles.items()):
                own_rng = step_rng if len(roles) == 1 else jax.random.fold_in(step_rng, number)
                roles[role] = data.augment_batch(batch, rng=own_rng, **augmentation)
            roles = jax.lax.with_sharding_constraint(roles, sharded(mesh)) if roles else roles
            return method.step(state, step_batch(roles))

        shapes = jax.eval_shape(step, 0, state)[1]
        buffers = jax.tree.map(lambda s: jnp.zeros((max_steps, *s.shape), s.dtype), shapes)

        def body(i, carry):
            state, buffers = carry
            state, metrics = step(i, state)
            return state, jax.tree.map(lambda b, m: b.at[i].set(m), buffers, metrics)

        return jax.lax.fori_loop(0, count, body, (state, buffers))

    return compiled(call, mesh, donate_argnums=0)


def step_batch(roles: dict):
    """What a method's step receives of {role: batch}: the only batch itself if its role is '', None without data."""
    return roles[''] if roles.keys() == {''} else roles or None


def make_evaluate(function, mesh, batch_of):
    """The compiled function (state, source, more, rng, domain) -> results of function(state, batch, *more, rng=rng).

    batch_of: makes a batch of a source, inside jit; domain: if given, an int32 scalar that the batch gets as 'domain' [B].
    """

    def call(state, source, more, rng, domain=None):
        batch = batch_of(source)
        if domain is not None:
            batch |= {'domain': jnp.broadcast_to(domain, batch['index'].shape)}
        batch = jax.lax.with_sharding_constraint(batch, sharded(mesh))
        return function(state, batch, *more, rng=rng)

    return compiled(call, mesh)
