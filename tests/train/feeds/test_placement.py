"""Which rows a process holds, global arrays of them, and sets that are too large for a device."""

from types import SimpleNamespace

import numpy as np
import pytest

from gjax import data
from gjax.train.errors import RunError
from gjax.train.feeds import check_memory
from gjax.train.feeds.placement import Replicated, own_rows, to_devices


def test_rows_become_global_arrays(meshes):
    values = np.arange(3 * 16 * 2).reshape(3, 16, 2)
    rows = own_rows(meshes[8], 16)
    np.testing.assert_array_equal(rows, np.arange(16))
    array = to_devices(values, rows, 16, meshes[8], axis=1)
    np.testing.assert_array_equal(array, values)
    assert {shard.data.shape for shard in array.addressable_shards} == {(3, 2, 2)}


def test_a_whole_split_lies_on_every_device(meshes):
    """Of 13 examples, which 8 devices cannot share equally; every column in the type of its field."""
    split = data.Split({'points': np.arange(26, dtype=np.float32).reshape(13, 2), 'label': np.arange(13) % 3})
    fields = {'points': data.Field('points', (2,), 'float32'), 'label': data.Field('label', (), 'int32', 3)}
    replicated = Replicated(split, fields, meshes[8])
    found = replicated.columns
    assert {name: (value.shape, value.dtype) for name, value in found.items()} == {
        name: (spec.shape, spec.dtype) for name, spec in replicated.shapes().items()
    }
    for name, values in split.columns.items():
        for shard in found[name].addressable_shards:
            np.testing.assert_array_equal(shard.data, values)


def _mesh_of(*limits):
    stats = [{'bytes_limit': limit} if limit else None for limit in limits]
    return SimpleNamespace(local_devices=[SimpleNamespace(memory_stats=lambda s=s: s) for s in stats])


def test_a_set_too_large_for_a_device_is_refused_before_it_is_copied():
    digits = data.load('digits')
    check_memory([digits], _mesh_of(None))
    with pytest.raises(RunError, match=r"data\.name is 'digits', which takes 0\.0 GiB on every device; allowed: half"):
        check_memory([digits], _mesh_of(None, 2**20))
