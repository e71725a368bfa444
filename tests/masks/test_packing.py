"""A ticket on its way through arrays: what goes in comes out, in little space, and damage is noticed."""

import io
import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gjax import masks


def _ticket(seed, shapes, density):
    rng = np.random.default_rng(seed)
    mask, values = {}, {}
    for i, shape in enumerate(shapes):
        mask[f'layer{i}'] = {'kernel': rng.random(shape) < density, 'bias': None}
        values[f'layer{i}'] = {
            'kernel': rng.normal(size=shape).astype(np.float32),
            'bias': rng.normal(size=3).astype(np.float16),
        }
        values[f'layer{i}']['kernel'] *= mask[f'layer{i}']['kernel']
    return mask, values


_shapes = st.lists(st.lists(st.integers(0, 6), max_size=4).map(tuple), max_size=3)


@given(st.integers(0, 1000), _shapes, st.floats(0, 1))
def test_what_goes_in_comes_out(seed, shapes, density):
    mask, values = _ticket(seed, shapes, density)
    found_mask, found = masks.unpack(masks.pack(mask, values))
    jax.tree.map(np.testing.assert_array_equal, found, values)
    for name, layer in mask.items():
        np.testing.assert_array_equal(found_mask[name]['kernel'], layer['kernel'])
        assert found_mask[name]['bias'] is None
    assert jax.tree.map(lambda a: a.dtype, found) == jax.tree.map(lambda a: a.dtype, values)


@pytest.mark.parametrize('density', [0.5, 0.1, 0.01])
def test_a_file_takes_the_survivors_and_a_bit_a_weight(density):
    mask, values = _ticket(0, [(3, 3, 32, 64), (3, 3, 64, 64), (1024, 128)], density)
    file = io.BytesIO()
    np.savez(file, **masks.pack(mask, values))
    kept, total = masks.count(mask)
    assert len(file.getvalue()) <= 1.3 * (4 * int(kept) + total / 8)


def _index(*rows):
    return np.frombuffer(json.dumps(rows).encode(), np.uint8)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda a: a.pop('mask'), 'this is no ticket'),
        (lambda a: a.update(index=a['index'][:-2]), 'this is no ticket'),
        (lambda a: a.update(mask=a['mask'][:-1]), 'bytes of mask'),
        (lambda a: a.update(values=a['values'][:-1]), 'are cut off'),
        (lambda a: a.update(values=np.append(a['values'], np.uint8(0))), 'more values than its index names'),
        (lambda a: a.update(index=np.frombuffer(b'[["a",[9],"object",false]]', np.uint8)), 'unknown kind'),
        (
            lambda a: a.update(index=np.frombuffer(b'[["a",[99999999999,9999999],"bool",false]]', np.uint8)),
            'ticket is damaged',
        ),
        (lambda a: a.update(mask=b'bytes'), 'this is no ticket'),
        (lambda a: a.update(values=b'bytes'), 'this is no ticket'),
        (lambda a: a.update(index=b'bytes'), 'this is no ticket'),
        (lambda a: a.update(index=_index(['a', [float('inf')], 'bool', False])), "'a' has sizes that no array has"),
        (lambda a: a.update(index=_index(['a', [float('nan')], 'bool', True])), "'a' has sizes that no array has"),
        (lambda a: a.update(index=_index(['a', [2.5], 'bool', False])), "'a' has sizes that no array has"),
        (lambda a: a.update(index=_index(['a', [True], 'bool', False])), "'a' has sizes that no array has"),
        (lambda a: a.update(index=_index(['a', [-1], 'bool', False])), "'a' has sizes that no array has"),
        (lambda a: a.update(index=_index(['a', [0, 10**30], 'bool', False])), "'a' has sizes that no array has"),
        (lambda a: a.update(index=_index(['a', [0, 2**49, 2**49], 'float64', True])), "'a' has sizes that no array has"),
        (lambda a: a.update(index=_index(['a', [10**4000] * 2, 'bool', True])), "'a' has sizes that no array has"),
        (lambda a: a.update(index=_index(['a', [1] * 65, 'bool', False])), "'a' has sizes that no array has"),
        (lambda a: a.update(index=_index(['a', '12', 'bool', False])), "'a' has sizes that no array has"),
        (lambda a: a.update(index=_index(['a', [1], ['bool'], False])), 'unknown kind'),
        (lambda a: a.update(index=_index(['a', [1], 'bool', 'no'])), 'unknown kind'),
        (
            lambda a: a.update(index=_index([{'a': 1}, [1], 'bool', False])),
            r"called \"{'a': 1}\"; allowed: text of at most 64",
        ),
        (lambda a: a.update(index=_index(['a/' * 64 + 'a', [1], 'bool', False])), 'allowed: text of at most 64 levels'),
        (lambda a: a.update(index=_index(['a/' * 100_000, [1], 'bool', False])), 'allowed: text of at most 64 levels'),
        (lambda a: a.update(index=_index(['a' * 10**6, [1], 'bool', False])), 'and 1,000 characters'),
        (lambda a: a.update(index=_index(['a\nb', [9**9], 'bool', False]), mask=a['mask'][:0]), r"'a\\nb' are cut off"),
        (lambda a: a.update(index=np.frombuffer(b'[' * 100_000, np.uint8)), 'this is no ticket'),
    ],
)
def test_a_damaged_ticket_is_refused_in_one_line(change, message):
    arrays = masks.pack(*_ticket(0, [(4, 5)], 0.5))
    change(arrays)
    with pytest.raises(ValueError, match=message) as caught:
        masks.unpack(arrays)
    assert str(caught.value).isprintable()


def test_masks_and_values_must_fit():
    mask, values = _ticket(0, [(4, 5)], 0.5)
    with pytest.raises(ValueError, match='masks without values: other/kernel'):
        masks.pack({**mask, 'other': {'kernel': np.ones(3, bool)}}, values)
    mask['layer0']['kernel'] = mask['layer0']['kernel'][1:]
    with pytest.raises(ValueError, match=r'the mask of layer0/kernel is \(3, 5\)'):
        masks.pack(mask, values)
