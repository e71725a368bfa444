"""What the configs of this folder share: the argument TRAINING or TRAINING,NET, and more after commas."""

WEIGHTS = {'hybrid': 0.5, 'clean': 0.0, 'adversarial': 1.0}
METHODS = tuple(WEIGHTS)


def parse(arg, nets, *more) -> list[str]:
    """[training, net, ...] of a config's argument, the first allowed where it names none; ValueError for others."""
    allowed, given = (METHODS, tuple(nets), *map(tuple, more)), arg.split(',')
    values = [*given, *(names[0] for names in allowed[len(given) :])]
    if len(values) > len(allowed) or any(value not in names for value, names in zip(values, allowed, strict=False)):
        words = 'TRAINING or TRAINING,NET' + ',DATA' * len(more)
        known = ' and '.join(', '.join(names) for names in allowed)
        raise ValueError(f'the argument is {arg!r}; allowed: {words} of {known}')
    return values
