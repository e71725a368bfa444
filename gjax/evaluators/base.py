"""What an evaluator is: it owns its data, its cadence and its protocol, and measures one state through the engine's eyes."""

from typing import Any, ClassVar, NamedTuple

LOG, END = frozenset({'log'}), frozenset({'end'})
BOTH = LOG | END


class Findings(NamedTuple):
    """What an evaluator has found of one state.

    metrics: numbers by name. Scalars go to results.json at the end; arrays too may be logged (a histogram, say). Names that
    begin with 'validation_' are logged apart from those of the test split.
    arrays: {file: {name: array}} for figures. They become FILE.npz in the run directory or, at a log point,
    FILE/STEP.npz.
    warnings: sentences about what makes the metrics doubtful, with the evidence in numbers. At the end they go to
    results.json and to standard error.
    """

    metrics: dict[str, Any]
    arrays: dict[str, dict[str, Any]] = {}  # noqa: RUF012  a NamedTuple's default, never changed
    warnings: tuple[str, ...] = ()


class Evaluator:
    """Base class of evaluators. A method makes them once for a run, so they may keep what does not depend on the state.

    when: when it is asked: at log points ('log', every train.eval_every_*), after the last step ('end'), or both.
    protocol: what makes its numbers comparable with those of another run (attack, radius, extractor, samples); '' where the
    names of the metrics say it all. It may depend on what `prepare` found.
    concerns: parts of the names of those metrics that depend on the protocol; empty if all do.
    """

    when: ClassVar[frozenset] = BOTH
    protocol: str = ''
    concerns: tuple[str, ...] = ()

    def protocol_of(self, metric: str) -> str:
        """How a metric of this evaluator was measured: two numbers of one name compare only if this is the same."""
        return self.protocol if not self.concerns or any(part in metric for part in self.concerns) else ''

    def prepare(self, look) -> None:
        """Opens what it needs beside the run's own data. Called once before the first step, without a state.

        Raises:
          RunError, gjax.data.DataError: it cannot be measured; one line.
        """

    def __call__(self, state, look) -> Findings:
        """Measures a state. `look` is a `gjax.train.look.Look` at it."""
        raise NotImplementedError
