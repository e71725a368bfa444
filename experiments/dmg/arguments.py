"""What the configs of this folder share: the methods, and the argument METHOD or METHOD,UNSEEN."""

from gjax.train.values import parse_argument

METHODS = ('aggregate', 'multi_head', 'random_masks', 'dmg')
RANDOM = {'name': 'dmg', 'fixed_masks': 'random'}  # masks that are drawn once and never learnt: a control


def parse(arg, domains) -> list[str]:
    """[method, unseen domain] of a config's argument, the first of the domains if it names none; ValueError for others."""
    return parse_argument(arg, METHOD=METHODS, UNSEEN=tuple(domains))


def options(method: str, **of_masks) -> dict:
    """The section `method` of a config; of_masks: options of `dmg` that learns its masks."""
    if method == 'random_masks':
        return dict(RANDOM)
    return {'name': method} | (of_masks if method == 'dmg' else {})


def leave_out(domains: dict[str, str], unseen: str) -> dict:
    """The keys 'sources' and 'unseen' of a config's section `data`, from {domain: name of its set}."""
    sources = tuple(name for domain, name in domains.items() if domain != unseen)
    return {'sources': sources, 'unseen': (domains[unseen],)}
