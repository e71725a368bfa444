"""Which sets a config's names stand for: all domains of a folder, one left out of them, and what is refused."""

import numpy as np
import pytest

from gjax import data
from gjax.data.chosen import choose
from gjax.train import config as configs
from tests.data.trees import contents, write

DOMAINS = ('art', 'cartoon', 'photo', 'sketch')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """A folder domain/class/image with lists beside the domains, and the same images as a file for each domain."""
    root = tmp_path_factory.mktemp('data')
    for number, domain in enumerate(DOMAINS):
        write(root / 'tree' / domain, 'dog/*4', 'elk/*3', start=100 * number)
        images = np.full((6, 4, 4, 3), number, np.uint8)
        arrays = {f'{split}_{what}': own for split in ('train', 'test') for what, own in (('images', images),)}
        arrays |= {f'{split}_labels': np.arange(6) % 2 for split in ('train', 'test')}
        np.savez(root / f'pack_{domain}.npz', **arrays)
    (root / 'tree' / 'photo_train.txt').write_text('photo/dog/000.png 0')
    (root / 'tree' / '.cache').mkdir()
    for domain in ('real', 'clipart'):
        (root / 'tfds' / 'fakenet' / domain / '1.0.0').mkdir(parents=True)
    (root / 'tfds' / 'fakenet' / 'sketch' / '1.0.0.incomplete7').mkdir(parents=True)
    return root


def _section(root, **options):
    """The section `data` of a config, in which {} stands for the folder of the sets."""

    def placed(value):
        return tuple(map(placed, value)) if isinstance(value, tuple) else value.format(root)

    section = configs.base_config().data.to_dict() | {'validation': 0.0, 'dir': str(root / 'tfds')}
    return section | {key: placed(value) for key, value in options.items()}


@pytest.mark.parametrize(
    ('name', 'shorts', 'names'),
    [
        ('folder:{}/tree/*', DOMAINS, [f'folder:{{}}/tree/{domain}' for domain in DOMAINS]),
        ('npz:{}/pack_*.npz', DOMAINS, [f'npz:{{}}/pack_{domain}.npz' for domain in DOMAINS]),
        ('fakenet/*', ('clipart', 'real'), ['fakenet/clipart', 'fakenet/real']),  # what is half prepared is no set
        ('folder:{}/tree/*toon', ('car',), ['folder:{}/tree/cartoon']),
    ],
)
def test_a_star_stands_for_every_set_that_fits(root, name, shorts, names):
    found = choose(_section(root, sources=(name,)))
    assert tuple(one.short for one in found.sources) == tuple(shorts)
    assert [one.name for one in found.sources] == [own.format(root) for own in names]
    assert (found.target, found.unseen) == (None, ())


def test_the_domains_of_a_folder_are_sets_of_their_own(root):
    opened = data.open_sets(_section(root, sources=('folder:{}/tree/*',)))
    assert tuple(opened) == DOMAINS
    for number, domain in enumerate(DOMAINS):
        found = contents(opened[domain])
        everything = {own: name for split in found.values() for own, name in split.items()}
        assert everything == {100 * number + i: 'dog' if i < 4 else 'elk' for i in range(7)}
    assert 'beside the domains: 1 file (photo_train.txt)' in data.summary(opened['art'])


@pytest.mark.parametrize('named', ['photo', 'folder:{}/tree/photo'])
@pytest.mark.parametrize('key', ['unseen', 'target'])
def test_a_source_that_is_unseen_or_the_target_is_taken_out_of_the_sources(root, named, key):
    options = {'sources': ('folder:{}/tree/*',), key: (named,) if key == 'unseen' else named}
    found = choose(section := _section(root, **options))
    assert [one.short for one in found.sources] == ['art', 'cartoon', 'sketch']
    own = 'photo' if key == 'unseen' else 'target'
    assert data.set_names(section)[1:] == (('', ('photo',)) if key == 'unseen' else ('target', ()))
    opened = data.open_sets(section)
    assert tuple(opened) == ('art', 'cartoon', 'sketch', own)
    trained = [
        number for name in ('art', 'cartoon', 'sketch') for split in contents(opened[name]).values() for number in split
    ]
    assert not set(range(200, 207)).intersection(trained)
    assert {number for split in contents(opened[own]).values() for number in split} == set(range(200, 207))
    assert f'taken out of data.sources, as data.{key} names it' in data.summary(opened[own])


def test_several_may_be_left_out_at_once(root):
    section = _section(root, sources=('npz:{}/pack_*.npz',), target='art', unseen=('photo', 'npz:{}/pack_sketch.npz'))
    assert data.set_names(section) == (('cartoon',), 'target', ('photo', 'sketch'))
    section = _section(root, sources=('npz:{}/pack_*.npz',), unseen=('npz:{}/pack_*.npz', 'digits'))
    with pytest.raises(data.DataError, match=r'data.sources has art, cartoon, photo, sketch, all of which data.unseen and'):
        choose(section)
    section = _section(root, sources=('digits', 'syndigits'), unseen=('folder:{}/tree/*',))  # other domains, all unseen
    assert data.set_names(section) == (('digits', 'syndigits'), '', DOMAINS)


