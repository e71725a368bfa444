"""Means over whole splits, numbers about a state's memory, values of every training example."""

from collections.abc import Callable

from gjax.evaluators.base import BOTH, END, Evaluator, Findings


class Means(Evaluator):
    """The means of a function's per-example results over the splits of all sets.

    A run of several sets gets them as 'SET_NAME'; those of a validation split are called 'validation_...'.
    """

    def __init__(
        self,
        function: Callable,
        *,
        conclude: Callable[[dict], dict] | None = None,
        when: frozenset = BOTH,
        sets: tuple[str, ...] | None = None,
        splits: tuple[str, ...] = ('validation', 'test'),
        protocol: str = '',
    ):
        """
        Args:
          function: (state, batch, *, rng) -> {name: [B] or [B, E]}; pure, compiled by the engine.
          conclude: {name: mean} of one split, of all sets, to the metrics; default as they are.
          when: LOG, END or BOTH.
          sets: which sets; default all that the run trains on, the target and the unseen ones.
          splits: of those, the ones that a set has.
          protocol: how the numbers were measured.
        """
        self.function, self.conclude, self.when = function, conclude or dict, when
        self.sets, self.splits, self.protocol = sets, splits, protocol

    def __call__(self, state, look):
        found = {}
        for split in self.splits:
            means = {}
            for name in look.sets if self.sets is None else self.sets:
                if look.count(name, split):
                    own = look.means(self.function, name, split)
                    means |= {look.prefixed(name, key): value for key, value in own.items()}
            if means:
                start = '' if split == 'test' else f'{split}_'
                found |= {f'{start}{key}': value for key, value in self.conclude(means).items()}
        return Findings(found)


class Memory(Evaluator):
    """Numbers that follow from the state alone: (state) -> {name: scalar or array}."""

    def __init__(self, function: Callable, when: frozenset = BOTH):
        self.function, self.when = function, when

    def __call__(self, state, look):
        return Findings(look.call(self.function))


class Examples(Evaluator):
    """Values of every training example, un-augmented, in the order of the set: examples.npz, and numbers drawn from them."""

    when = END

    def __init__(self, function: Callable, conclude: Callable[[dict], dict] | None = None):
        """
        Args:
          function: (state, batch, *, rng) -> {name: [B]}; pure.
          conclude: {name: [N]} (of several sets 'SET_NAME') to scalars for results.json; default none.
        """
        self.function, self.conclude = function, conclude

    def __call__(self, state, look):
        examples = {}
        for name in look.trained:
            own = look.rows(self.function, name, 'train')
            examples |= {look.prefixed(name, key): values for key, values in own.items()}
        metrics = self.conclude(examples) if self.conclude and examples else {}
        return Findings(metrics, {'examples': examples} if examples else {})
