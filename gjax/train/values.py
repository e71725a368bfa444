"""Values of config keys: from text, NumPy or paths to Python's own, of the key's type; what does not fit is refused."""

import ast
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gjax.train.errors import ConfigError

UNITS = ('steps', 'examples', 'epochs')
SPANS = ('total', 'eval_every', 'checkpoint_every')  # what a run counts in one of the units, as train.total_steps
_NAMES = ('data.sources', 'data.unseen')  # tuples of names of sets: one alone may stand without brackets and quotes
_PATHS = ('npz:', 'folder:', 'inception:')  # what a value begins with that goes on with a path


def check_seed(seed) -> None:
    """Raises ConfigError for a seed outside 0..2**32-1: random keys keep 32 bits, so two seeds would be one."""
    if not 0 <= seed < 2**32:
        raise ConfigError(f'config.seed is {seed}; allowed: 0..{2**32 - 1}')


def _absolute(path: str) -> str:
    """A path that means the same from every folder; '~' is the user's home.

    Raises:
      ConfigError: the home is not known.
    """
    try:
        return str(Path(os.path.abspath(Path(path).expanduser())))
    except RuntimeError:
        raise ConfigError(f'{path!r} begins in a home folder, and this user has none; allowed: absolute paths') from None


def plain(key: str, value):
    """A config's value as Python has it: no NumPy scalars, absolute paths, tuples for lists and NumPy arrays."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(plain(key, item) for item in value)
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, str) or not value:
        return value
    prefix = next((prefix for prefix in _PATHS if value.startswith(prefix) and value != prefix), '')
    return prefix + _absolute(value.removeprefix(prefix)) if prefix or key in ('net.weights', 'data.dir') else value


def parse(key: str, text, old):
    """`text` (from the command line, or already a value) in the type of `old`."""
    if not isinstance(text, str) or isinstance(old, str):
        value = text
    elif isinstance(old, bool):
        words = {'true': True, '1': True, 'yes': True, 'false': False, '0': False, 'no': False}
        value = words.get(text.lower(), text)
    else:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = _quotients(text) if isinstance(old, float | tuple) else text
    if key in _NAMES and text and isinstance(text, str) and not isinstance(value, tuple | list):
        value = (text,)
    value = plain(key, value)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(old, int) and not isinstance(old, bool) and isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, list | tuple):
        value = _parse_items(key, text, value, old)
    numbers = value if isinstance(value, tuple) else (value,)
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise ConfigError(f'config.{key} is {text!r}; allowed: finite numbers')
    durations = tuple(f'train.{name}_{unit}' for name in SPANS for unit in UNITS)
    duration_key = key in durations and isinstance(value, int | float)
    if old is not None and type(value) is not type(old) and not (duration_key and not isinstance(value, bool)):
        raise ConfigError(f'config.{key} is {text!r}; allowed: a value of type {type(old).__name__}, like {old!r}')
    return value


def _number(node):
    """The number that a syntax tree writes down: a constant, perhaps with a sign, or a quotient of two; else ValueError."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        over, under = _number(node.left), _number(node.right)
        if isinstance(node.left, ast.BinOp) or isinstance(node.right, ast.BinOp) or not under:
            raise ValueError('no quotient of two numbers')
        return over / under
    value = ast.literal_eval(node)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError('no number')
    return value


def _quotients(text: str):
    """The value of text such as '8/255' or '(0, 4/255, 8/255)', in the way of `ast.literal_eval`; others as they are."""
    try:
        node = ast.parse(text.strip(), mode='eval').body
        return tuple(map(_number, node.elts)) if isinstance(node, ast.Tuple | ast.List) else _number(node)
    except (ValueError, SyntaxError, OverflowError, RecursionError):
        return text


def _parse_items(key: str, text, values, old) -> tuple:
    """The items of a sequence, each a scalar of the type that the old ones have (any, where there is none to go by)."""
    kind = type(old[0]) if isinstance(old, tuple) and old else None
    values = tuple(float(v) if kind is float and type(v) is int else v for v in values)
    if any(isinstance(v, list | tuple | dict) or (kind and type(v) is not kind) for v in values):
        like = f' of {kind.__name__}, like {old!r}' if kind else ''
        raise ConfigError(f'config.{key} is {text!r}; allowed: a tuple{like}')
    return values


def parse_argument(arg: str, **allowed: Sequence[str]) -> list[str]:
    """The parts of a config's argument 'A,B,...', and for those that it lacks the first that is allowed.

    Args:
      arg: what stands after the colon of --config=FILE:ARG.
      allowed: the values of each part in order, by what messages call it: METHOD=('dann', 'adda').

    Raises:
      ValueError: too many parts, or one that is not allowed; one line.
    """
    names, values = list(allowed), list(map(tuple, allowed.values()))
    given = arg.split(',')
    if len(given) > len(names) or any(part not in own for part, own in zip(given, values, strict=False)):
        words = ' or '.join(dict.fromkeys((names[0], ','.join(names))))
        known = ' and '.join(', '.join(own) for own in values)
        raise ValueError(f'the argument is {arg!r}; allowed: {words} of {known}')
    return [*given, *(own[0] for own in values[len(given) :])]