def test_embedded_digits_leave_one_out():
    section = {'sources': ('mnist5k', 'digits', 'syndigits'), 'unseen': ('digits',)}
    assert data.set_names(section) == (('mnist5k', 'syndigits'), '', ('digits',))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'sources': ('mnist5k', 'digits'), 'unseen': ('mnistm5k',)},
            r"data.unseen has 'mnistm5k' and data.sources has 'mnist5k', but mnistm5k is made of mnist5k's images",
        ),
        (
            {'sources': ('mnist5k', 'mnistm5k', 'digits'), 'unseen': ('mnist5k',)},
            r"data.unseen has 'mnist5k' and data.sources has 'mnistm5k', but mnistm5k is made of mnist5k's images",
        ),
        ({'name': 'mnistm5k', 'unseen': ('mnist5k',)}, r"data.unseen has 'mnist5k' and data.name has 'mnistm5k', but"),
        ({'name': 'digits', 'target': 'mnist5k', 'unseen': ('mnistm5k',)}, r"'mnistm5k' and data.target has 'mnist5k', but"),
        ({'name': 'digits', 'unseen': ('digits',)}, r"data.unseen has 'digits', and so has data.name; allowed: a set that"),
        (
            {'sources': ('digits', 'mnist5k'), 'target': 'digits', 'unseen': ('digits',)},
            r'and so has data.target; allowed: a',
        ),
        ({'sources': ('digits',), 'unseen': ('digits',)}, r'data.sources has digits, all of which data.unseen and'),
        (
            {'sources': ('digits', 'mnist5k'), 'unseen': ('digits', 'digits')},
            r"two sets called 'digits'; allowed: each name",
        ),
        (
            {'sources': ('npz:/a/digits.npz', 'mnist5k'), 'unseen': ('digits',)},
            r"'digits', which is a data set, and how 'npz:",
        ),
        ({'sources': ('folder:{}/tree/*', 'npz:{}/pack_*.npz')}, r"two sets called 'art'; allowed: each name once"),
        ({'sources': ('folder:{}/*/photo',)}, r"data.sources has 'folder:.*/\*/photo'; allowed: one '\*', in the last part"),
        ({'sources': ('folder:{}/tree/**',)}, r"allowed: one '\*', in the last part"),
        ({'sources': ('*',)}, r"data.sources has '\*'; allowed: one '\*', in the last part of a name: folder:PATH/\*, npz:"),
        ({'sources': ('folder:{}/tree/x*',)}, r"data.sources has 'folder:.*/x\*', but there is no such folder"),
        ({'sources': ('npz:{}/x*.npz',)}, r"data.sources has 'npz:.*/x\*.npz', but there is no such file"),
        ({'sources': ('pacs/*',)}, r"data.sources has 'pacs/\*', but there is no such prepared set; run gjax prepare"),
        ({'sources': ('folder:{}/none/*',)}, r"data.sources has 'folder:.*', but '.*/none/' cannot be listed: No such file"),
        ({'sources': ('digits',), 'unseen': ('npz:{}/y*.npz',)}, r"data.unseen has 'npz:.*', but there is no such file"),
    ],
)
def test_what_cannot_be_meant_is_one_line(root, options, message):
    section = _section(root, **options)
    with pytest.raises(data.DataError, match=message) as caught:
        choose(section)
    assert '\n' not in str(caught.value)


def test_splits_and_images_are_no_domains(tmp_path):
    write(tmp_path, 'set/train/dog/*2', 'set/test/dog/*2', 'mixed/photo/dog/*2', 'mixed/loose.png')
    with pytest.raises(data.DataError, match=r'set/\* holds test, train, the splits of one set; allowed: .*, or folder'):
        choose({'sources': (f'folder:{tmp_path}/set/*',)})
    with pytest.raises(data.DataError, match=r'loose.png lies beside the domains; allowed: domain/class/image'):
        choose({'sources': (f'folder:{tmp_path}/mixed/*',)})


def test_a_target_made_of_the_source_is_allowed():
    assert data.set_names({'name': 'mnist5k', 'target': 'mnistm5k'}) == (('source',), 'target', ())


def test_an_unknown_domain_is_refused_beside_the_known_ones(root):
    section = _section(root, sources=('folder:{}/tree/*',), unseen=('foto',))
    with pytest.raises(data.DataError, match=r"data.unseen is 'foto' \(did you mean photo\?\); allowed: art, cartoon, p"):
        data.open_sets(section)
