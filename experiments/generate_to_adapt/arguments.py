"""What the configs of this folder share: the methods, and the argument METHOD or METHOD,TRANSFER."""

from gjax.train.values import parse_argument

METHODS = ('source_only', 'target_only', 'dann', 'adda', 'dan', 'coral', 'mcd', 'generate_to_adapt')


def parse(arg, transfers) -> list[str]:
    """[method, transfer] of a config's argument, the first of the transfers if it names none; ValueError for others."""
    return parse_argument(arg, METHOD=METHODS, TRANSFER=tuple(transfers))
