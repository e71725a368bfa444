"""Checks of options and of arrays; each raises ValueError with one line that names the argument, its value and what is
allowed.

Shapes and dtypes are checked under `jax.jit` too. Values are checked where they are concrete: Python's numbers, NumPy arrays
and JAX arrays, but not what JAX traces.
"""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

NORMS = ('linf', 'l2')  # of the balls that attacks search
DTYPES = ('float32', 'float16', 'bfloat16', 'float64')  # that images may have; float64 needs jax_enable_x64
ROUNDING = 1e-6  # how far images may lie outside their bounds, as a share of the bounds' width


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
    one_of(name, value, NORMS)


def concrete(value) -> np.ndarray | None:
    """The values of a number or an array; None if JAX traces it, or if another process holds a part of it."""
    for leaf in jax.tree.leaves(value):
        if isinstance(leaf, jax.core.Tracer) or (isinstance(leaf, jax.Array) and not leaf.is_fully_addressable):
            return None
    return np.asarray(value)


def check_eps(name: str, value, norm: str, bounds: tuple[float, float] = (0.0, 1.0)) -> None:
    """Raises ValueError if a concrete radius, a number or an array of any shape, is negative, infinite or NaN, or if it is a
    linf radius above the width of the bounds: one that was meant in steps of 1/255, most likely.
    """
    values = concrete(value)
    if values is None:
        return
    if not np.all(values >= 0):
        raise ValueError(f'{name} is {value}; allowed: >= 0')
    if norm == 'l2' and not np.all(np.isfinite(values)):
        raise ValueError(f'{name} is {value}; allowed for l2: finite radii')
    width, largest = bounds[1] - bounds[0], values.max(initial=0)
    if norm == 'linf' and largest > width * (1 + ROUNDING):
        hint = f' ({largest:g}/255?)' if width == 1 and largest <= 255 else ''
        raise ValueError(f'{name} is {largest:g}; allowed for linf: 0..{width:g}, the width of the bounds{hint}')


def check_radii(name: str, values, norm: str = 'l2', digits: int | None = None) -> None:
    """Raises ValueError unless values are ascending radii, each one of `check_eps`.

    digits: after the point, in which all must differ, where metrics are named by so many of them; default any radii.
    """
    if list(values) != sorted(values) or any(eps < 0 for eps in values):
        raise ValueError(f'{name} is {values}; allowed: ascending radii >= 0')
    if digits is not None and len({f'{eps:.{digits}f}' for eps in values}) < len(values):
        raise ValueError(f'{name} is {values}; allowed: radii that differ within {digits} digits after the point')
    check_eps(name, values, norm)


def check_shape(name: str, array, shape: tuple, words: str = '') -> None:
    """Raises ValueError unless an array has a shape; also under `jax.jit`.

    Args:
      name: of the argument.
      array: a JAX or NumPy array.
      shape: in which None stands for any size and `...` for any number of axes.
      words: what the message says is allowed; by default the shape.
    """
    if not hasattr(array, 'shape'):
        raise ValueError(f'{name} is of type {type(array).__name__}; allowed: an array')
    try:
        chex.assert_shape(array, shape)
    except AssertionError:  # whose text has several lines and no name
        raise ValueError(f'the shape of {name} is {tuple(array.shape)}; allowed: {words or shape}') from None


def check_shapes(shape: tuple, words: str, **arrays) -> None:
    """Raises ValueError unless the first of the arrays fits `shape`, as in `check_shape`, and the others have its shape:
    nothing is ever broadcast.
    """
    (first, reference), *others = arrays.items()
    check_shape(first, reference, shape, words)
    for name, array in others:
        check_shape(name, array, tuple(reference.shape), f'{tuple(reference.shape)}, that of {first}')


def check_floats(**arrays) -> None:
    """Raises ValueError unless every array has a float dtype of DTYPES; also under `jax.jit`."""
    for name, array in arrays.items():
        if str(array.dtype) not in DTYPES:
            raise ValueError(f'the dtype of {name} is {array.dtype}; allowed: {", ".join(DTYPES)}')


def check_integers(**arrays) -> None:
    """Raises ValueError unless every array has an integer dtype; also under `jax.jit`."""
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.integer):
            raise ValueError(f'the dtype of {name} is {array.dtype}; allowed: integers')


def check_key(name: str, rng) -> None:
    """Raises ValueError unless `rng` is one key, of `jax.random.key` or of the older `jax.random.PRNGKey`."""
    dtype = getattr(rng, 'dtype', None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and rng.shape == ():
        return
    if dtype == np.uint32 and rng.shape in ((2,), (4,)):  # the words of JAX's generators
        return
    found = repr(rng) if dtype is None else f'{dtype}{list(rng.shape)}'
    raise ValueError(f'{name} is {found:.60}; allowed: one key, such as jax.random.key(0)')


def check_bounds(bounds) -> None:
    """Raises ValueError unless `bounds` is a pair of finite numbers, the lower one first."""
    pair = tuple(bounds) if isinstance(bounds, tuple | list) else ()
    numbers = len(pair) == 2 and all(isinstance(value, int | float | np.number) for value in pair)
    if not numbers or not all(map(math.isfinite, pair)) or pair[0] >= pair[1]:
        raise ValueError(f'bounds is {bounds!r:.60}; allowed: (low, high), two finite numbers with low < high')


def check_images(name: str, images, bounds: tuple[float, float] = (0.0, 1.0)) -> None:
    """Raises ValueError unless images are a batch of at least one example, of a float dtype, within their bounds.

    Args:
      name: of the argument.
      images: [B, ...] of rank 2 or higher, of a dtype of DTYPES; values are checked where they are concrete.
      bounds: (low, high); values may lie outside by ROUNDING times the width. Infinite ones refuse NaN alone.
    """
    check_shape(name, images, (None, None, ...), '[B, ...], such as [B, H, W, C]')
    if jnp.issubdtype(images.dtype, jnp.integer):
        raise ValueError(f'the dtype of {name} is {images.dtype}; allowed: {", ".join(DTYPES)} (divide by 255?)')
    check_floats(**{name: images})
    if not images.shape[0]:
        raise ValueError(f'the shape of {name} is {tuple(images.shape)}; allowed: at least one example')
    values = concrete(images)
    if values is None or not values.size:
        return
    (low, high), lowest, highest = bounds, float(values.min()), float(values.max())
    slack = ROUNDING * (high - low) if math.isfinite(high - low) else 0.0
    if not (lowest >= low - slack and highest <= high + slack):  # NaN compares false
        found = f'{lowest:.4g}..{highest:.4g}'
        raise ValueError(f'{name} lie in {found}; allowed: {low:g}..{high:g} (bounds); normalise inside the network')
