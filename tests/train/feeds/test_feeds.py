"""Both feeds give the batches of the pools, whatever a role asks for: sets, fields, classes, shares, replacement."""

import contextlib

import jax
import numpy as np
import pytest

from gjax import data
from gjax.data.dataset import check_dataset, check_split
from gjax.methods.core.contract import Role
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.feeds import Resident, Streamed, make_pools, steps_per_epoch
from gjax.train.run import Run

KEY = jax.random.key(3)


def _dataset(name, count, start):
    """Images of one level each, counted from `start`, in three classes."""
    splits = []
    for own in (count, 5):
        images = np.broadcast_to(np.arange(start, start + own, dtype=np.uint8)[:, None, None], (own, 2, 2))
        splits.append(check_split(name, images, np.arange(own) % 3))
    return check_dataset(name, *splits)


@pytest.fixture(scope='module')
def datasets():
    sets = (('photo', 14, 0), ('art', 9, 50), ('sketch', 11, 100))
    return {name: _dataset(name, count, start) for name, count, start in sets}


BOTH = ('photo', 'art')
ROLES = {
    'pooled with domains': {'': Role(BOTH, ('image', 'label', 'domain'))},
    'equal shares': {'': Role(BOTH, ('image', 'label', 'domain'), draw='equal')},
    'classes': {'': Role(BOTH, draw='classes')},
    'some classes': {'': Role(('photo',), classes=(0, 2))},
    'some classes in equal shares': {'': Role(BOTH, draw='classes', classes=(2, 1))},
    'replacement': {'': Role(BOTH, batch_size=30, replacement=True)},
    'two roles, one without labels': {'source': Role(BOTH), 'target': Role(('sketch',), ('image',), 4)},
    'domains alone': {'': Role(('art', 'sketch'), ('domain',), replacement=True, draw='equal')},
}


def _read(feed, first, count, calls):
    """The batches of `count` * calls steps from `first` on."""

    @jax.jit
    def call(source, step):
        read = feed.begin(source, step, count)
        return [read(i, step + i) for i in range(count)]

    with feed.chunks(first, [count] * calls) as sources:
        found = [jax.device_get(call(source, np.int32(first + i * count))) for i, source in enumerate(sources)]
    return [batch for part in found for batch in part]


@pytest.mark.parametrize(('name', 'devices'), [*((name, 1) for name in ROLES), ('equal shares', 2)])
def test_both_feeds_give_the_batches_of_the_pools(name, devices, datasets):
    """Six steps in calls of two, across the epochs' ends, and the same as the pool's own rows."""
    from gjax.train.devices import data_mesh

    mesh = data_mesh(jax.devices()[:devices])
    pools = make_pools(ROLES[name], datasets, 6, KEY)
    streamed = Streamed(datasets, pools, mesh, num_steps=20, max_steps=2, workers=0)
    found = [_read(feed, 1, 2, 3) for feed in (Resident(datasets, pools, mesh), streamed)]
    jax.tree.map(np.testing.assert_array_equal, *found)
    for role, pool in pools.items():
        host = data.HostDraw(pool.draw, np.asarray(jax.random.key_data(pool.rng)))
        for step, batches in enumerate(found[0], 1):
            rows, batch = host(step), batches[role]
            assert set(batch) == {*pool.role.fields, 'index'}
            np.testing.assert_array_equal(batch['index'], rows)
            expected = data.to_batch(pool.records.read(rows).columns, rows)
            expected['domain'] = (rows[:, None] >= np.asarray(pool.records.bounds)[None]).sum(axis=1)
            for field in pool.role.fields:
                np.testing.assert_allclose(batch[field], expected[field], rtol=1e-6)


def test_shares_of_a_batch(datasets):
    pools = make_pools(ROLES['equal shares'] | {'k': Role(BOTH, draw='classes')}, datasets, 6, KEY)
    host = {role: data.HostDraw(pool.draw, np.asarray(jax.random.key_data(pool.rng))) for role, pool in pools.items()}
    labels = np.asarray(pools['k'].records.class_labels())
    for step in range(7):
        np.testing.assert_array_equal(host[''](step) >= 14, [False] * 3 + [True] * 3)
        np.testing.assert_array_equal(labels[host['k'](step)], [0, 0, 1, 1, 2, 2])
    assert pools[''].draw.steps_per_epoch == 3  # of the 9 examples of the smaller set, 3 a step
    assert steps_per_epoch(pools) == 3
    assert steps_per_epoch({}) == 0


@pytest.mark.parametrize(
    ('role', 'size', 'message'),
    [
        (Role(BOTH, draw='equal'), 7, 'train.batch_size is 7; allowed: multiples of 2, the sets it is drawn from'),
        (Role(BOTH, draw='classes'), 8, 'train.batch_size is 8; allowed: multiples of 3, the classes it is drawn from'),
        (Role(BOTH), 24, 'train.batch_size is 24; allowed: at most 23, the training examples'),
        (Role(BOTH, draw='equal'), 20, 'train.batch_size is 20; allowed: at most 18, 2 times those of the smallest part'),
        (Role(('art',), classes=(1, 2)), 7, 'train.batch_size is 7; allowed: at most 6, the training examples'),
        (
            Role(('art',), classes=(7,), replacement=True),
            2,
            r"role '' draws by classes \(7,\); allowed for labels alone \(here: label\): 0..2",
        ),
        (Role(BOTH, ('image', 'depth')), 4, "role '' asks for 'depth'; allowed for photo, art: domain, image, label"),
        (Role(BOTH, draw='sorted'), 4, "role '' draws 'sorted'; allowed: shuffled, equal, classes"),
    ],
)
def test_what_a_role_cannot_have_is_refused_in_one_line(role, size, message, datasets):
    with pytest.raises(RunError, match=f'^{message}') as caught:
        make_pools({'': role}, datasets, size, KEY)
    assert '\n' not in str(caught.value)


