"""The facts about its data that a method is built with."""

import dataclasses

from gjax.data.dataset import Field


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """Facts about the training data that a method may depend on. All are 0 or empty for a method that sees no data."""

    num_classes: int
    num_examples: int  # of the first role's pool
    steps_per_epoch: int
    num_steps: int
    image_shape: tuple[int, int, int] = (0, 0, 0)
    class_names: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()  # the source sets, in the order of the numbers in a batch's 'domain'
    unseen: tuple[str, ...] = ()
    label: Field | None = None  # kind 'label', or 'map' with its ignore value
