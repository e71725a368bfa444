"""Channel masks: global percentile, distances, and the floor that keeps a network in one piece."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gjax import masks
from gjax.nets.channel_groups import ChannelGroup

SCORES = {'a': jnp.asarray([0.1, 0.9, 0.5]), 'b': jnp.asarray([0.2, 0.3])}


def test_the_lowest_channels_of_all_groups_go():
    keep = masks.channel_masks(SCORES, 0.4)
    np.testing.assert_array_equal(keep['a'], [False, True, True])
    np.testing.assert_array_equal(keep['b'], [False, True])
    assert masks.kept(keep) == {'a': 2, 'b': 1}


def test_each_group_alone():
    keep = masks.channel_masks(SCORES, 0.5, scope='layer')
    np.testing.assert_array_equal(keep['a'], [False, True, False])
    np.testing.assert_array_equal(keep['b'], [False, True])
    with pytest.raises(ValueError, match="the scope is 'each'; allowed: global, layer"):
        masks.channel_masks(SCORES, 0.5, scope='each')


def test_no_group_loses_all_its_channels():
    keep = masks.channel_masks(SCORES, 0.8)
    np.testing.assert_array_equal(keep['b'], [False, True])
    assert masks.kept(masks.channel_masks(SCORES, 0.8, at_least=2)) == {'a': 2, 'b': 2}


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12), st.floats(0, 0.99))
def test_so_many_are_dropped(values, pruned):
    keep = masks.channel_masks({'all': jnp.asarray(values, jnp.float32)}, pruned)['all']
    assert int(keep.sum()) == max(1, len(values) - round(pruned * len(values)))


def test_scores_are_absolute_scales():
    groups = (ChannelGroup('a', ('norm', 'inner'), ()),)
    scores = masks.channel_scores({'norm': {'inner': {'scale': jnp.asarray([-2.0, 1.0]), 'bias': jnp.ones(2)}}}, groups)
    np.testing.assert_array_equal(scores['a'], [2.0, 1.0])


def test_distances():
    first, second = jnp.asarray([True, True, False, False]), jnp.asarray([True, False, True, False])
    assert masks.hamming(first, second) == 0.5
    assert masks.hamming(first, first) == 0


def test_rules_of_early_birds():
    """Masks of ten channels, each written by the channels it drops, and the rules by which they agree to a tenth."""
    closer = 0.1000001  # so that a distance of one channel in ten is below the bound too

    def agreeing(*dropped, distance=0.1):
        history = np.ones((len(dropped), 10), bool)
        for row, channels in zip(history, dropped, strict=True):
            row[list(channels)] = False
        rules = masks.EARLY_BIRD_RULES
        return {rule for rule in rules if masks.masks_agree(jnp.asarray(history), distance, rule=rule)}

    every = {'paper', 'released', 'any_two'}
    assert agreeing([0], [0], [0]) == every
    assert agreeing([], [0], [0]) == {'released'}  # exactly a tenth: none above the bound, but not all below it
    assert agreeing([], [0], [0], distance=closer) == every
    assert agreeing([], [0], [0, 1], distance=closer) == {'paper'}  # a slow drift
    assert agreeing([0], [1], [], distance=closer) == {'released'}  # the newest lies between the others
    assert agreeing([0, 1], [], [], distance=closer) == set()
