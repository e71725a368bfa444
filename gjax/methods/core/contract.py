"""The contract of a method: what it declares of its data, stages and evaluation, and the functions the engine calls.

`Method` holds everything that the engine may ask of a method, with defaults. The engine asks nothing else, so a paper joins
the suite as one module: a subclass of `Method`, evaluators (`gjax.evaluators`) and configs. See gjax/README.md.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax

from gjax.data.dataset import Field
from gjax.methods.core.info import DataInfo
from gjax.methods.core.optimisers import build_optimizer
from gjax.methods.core.state import State

__all__ = ['DRAWS', 'DataInfo', 'Field', 'Method', 'Role', 'Sets', 'Stage', 'State']

DRAWS = ('shuffled', 'equal', 'classes')


class Sets(NamedTuple):
    """The names of the data sets that a config opens, as `Method.roles` receives them.

    One set alone is called 'source', the set of data.target 'target'; several sources and the unseen sets carry their own
    names ('mnist5k', 'photo').
    """

    sources: tuple[str, ...]
    target: str = ''  # '' if the config names none
    unseen: tuple[str, ...] = ()  # never trained on; every evaluator of all sets measures them too


class Role(NamedTuple):
    """One batch of a training step: which sets it is drawn from, how, and which of their fields reach the step."""

    sets: tuple[str, ...]  # several are pooled into one batch
    # The columns that reach the step, of 'image', 'points', 'label'; () for all that the sets have. A column that is left
    # out reaches no step. 'domain', int32 [B], the position among the sources, is given only if it is asked for here.
    # 'index', int32 [B], the example's position in the pool, is always given.
    fields: tuple[str, ...] = ()
    batch_size: int = 0  # 0: train.batch_size
    # 'shuffled': epochs of the whole pool. 'equal': the same number from every set, in the order of `sets`. 'classes': the
    # same number of every class, in the order of the classes, so that [K * b, ...] reshapes to a batch a class.
    draw: str = 'shuffled'
    classes: tuple[int, ...] = ()  # only examples of these classes; () for all
    replacement: bool = False  # whether every draw is independent of the others, instead of epochs without repetition


@dataclasses.dataclass(frozen=True)
class Stage:
    """One run of a method that takes several, e.g. a pruning round or the training of an encoder after that of its GAN."""

    name: str
    parents: tuple[str, ...] = ()  # stages whose last states it begins from; () begins from a new state
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # config keys in which it differs
    derived: bool = False  # whether `Method.derive` gives more overrides from the parents' last states
    fresh: bool = True  # whether it needs exact initial weights; False: it overwrites them, so a quick template will do
    trains: bool = True  # False: it only evaluates the state that `begin` makes
    key: int | None = None  # folded into the run's key for `begin`; None: a number derived from the name


class Method:
    """Base class of all methods: frozen dataclasses built from a config, whose functions are pure.

    The fields `net`, `optimizer`, `info` and `evaluation` are given by `gjax.methods.build`; all other fields but those in
    `GIVEN` are options of the config's section `method`.
    """

    NETS: ClassVar[Mapping[str, Any]] = {}  # the networks it takes, by name
    EVALUATION: ClassVar[type]  # a dataclass: the options of the config's section `evaluation`
    GIVEN: ClassVar[tuple[str, ...]] = ()  # fields that are not options, e.g. those that `at` sets

    KINDS: ClassVar[tuple[str, ...]] = ('image', 'label')  # of the columns it takes: also 'map', 'points'

    may_stop: ClassVar[bool] = False  # whether `done` may end a run before its last step
    init_examples: ClassVar[int] = 2  # how many training examples `init` is given, evenly spaced over the smallest pool

    # What it declares.

    @classmethod
    def older(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """What stands for options that the config.json of an older gjax lacks, by dotted key: those whose default was
        another then, so that its runs are read as what they are. All other options are at today's defaults.

        Args:
          config: the sections that the file has.
        """
        return {}

    @classmethod
    def roles(cls, sets: Sets) -> dict[str, Role]:
        """The batches of a step by the method's own names; a single one named '' is the step's batch itself.

        {} for a method that sees no data: its step receives None. A role over the set '' (no data.target, say) is refused
        by the engine in one line, and so is a set of the config that no role takes. A stage whose method has other roles
        gets its own pools, durations and counts in `info`.
        """
        return {'': Role(sets.sources)}

    @classmethod
    def optimizers(cls, spec: Mapping[str, Any], info: DataInfo) -> dict[str, Any]:
        """The optimisers it is built with, by field, from the config's section `optimizer`."""
        return {'optimizer': build_optimizer(spec, info)}

    def fits(self) -> None:
        """Raises ValueError, one line, if the options do not suit the data or the network.

        `__post_init__` checks what can be said of the options alone; it runs before any data is opened.
        """

    def evaluators(self) -> tuple:
        """What is measured of its states: `gjax.evaluators.Evaluator` objects, made once for a run."""
        return ()

    # Training.

    def init(self, rng, batch) -> State:
        """The state before the first step, from `init_examples` training examples (None without data)."""
        raise NotImplementedError

    def step(self, state: State, batch) -> tuple[State, dict[str, jax.Array]]:
        """One step of the paper's whole alternation, and scalar metrics: 'loss/PLAYER', 'grad_norm/PLAYER', ...

        Randomness comes from `state.step_rng()` alone.
        """
        raise NotImplementedError

    def done(self, state: State):
        """Whether the run ends here, before its last step (a bool scalar); asked at least at every epoch if `may_stop`."""
        return False

    # Stages.

    def stages(self) -> tuple[Stage, ...]:
        """Its runs in an order in which parents come first; () for a method of one run."""
        return ()

    def at(self, stage: str) -> 'Method':
        """The method that trains, or is evaluated, in a stage."""
        return self

    def begin(self, stage: str, state: State, parents: Mapping[str, State], batch, *, rng) -> State:
        """The first state of a stage; not jitted.

        Args:
          stage: its name.
          state: a new state of `at(stage)`.
          parents: the last state of every parent, by name.
          batch: training examples of the stage's first role, with its fields, drawn by the seed, at most a batch (None
            without data).
          rng: a key of the stage's own.
        """
        return state

    def derive(self, stage: str, parents: Mapping[str, State]) -> dict[str, Any]:
        """The config keys that a derived stage takes from its parents' last states (on the host)."""
        return {}

    # What is taken from a state, and put into it.

    def files(self, state: State) -> dict[str, dict]:
        """{file name: arrays by name} to store beside the results as .npz; of a state on the host."""
        return {}

    def with_weights(self, state: State, arrays: Mapping[str, Any]) -> State:
        """A new state with the arrays of the config's net.weights; ValueError if they are not this network's."""
        raise ValueError('this method takes no weights from files')

    def embed(self, state: State, images):
        """(features [B, F], logits [B, K]) of images, for methods whose network others measure with."""
        raise ValueError('this method has no features to measure with; allowed: a classifier')
