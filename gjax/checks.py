"""Checks of options; each raises ValueError with one line that names the key, its value and what is allowed."""

from gjax import attacks


def positive(name: str, value, *, zero: bool = True) -> None:
    """Raises ValueError unless value > 0 (or >= 0 with `zero`)."""
    if value < 0 or (not zero and value == 0):
        raise ValueError(f'{name} is {value}; allowed: {">= 0" if zero else "> 0"}')


def one_of(name: str, value, allowed) -> None:
    """Raises ValueError unless value is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f'{name} is {value!r}; allowed: {", ".join(map(str, allowed))}')


def each_of(name: str, values, allowed) -> None:
    """Raises ValueError unless every one of `values` is one of `allowed`."""
    for value in values:
        if value not in allowed:
            raise ValueError(f'{name} has {value!r}; allowed: {", ".join(map(str, allowed))}')


def check_norm(name: str, value) -> None:
    """Raises ValueError unless value is a norm that the attacks know."""
    one_of(name, value, attacks.NORMS)


def check_radii(name: str, values) -> None:
    """Raises ValueError unless values are ascending radii."""
    if list(values) != sorted(values) or any(eps < 0 for eps in values):
        raise ValueError(f'{name} is {values}; allowed: ascending radii >= 0')
