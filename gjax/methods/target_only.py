"""Training on the target's labels: the upper bound of domain adaptation, not a method of it."""

import dataclasses
from typing import ClassVar

from gjax.methods.source_only import SourceOnly


@dataclasses.dataclass(frozen=True)
class TargetOnly(SourceOnly):
    """F, C = argmin CE(C(F(t)), y)."""

    LABELLED: ClassVar[str] = 'target'
    target_labels: ClassVar[bool] = True


METHOD = TargetOnly
