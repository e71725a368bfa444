"""Which arrays of a network each normalised channel lies in, so that channels can be cut out of all of them at once."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Slot:
    """One axis of one parameter along which channels lie: once, or several times over with the channels running fastest (a
    dense kernel after flattened images)."""

    path: tuple[str, ...]
    axis: int


@dataclasses.dataclass(frozen=True)
class ChannelGroup:
    """Channels that exist together: a normalisation layer's, with the slots of all other parameters that they index.

    name: the network's option that says how many there are, 'widths[2]'.
    """

    name: str
    norm: tuple[str, ...]
    slots: tuple[Slot, ...]


def group(name: str, norm: tuple[str, ...], before: tuple[str, ...], *after: tuple[str, ...], bias=False, dense=()):
    """A group between the layer `before`, whose outputs are normalised, and the layers `after`; each a path of modules.

    bias: whether `before` has one. dense: those of the layers that are dense, not convolutions.
    """
    slots = [Slot((*before, 'kernel'), 1 if before in dense else 3)]
    slots += [Slot((*before, 'bias'), 0)] if bias else []
    slots += [Slot((*layer, 'kernel'), 0 if layer in dense else 2) for layer in after]
    return ChannelGroup(name, (*norm, 'BatchNorm_0'), tuple(slots))


def narrowed(sizes: dict[str, tuple[int, ...]], kept: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """A network's options with fewer channels.

    Args:
      sizes: {option: every number in it}.
      kept: {group name: its new number of channels}.
    """
    return {option: tuple(kept.get(f'{option}[{i}]', size) for i, size in enumerate(full)) for option, full in sizes.items()}
