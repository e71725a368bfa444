"""What the configs of this folder share: the methods, and the argument METHOD or METHOD,TRANSFER."""

METHODS = ('source_only', 'target_only', 'dann', 'adda', 'dan', 'coral', 'mcd', 'generate_to_adapt')


def parse(arg, transfers) -> tuple[str, str]:
    """(method, transfer) of a config's argument, the first of the transfers if it names none; ValueError for others."""
    method, _, transfer = arg.partition(',')
    transfer = transfer or next(iter(transfers))
    if method not in METHODS or transfer not in transfers:
        raise ValueError(
            f'the argument is {arg!r}; allowed: METHOD or METHOD,TRANSFER of {", ".join(METHODS)} and {", ".join(transfers)}'
        )
    return method, transfer
