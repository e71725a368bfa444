"""What every method shares: the state, the facts it knows about its data, and one masked optimiser update."""

import dataclasses
from typing import Any, Protocol

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


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """Facts about the training data that a method may depend on."""

    num_classes: int
    num_examples: int
    steps_per_epoch: int
    num_steps: int
    image_shape: tuple[int, int, int] = (0, 0, 0)
    class_names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Stage:
    """One run of a method that takes several, e.g. a pruning round; it begins from the last state of the stage `parent`
    ('': from a new state). overrides: config keys in which it differs; derived: more of them follow from the parent's last
    state. fresh: whether it uses numbers of a new initialisation; else it gets some that may differ in their last bits.
    """

    name: str
    parent: str = ''
    overrides: dict = dataclasses.field(default_factory=dict)
    derived: bool = False
    fresh: bool = True


class Method(Protocol):
    """A method's pure functions; everything here may be jitted.

    Batches are {'image': float32 [B, H, W, C] in [0, 1], 'label': int32 [B], 'index': int32 [B]}. A method with an attribute
    `domains`, names such as ('source', 'target'), steps on {domain: such a batch}, and is evaluated on one at a time; the
    targets' have no labels in training unless its `target_labels` is true. `init_examples`, if it has that, is how many
    training examples `init` is given, evenly spaced, instead of two.
    """

    def init(self, rng, batch) -> State:
        """The state before the first step."""

    def step(self, state: State, batch) -> tuple[State, dict[str, jax.Array]]:
        """One step of the whole alternation, and scalar metrics: 'loss/PLAYER', 'grad_norm/PLAYER', ..."""

    def evaluate(self, state: State, batch, *, rng) -> dict[str, jax.Array]:
        """Cheap per-example results [B], during training."""

    def final_evaluate(self, state: State, batch, *, rng) -> dict[str, jax.Array]:
        """All per-example results [B] or [B, E], once at the end."""

    def describe_example(self, state: State, batch) -> dict[str, jax.Array]:
        """Per-example values [B] of training images, stored for figures."""

    def summarize(self, state: State) -> dict[str, jax.Array]:
        """Numbers about the method's memory, for the log; scalars go to results.json too."""

    def summarize_examples(self, examples) -> dict[str, float]:
        """Numbers for results.json from `describe_example` over the training split."""

    def conclude(self, means: dict) -> dict[str, float]:
        """Optional: numbers for results.json from the means of `final_evaluate`."""

    def done(self, state: State) -> jax.Array:
        """Optional: whether the run ends here, before its last step; asked at the end of every epoch at least."""


class StagedMethod(Method):
    """What a method of several stages has beside."""

    def stages(self) -> tuple[Stage, ...]:
        """Its runs, each after its parent."""

    def begin(self, stage: str, state: State, parent: State | None, batch, *, rng) -> State:
        """The first state of a stage from a new one, the last one of its parent, and some training examples; not jitted."""

    def derive(self, stage: str, parent: State) -> dict:
        """The config keys that a derived stage takes from its parent's last state, on the host; asked of the parent."""

    def ticket(self, state: State) -> tuple[dict, dict]:
        """Optional: masks and values of the stage's ticket.npz (`gjax.masks.pack`), on the host."""


OPTIMIZER_DEFAULTS = {
    'name': 'sgd',  # sgd | adam | adamw
    'learning_rate': 0.1,
    'momentum': 0.9,  # sgd
    'nesterov': False,  # sgd
    'b1': 0.9,  # adam, adamw
    'b2': 0.999,  # adam, adamw
    'clip_norm': 0.0,  # gradients of a player that are longer together are scaled to this length; 0 for no limit
    'weight_decay': 0.0,  # added to the gradient as in PyTorch (sgd, adam), decoupled (adamw)
    # constant | cosine (to zero at the last step) | steps (times factor at each milestone) | inverse (1 / (1 + decay step))
    'schedule': 'constant',
    'decay': 1e-4,  # inverse
    'milestones': (),  # epochs
    'factor': 0.1,
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
    elif kind == 'inverse':

        def main(step):
            return peak / (1 + spec['decay'] * jnp.asarray(step, jnp.float32))
    else:
        raise ValueError(f'optimizer.schedule is {kind!r}; allowed: constant, cosine, steps, inverse')
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])


def build_optimizer(spec: dict, info: DataInfo) -> optax.GradientTransformation:
    """The optimiser of a config's section; missing keys are OPTIMIZER_DEFAULTS'.

    Raises:
      ValueError: unknown key, name or schedule, number out of range; one line.
    """
    for key in spec:
        if key not in OPTIMIZER_DEFAULTS:
            raise ValueError(f'there is no optimizer.{key}; allowed: {", ".join(OPTIMIZER_DEFAULTS)}')
    spec = OPTIMIZER_DEFAULTS | spec
    for key in ('learning_rate', 'clip_norm', 'weight_decay', 'momentum', 'warmup_epochs', 'decay'):
        if spec[key] < 0:
            raise ValueError(f'optimizer.{key} is {spec[key]}; allowed: >= 0')
    for key in ('b1', 'b2'):
        if not 0 <= spec[key] < 1:
            raise ValueError(f'optimizer.{key} is {spec[key]}; allowed: 0 <= {key} < 1')
    if not all(isinstance(epoch, int | float) and epoch >= 0 for epoch in spec['milestones']):
        raise ValueError(f'optimizer.milestones is {spec["milestones"]}; allowed: epochs >= 0')
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
    else:
        raise ValueError(f'optimizer.name is {name!r}; allowed: sgd, adam, adamw')
    before = clip + ([optax.add_decayed_weights(decay)] if decay else [])
    return optax.chain(*before, main) if before else main


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


def set_schedule(opt_state, updates):
    """An optimiser's state whose learning-rate schedule goes on after so many updates."""

    def is_schedule(path, _):
        return any(getattr(key, 'tuple_name', '') == 'ScaleByScheduleState' for key in path)

    count = jnp.asarray(updates, jnp.int32)
    return optax.tree_utils.tree_set(opt_state, is_schedule, count=count)


def restart_optimizer(optimizer, params, updates):
    """A fresh optimiser state (no momentum) whose learning-rate schedule goes on after so many updates."""
    return set_schedule(optimizer.init(params), updates)


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
