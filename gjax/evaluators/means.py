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
        across: Callable[[dict[str, dict]], dict] | None = None,
        when: frozenset = BOTH,
        sets: tuple[str, ...] | None = None,
        splits: tuple[str, ...] = ('validation', 'test'),
        needs: tuple[str, ...] = (),
        protocol: str = '',
        concerns: tuple[str, ...] = (),
    ):
        """
        Args:
          function: (state, batch, *, rng) -> {name: [B] or [B, E]}; pure, compiled by the engine.
          conclude: {name: mean} of one set to its metrics; default as they are.
          across: {set: {name: mean}} of one split to metrics of several sets; default none.
          when: LOG, END or BOTH.
          sets: which sets; default all that the run trains on, the target and the unseen ones.
          splits: of those, the ones that a set has.
          needs: the fields that the function reads and a set may lack ('label'); sets without them are left out.
          protocol: how the numbers were measured.
          concerns: parts of the names of the metrics of which it says that; default all.
        """
        self.function, self.conclude, self.across, self.when = function, conclude or dict, across, when
        self.sets, self.splits, self.needs = sets, splits, needs
        self.protocol, self.concerns = protocol, concerns

    def __call__(self, state, look):
        found = {}
        for split in self.splits:
            names = [name for name in (look.sets if self.sets is None else self.sets) if look.count(name, split)]
            names = [name for name in names if look.has(name, *self.needs)]
            means = {name: look.means(self.function, name, split) for name in names}
            start = '' if split == 'test' else f'{split}_'
            for name, own in means.items():
                found |= {f'{start}{look.prefixed(name, key)}': value for key, value in self.conclude(own).items()}
            if self.across and means:
                found |= {f'{start}{key}': value for key, value in self.across(means).items()}
        return Findings(found)


class Memory(Evaluator):
    """Numbers that follow from the state alone: (state) -> {name: scalar or array}."""

    def __init__(self, function: Callable, when: frozenset = BOTH):
        self.function, self.when = function, when

    def __call__(self, state, look):
        return Findings(look.call(self.function))


class Examples(Evaluator):
    """Values of every training example, un-augmented, in the order of the set: examples.npz, and numbers drawn from them.

    In a run of several sets the values and the numbers are called 'SET_NAME'.
    """

    when = END

    def __init__(
        self,
        function: Callable,
        conclude: Callable[[dict], dict] | None = None,
        across: Callable[[dict[str, dict]], dict] | None = None,
    ):
        """
        Args:
          function: (state, batch, *, rng) -> {name: [B]}; pure.
          conclude: {name: [N]} of one set to scalars for results.json; default none.
          across: {set: {name: [N]}} to scalars of several sets; default none.
        """
        self.function, self.conclude, self.across = function, conclude, across

    def __call__(self, state, look):
        examples, metrics = {}, {}
        values = {name: look.rows(self.function, name, 'train') for name in look.trained}
        for name, own in values.items():
            examples |= {look.prefixed(name, key): array for key, array in own.items()}
            if self.conclude:
                metrics |= {look.prefixed(name, key): number for key, number in self.conclude(own).items()}
        if self.across and values:
            metrics |= self.across(values)
        return Findings(metrics, {'examples': examples} if examples else {})