def test_several_roles_have_keys_of_their_own(datasets):
    """A single one takes the key as it is, which keeps the order of runs with one set."""
    alone = make_pools({'': Role(('photo',))}, datasets, 6, KEY)['']
    np.testing.assert_array_equal(jax.random.key_data(alone.rng), jax.random.key_data(KEY))
    pools = make_pools({'a': Role(('photo',)), 'b': Role(('photo',), batch_size=3)}, datasets, 6, KEY)
    for number, (pool, size) in enumerate(zip(pools.values(), (6, 3), strict=True)):
        own = jax.random.fold_in(KEY, number)
        np.testing.assert_array_equal(jax.random.key_data(pool.rng), jax.random.key_data(own))
        assert pool.draw.batch_size == size


def test_splits_are_read_in_order_and_padded(datasets, meshes):
    """Also some rows of them alone, in their order; a training example's index is its place in the pool."""
    pools = make_pools({'': Role(BOTH)}, datasets, 6, KEY)
    feeds = (
        Resident(datasets, pools, meshes[1]),
        Streamed(datasets, pools, meshes[1], num_steps=2, max_steps=1, workers=0),
    )
    for feed in feeds:
        batch = jax.jit(feed.batch)
        for name, split, rows, start in (
            ('photo', 'test', None, 0),
            ('art', 'train', None, 14),
            ('art', 'train', [8, 0, 3, 3, 5], 14),
            ('sketch', 'train', [10], 0),
        ):
            own = getattr(datasets[name], split)
            chosen = np.arange(len(own)) if rows is None else np.asarray(rows)
            seen = {'image': [], 'index': []}
            with feed.examples(name, split, 4, rows) as sources:
                for source, mask in sources:
                    values = jax.device_get(batch(source))
                    assert values['image'].shape == (4, 2, 2, 1)
                    for key, found in seen.items():
                        found.append(values[key][mask])
            np.testing.assert_array_equal(np.concatenate(seen['index']), chosen + start)
            np.testing.assert_allclose(np.concatenate(seen['image']), own.images[chosen] / np.float32(255), rtol=1e-6)


def _config(**overrides):
    return configs.load('generate_to_adapt/digits.py:source_only,mnist5k_to_mnistm5k', overrides)


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'data.target': ''}, r"data.target is ''; allowed: the set to which source_only adapts"),
        ({'data.target': 'digit'}, r"data.target is 'digit' \(did you mean digits\?\); allowed"),
        ({'data.channels': 0}, r'data.target has images of \(16, 16, 3\); allowed: \(16, 16, 1\).*set data.image_size'),
        ({'data.channels': 2}, r'data.channels is 2; allowed: 0, 1, 3'),
        ({'train.batch_size': 4400}, r'train.batch_size is 4400; allowed: at most 4000'),
    ],
)
def test_what_does_not_fit_a_run_is_refused(overrides, message):
    with pytest.raises((data.DataError, RunError), match=message):
        Run(_config(**overrides))


def test_sets_that_are_alike_need_no_resizing():
    section = _config(**{'data.image_size': 0}).data
    assert data.open_sets(section)['target'].image_shape == (28, 28, 3)


def test_one_domain_is_enough_for_other_methods():
    with pytest.raises(RunError, match=r"data.target is 'digits'; allowed: '' \(supervised knows one domain\)"):
        Run(configs.load('iaat/digits.py:supervised', {'data.target': 'digits'}))


@pytest.mark.parametrize('streaming', [False, True])
def test_batches_of_both_domains_are_functions_of_seed_and_step(streaming, meshes):
    """Other lengths, orders of their own; the target's labels do not come with them."""
    options = {'data.target': 'digits', 'data.streaming': streaming, 'train.batch_size': 40, 'train.steps_per_call': 7}
    run = Run(_config(**options), meshes[8])
    assert run.info.steps_per_epoch == 1437 // 40
    read = jax.jit(lambda source, step: run.feed.begin(source, step, 1)(0, step))
    with run.feed.chunks(33, [1] * 4) as sources:
        batches = [jax.device_get(read(source, np.int32(33 + i))) for i, source in enumerate(sources)]
    assert set(batches[0]['source']) == {'image', 'label', 'index'}
    assert set(batches[0]['target']) == {'image', 'index'}
    other = Run(_config(**options | {'data.streaming': False}), meshes[1])
    with contextlib.closing(other.advance(other.init(), 0)), other.feed.chunks(35, [1]) as sources:
        again = jax.device_get(other.feed.begin(next(iter(sources)), np.int32(35), 1)(0, np.int32(35)))
    for domain in ('source', 'target'):
        np.testing.assert_array_equal(batches[2][domain]['index'], again[domain]['index'])
    train = data.open_sets(run.config.data)['target'].train
    index = batches[1]['target']['index']
    np.testing.assert_allclose(batches[1]['target']['image'], train.images[index] / np.float32(255), atol=1e-6)
    assert len(set(index)) == 40


def test_labels_of_the_target_reach_only_those_that_ask(meshes):
    roles = Run(configs.load('generate_to_adapt/digits.py:target_only,mnist5k_to_mnistm5k'), meshes[1]).pools
    assert 'label' in roles['target'].role.fields
