"""What the configs of this folder share: the argument TRAINING or TRAINING,NET, and more after commas."""

from gjax.train.values import parse_argument

WEIGHTS = {'hybrid': 0.5, 'clean': 0.0, 'adversarial': 1.0}
METHODS = tuple(WEIGHTS)


def parse(arg, nets, data=()) -> list[str]:
    """[training, net] of a config's argument, and its data if there is a choice; the first allowed where it names none.
    ValueError for others.
    """
    return parse_argument(arg, TRAINING=METHODS, NET=tuple(nets), **({'DATA': tuple(data)} if data else {}))
