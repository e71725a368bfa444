"""The sets that a config names: their names, what they must have in common, and the one line for what does not fit."""

import numpy as np
import pytest

from gjax import data
from gjax.train import config as configs

RNG = np.random.default_rng(0)


def _store(path, *, count=30, classes=3, shape=(4, 4, 1), maps=False):
    """Random images whose labels have all classes."""
    arrays = {}
    for split, own in (('train', count), ('test', count // 2)):
        labels = np.arange(own) % classes
        arrays[f'{split}_images'] = RNG.integers(0, 256, (own, *shape)).astype(np.uint8)
        arrays[f'{split}_labels'] = (
            np.broadcast_to(labels[:, None, None], (own, *shape[:2])).astype(np.uint8) if maps else labels
        )
    np.savez(path, **arrays)
    return f'npz:{path}'


@pytest.fixture(scope='module')
def sets(tmp_path_factory):
    """{name: npz:...} of sets that are alike (photo, art, sketch) and of others that differ from them."""
    folder, found = tmp_path_factory.mktemp('sets'), {}
    for name in ('photo', 'art', 'sketch'):
        found[name] = _store(folder / f'{name}.npz')
    (folder / 'other').mkdir()
    found['twin'] = _store(folder / 'other' / 'photo.npz')
    found['four'] = _store(folder / 'four.npz', classes=4)
    found['wide'] = _store(folder / 'wide.npz', shape=(4, 6, 1))
    found['maps'] = _store(folder / 'maps.npz', maps=True)
    return found


def _section(**options):
    """The section `data` of a config."""
    section = configs.base_config().data.to_dict() | {'validation': 0.0}
    unknown = options.keys() - section.keys()
    assert not unknown, unknown
    return section | options


def test_sources_target_and_unseen_are_opened_by_name(sets):
    section = _section(sources=(sets['photo'], sets['art']), target='', unseen=(sets['sketch'],), examples=12)
    assert data.set_names(section) == (('photo', 'art'), '', ('sketch',))
    opened = data.open_sets(section, 3)
    assert {name: len(own.train) for name, own in opened.items()} == {'photo': 12, 'art': 12, 'sketch': 30}
    np.testing.assert_array_equal(opened['art'].test.images, data.load(sets['art']).test.images)
    assert list(data.open_sets(section, 3, sources_only=True)) == ['photo', 'art']
    for seed in (3, 4):  # the examples are drawn by the seed
        again = data.open_sets(section, seed)['photo'].train.images
        assert (again == opened['photo'].train.images).all() == (seed == 3)


def test_one_source_and_the_target_have_names_of_their_own(sets):
    section = _section(name=sets['photo'], target=sets['art'], target_examples=6)
    assert data.set_names(section) == (('source',), 'target', ())
    opened = data.open_sets(section)
    assert {name: len(own.train) for name, own in opened.items()} == {'source': 30, 'target': 6}
    assert len(data.from_config(section).train) == 30


def test_unseen_sets_hold_nothing_out_for_validation(sets):
    section = _section(sources=(sets['photo'],), target=sets['art'], unseen=(sets['sketch'],), validation=0.2)
    opened = data.open_sets(section)
    assert {name: sorted(own.splits) for name, own in opened.items()} == {
        'photo': ['test', 'train', 'validation'],
        'target': ['test', 'train', 'validation'],
        'sketch': ['test', 'train'],
    }
    assert len(opened['photo'].validation) == 6


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (('mnist5k', 'digits'), ('mnist5k', 'digits')),
        (('npz:/a/b.npz', 'folder:/c/d/'), ('b', 'd')),
        (('office31/amazon', 'office31/dslr'), ('office31_amazon', 'office31_dslr')),
    ],
)
def test_short_names(names, message):
    assert data.set_names({'sources': names}) == (message, '', ())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'sources': ('photo', 'four')}, r'data.sources has 4 classes; allowed: at most 3, as its first has'),
        ({'name': 'photo', 'target': 'four'}, r'data.target has 4 classes; allowed: at most 3, as data.name has'),
        ({'name': 'photo', 'unseen': ('wide',)}, r'data.unseen has images of \(4, 6, 1\); allowed: \(4, 4, 1\)'),
        ({'name': 'photo', 'target': 'wide'}, r'data.target has images of \(4, 6, 1\).*set data.image_size'),
        (
            {'name': 'photo', 'target': 'maps'},
            r'data.target has map ignoring [0-9]+ as label; allowed: label, as data.name has',
        ),
        ({'sources': ('photo', 'twin')}, r"two sets called 'photo'; allowed: each name once"),
        ({'sources': ('photo', 'art'), 'unseen': ('sketch', 'sketch')}, r"two sets called 'sketch'; allowed: each name"),
        ({'name': 'photo', 'examples': 31}, r'data.examples is 31; allowed: 0..30'),
        ({'name': 'photo', 'target': 'art', 'target_examples': 40}, r'data.target_examples is 40; allowed: 0..30'),
        ({'sources': ('photo', 'npz:/nowhere.npz')}, r"data.sources is 'npz:/nowhere.npz', but there is no such file"),
        ({'name': 'photo', 'unseen': ('digit',)}, r"data.unseen is 'digit' \(did you mean digits\?\)"),
        ({'name': 'photo', 'validation': 1.0}, r'data.validation is 1.0; allowed: 0 <= share < 1'),
    ],
)
def test_what_does_not_fit_is_one_line(sets, options, message):
    def path(value):
        return tuple(map(path, value)) if isinstance(value, tuple) else sets.get(value, value)

    with pytest.raises(data.DataError, match=message) as caught:
        data.open_sets(_section(**{key: path(value) for key, value in options.items()}))
    assert '\n' not in str(caught.value)
