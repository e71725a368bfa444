"""A ticket as a few small arrays: one bit for every prunable weight, and the values of the weights that survive."""

import json
import math

import jax
import numpy as np

from gjax.masks.pytree import path_name

# More than any network has, and less than what breaks the programs that read it.
_DEEPEST, _LONGEST, _DIMENSIONS, _LARGEST = 64, 1000, 32, 2**50
_DTYPES = ('float32', 'float16', 'bfloat16', 'float64', 'int32', 'uint32', 'bool')


def pack(masks, values) -> dict[str, np.ndarray]:
    """The arrays of a ticket.

    Args:
      masks: nested dicts with bool or None leaves.
      values: nested dicts of arrays with at least the masks' leaves; leaves without a mask are stored whole.

    Returns:
      {'index': JSON as uint8, 'mask': packed bits as uint8, 'values': bytes of the survivors as uint8}. Written as they are
      they take the survivors' bytes, a bit a weight, and about a hundred bytes a leaf.
    """
    flags = {path_name(p): m for p, m in jax.tree_util.tree_flatten_with_path(masks)[0]}
    index, bits, kept = [], [], []
    for path, leaf in jax.tree_util.tree_flatten_with_path(values)[0]:
        name, array = path_name(path), np.asarray(leaf)
        mask = flags.pop(name, None)
        if mask is not None:
            mask = np.asarray(mask)
            if mask.shape != array.shape:
                raise ValueError(f'the mask of {name} is {mask.shape}, its values are {array.shape}')
            bits.append(mask.ravel())
            array = array[mask]
        index.append([name, list(leaf.shape), str(array.dtype), mask is not None])
        kept.append(np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8))
    if flags:
        raise ValueError(f'there are masks without values: {", ".join(sorted(flags))}')
    return {
        'index': np.frombuffer(json.dumps(index, separators=(',', ':')).encode(), np.uint8),
        'mask': np.packbits(np.concatenate([*bits, np.zeros(0, bool)])),
        'values': np.concatenate([*kept, np.zeros(0, np.uint8)]),
    }


def unpack(arrays) -> tuple[dict, dict]:
    """The (masks, values) that `pack` was given, as nested dicts of NumPy arrays; pruned values are 0.

    Raises:
      ValueError: the arrays are not those of a ticket, or do not fit together; one line.
    """
    try:
        index, data = json.loads(arrays['index'].tobytes()), arrays['values'].tobytes()
        packed = arrays['mask'].view()  # the bytes that NumPy gives of a member that is no array have no view, as above
        rows = [(name, tuple(shape), dtype, pruned) for name, shape, dtype, pruned in index]
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError('this is no ticket: it needs the arrays index, mask and values') from error
    for row in rows:
        _check_row(*row)
    total = sum(math.prod(shape) for _, shape, _, pruned in rows if pruned)
    if packed.dtype != np.uint8 or packed.ndim != 1 or packed.size != -(-total // 8):
        raise ValueError(f'this ticket is damaged: {total} weights need {-(-total // 8)} bytes of mask')
    bits, start, offset = np.unpackbits(packed, count=total).astype(bool), 0, 0
    masks, values = {}, {}
    for name, shape, dtype, pruned in rows:
        size, mask = math.prod(shape), None
        if pruned:
            mask, start = bits[start : start + size].reshape(shape), start + size
        kept = int(mask.sum()) if pruned else size
        end = offset + kept * np.dtype(dtype).itemsize
        if end > len(data):
            raise ValueError(f'this ticket is damaged: the values of {name!r} are cut off')
        array = np.frombuffer(data[offset:end], np.dtype(dtype))
        if pruned:
            array, stored = np.zeros(shape, np.dtype(dtype)), array
            array[mask] = stored
        _insert(values, name, array.reshape(shape).copy())
        _insert(masks, name, mask)
        offset = end
    if offset != len(data):
        raise ValueError('this ticket is damaged: it holds more values than its index names')
    return masks, values


def _check_row(name, shape: tuple, dtype, pruned) -> None:
    """ValueError, one line, if an entry of the index is not of the form that `pack` writes."""
    if not isinstance(name, str) or name.count('/') >= _DEEPEST or len(name) > _LONGEST:
        raise ValueError(
            f'this ticket is damaged: it has an array called {str(name)[:40]!r}; allowed: text of at most {_DEEPEST} levels '
            f'and {_LONGEST:,} characters'
        )
    if dtype not in _DTYPES or not isinstance(pruned, bool):
        raise ValueError(f'this ticket has arrays of unknown kind; allowed: {", ".join(_DTYPES)}')
    whole = len(shape) <= _DIMENSIONS and all(type(size) is int and 0 <= size <= _LARGEST for size in shape)
    if not whole or math.prod(size for size in shape if size) > _LARGEST:
        raise ValueError(
            f'this ticket is damaged: {name!r} has sizes that no array has; allowed: at most {_DIMENSIONS} whole numbers, '
            f'together {_LARGEST:,} values'
        )


def _insert(tree: dict, name: str, leaf) -> None:
    *parents, last = name.split('/')
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ValueError(f'this ticket is damaged: {name!r} lies below another array')
    if last in tree:
        raise ValueError(f'this ticket is damaged: {name!r} is there twice')
    tree[last] = leaf
