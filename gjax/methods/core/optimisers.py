"""Optimisers and learning-rate schedules by name, and ramps over training."""

import jax.numpy as jnp
import optax

from gjax.methods.core.info import DataInfo

OPTIMIZER_DEFAULTS = {
    'name': 'sgd',  # sgd | adam | adamw | rmsprop | adadelta
    'learning_rate': 0.1,
    'momentum': 0.9,  # sgd
    'nesterov': False,  # sgd
    'b1': 0.9,  # adam, adamw
    'b2': 0.999,  # adam, adamw
    'rho': 0.9,  # rmsprop, adadelta: decay of the mean of squared gradients
    'clip_norm': 0.0,  # gradients of a player that are longer together are scaled to this length; 0 for no limit
    'weight_decay': 0.0,  # added to the gradient as in PyTorch (all but adamw), decoupled (adamw)
    # constant | cosine (to zero at the last step) | steps (times factor at each milestone) | exponential (times factor at
    # the end of each epoch) | inverse (1 / (1 + decay step) ** power)
    'schedule': 'constant',
    'decay': 1e-4,  # inverse
    'power': 1.0,  # inverse
    'milestones': (),  # epochs
    'factor': 0.1,  # steps, exponential
    'warmup_epochs': 0.0,  # linear from zero
}


def learning_rate_schedule(spec: dict, info: DataInfo):
    """The learning rate per step from the keys of OPTIMIZER_DEFAULTS; warm-up comes first, milestones count from step 0."""
    peak, kind = spec['learning_rate'], spec['schedule']
    warmup = round(spec['warmup_epochs'] * info.steps_per_epoch)
    if kind == 'constant':
        main = optax.constant_schedule(peak)
    elif kind == 'cosine':
        main = optax.cosine_decay_schedule(peak, max(1, info.num_steps - warmup))
    elif kind == 'steps':
        drops = {round(epoch * info.steps_per_epoch) - warmup: spec['factor'] for epoch in spec['milestones']}
        main = optax.piecewise_constant_schedule(peak, drops)
    elif kind == 'exponential':
        main = optax.exponential_decay(peak, info.steps_per_epoch, spec['factor'], staircase=True)
    else:  # inverse

        def main(step):
            below = 1 + spec['decay'] * jnp.asarray(step, jnp.float32)
            return peak / (below if spec['power'] == 1 else below ** spec['power'])

    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])


OPTIMIZERS = ('sgd', 'adam', 'adamw', 'rmsprop', 'adadelta')
SCHEDULES = ('constant', 'cosine', 'steps', 'exponential', 'inverse')


def checked_spec(spec: dict) -> dict:
    """The keys of a config's section `optimizer`, missing ones at their defaults.

    Raises:
      ValueError: unknown key, name or schedule, or a number out of range; one line.
    """
    for key in spec:
        if key not in OPTIMIZER_DEFAULTS:
            raise ValueError(f'there is no optimizer.{key}; allowed: {", ".join(OPTIMIZER_DEFAULTS)}')
    spec = OPTIMIZER_DEFAULTS | spec
    for key, allowed in (('name', OPTIMIZERS), ('schedule', SCHEDULES)):
        if spec[key] not in allowed:
            raise ValueError(f'optimizer.{key} is {spec[key]!r}; allowed: {", ".join(allowed)}')
    for key in ('learning_rate', 'clip_norm', 'weight_decay', 'momentum', 'warmup_epochs', 'decay', 'power'):
        if spec[key] < 0:
            raise ValueError(f'optimizer.{key} is {spec[key]}; allowed: >= 0')
    for key in ('b1', 'b2', 'rho'):
        if not 0 <= spec[key] < 1:
            raise ValueError(f'optimizer.{key} is {spec[key]}; allowed: 0 <= {key} < 1')
    if not all(isinstance(epoch, int | float) and epoch >= 0 for epoch in spec['milestones']):
        raise ValueError(f'optimizer.milestones is {spec["milestones"]}; allowed: epochs >= 0')
    return spec


def build_optimizer(spec: dict, info: DataInfo) -> optax.GradientTransformation:
    """The optimiser of a config's section `optimizer`; missing keys are at their defaults. ValueError as `checked_spec`."""
    spec = checked_spec(spec)
    rate = learning_rate_schedule(spec, info)
    name, decay = spec['name'], spec['weight_decay']
    clip = [optax.clip_by_global_norm(spec['clip_norm'])] if spec['clip_norm'] else []
    if name == 'adamw':
        main = optax.adamw(rate, b1=spec['b1'], b2=spec['b2'], weight_decay=decay)
        return optax.chain(*clip, main) if clip else main
    if name == 'sgd':
        main = optax.sgd(rate, momentum=spec['momentum'] or None, nesterov=spec['nesterov'])
    elif name == 'adam':
        main = optax.adam(rate, b1=spec['b1'], b2=spec['b2'])
    elif name == 'rmsprop':
        main = optax.rmsprop(rate, decay=spec['rho'], eps_in_sqrt=False)  # as PyTorch: 1e-8 beside the root, not under it
    else:
        main = optax.adadelta(rate, rho=spec['rho'])
    before = clip + ([optax.add_decayed_weights(decay)] if decay else [])
    return optax.chain(*before, main) if before else main


def set_schedule(opt_state, updates):
    """An optimiser's state whose learning-rate schedule goes on after so many updates."""

    def is_schedule(path, _):
        return any(getattr(key, 'tuple_name', '') == 'ScaleByScheduleState' for key in path)

    count = jnp.asarray(updates, jnp.int32)
    return optax.tree_utils.tree_set(opt_state, is_schedule, count=count)


def restart_optimizer(optimizer, params, updates):
    """A fresh optimiser state (no momentum) whose learning-rate schedule goes on after so many updates."""
    return set_schedule(optimizer.init(params), updates)


def ramp(step, steps):
    """The share of the full radius at int32 `step` (from 0) of a linear rise over `steps` steps; 1.0 without one."""
    return jnp.minimum(1.0, (step + 1).astype(jnp.float32) / steps) if steps else 1.0
