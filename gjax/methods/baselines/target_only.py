"""Training on the target's labels: the upper bound of domain adaptation, not a method of it."""

import dataclasses
from typing import ClassVar

from gjax.methods.baselines.source_only import SourceOnly
from gjax.methods.core.adaptation import TARGET
from gjax.methods.core.contract import Role


@dataclasses.dataclass(frozen=True)
class TargetOnly(SourceOnly):
    """F, C = argmin CE(C(F(t)), y)."""

    LABELLED: ClassVar[str] = TARGET

    @classmethod
    def roles(cls, sets):
        """The target with its labels; the source is only evaluated, and drawn so that all methods see equal epochs."""
        return {'source': Role(sets.sources), 'target': Role((sets.target,), fields=('image', 'label'))}


METHOD = TargetOnly
