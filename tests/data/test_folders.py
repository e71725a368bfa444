"""Folders of images: which class, split and order every file gets, what is left out and said, and what is refused."""

import hashlib
import os
import pickle
import shutil
import socket
import stat

import numpy as np
import pytest

from gjax import data
from gjax.data.folders import held_out, split_role
from tests.data.trees import contents, encoded, write


def find(path, **options):
    return data.find(f'folder:{path}', **options)


def refused(path, match: str) -> None:
    with pytest.raises(data.DataError, match=match) as caught:
        find(path).load()
    assert str(caught.value).isprintable()


def test_folders_named_by_integers_are_in_the_order_of_numbers(tmp_path):
    for k in range(12):
        write(tmp_path, f'{k}/*2', start=10 * k)
    dataset = find(tmp_path)
    assert dataset.class_names == tuple(map(str, range(12)))
    for split in dataset.load().splits.values():
        np.testing.assert_array_equal(split.labels, split.images[:, 0, 0, 1] // 10)


def test_names_that_are_not_all_integers_are_in_the_order_of_text(tmp_path):
    write(tmp_path, '10/*2', '2/*2', 'x/*2')
    assert find(tmp_path).class_names == ('10', '2', 'x')


@pytest.mark.parametrize(
    ('train', 'test', 'validation'),
    [
        ('Train', 'Test', ''),
        ('TRAIN', 'TEST', 'VAL'),
        ('training', 'testing', ''),
        ('train_images', 'test_images', 'valid_images'),
        ('trainset', 'dev-set', ''),
        ('Training Set', 'eval', ''),
        ('ILSVRC2012_img_train', 'ILSVRC2012_img_val', ''),
        ('train2017', 'test2017', 'val2017'),
        ('cattrain', 'cattest', ''),
        ('TRAINCAT', 'TESTCAT', 'VALCAT'),
        ('cat_train', 'cattest', ''),
        ('mytrainimages', 'mytestimages', 'myvalidimages'),
    ],
)
@pytest.mark.parametrize('classes', [('cat', 'dog'), ()])
def test_split_folders_are_splits_by_any_of_their_names(tmp_path, train, test, validation, classes):
    """With class folders in them or, of a set without labels, without."""
    folders = {'train': train, 'test': test} | ({'validation': validation} if validation else {})
    expected = {}
    for number, (split, name) in enumerate(folders.items()):
        for k, own in enumerate(classes or ('',)):
            write(tmp_path, f'{name}/{own}/*{3 - number}', start=100 * number + 10 * k)
            expected.setdefault(split, {}).update({100 * number + 10 * k + i: own for i in range(3 - number)})
    assert contents(find(tmp_path)) == expected


@pytest.mark.parametrize(
    'folders',
    [
        ('Train/cat', 'Test/cat', 'photo/cat'),
        ('train/cat', 'training/cat', 'test/cat'),
        ('train/cat', 'val/cat', 'dev/cat'),
        ('test/cat', 'photo/cat'),
        ('train/cat',),
        ('test/cat', 'val/cat'),
        ('amazon_train/cat', 'webcam_test/cat'),
        ('train', 'val', 'dev'),
        ('train', 'test', 'other'),
        ('test',),
        ('trainA/cat', 'trainB/cat', 'testA/cat', 'testB/cat'),
        ('train_a/cat', 'test_b/cat'),
        ('labeled/cat', 'unlabeled/cat'),
        ('Labelled_Images/cat', 'UnlabelledImages/cat'),
        ('seen/cat', 'unseen/cat'),
        ('photo/cat', 'held-out/cat'),
        ('unlabeled/cat',),
        ('cattrain/cat', 'cattest/cat', 'photo/cat'),
        ('cattrain/cat', 'dogtest/cat'),
        ('catval/cat', 'cattest/cat'),
        ('cat_val/cat', 'cat_test/cat'),
        ('cattrain/cat', 'cattest/cat', 'dogtrain/cat', 'dogtest/cat'),
    ],
)
def test_folders_that_look_like_splits_are_never_pooled(tmp_path, folders):
    for folder in folders:
        write(tmp_path, f'{folder}/*20')
    refused(tmp_path, 'holds .*; allowed: train with one of test, val, valid')


@pytest.mark.parametrize('above', ['images', 'cat'])
def test_splits_below_other_folders_are_never_taken_for_classes(tmp_path, above):
    write(tmp_path, f'{above}/train/*10', f'{above}/val/*10')
    refused(tmp_path, f'holds train, val below {above}; allowed: split/class/image')
    write(tmp_path / 'glued', f'{above}/cattrain/*10', f'{above}/cattest/*10')
    refused(tmp_path / 'glued', f'holds cattest, cattrain below {above}; allowed: split/class/image')
    shutil.rmtree(tmp_path / 'glued')
    assert {name: len(own) for name, own in find(tmp_path / above).splits.items()} == {'train': 10, 'test': 10}


@pytest.mark.parametrize(
    'folders',
    [
        ('train', 'bus'),
        ('test_tube', 'cat'),
        ('beach/a', 'train_station/a'),
        ('contest', 'strain'),
        ('labeled', 'unlabeled'),
        ('contest/a', 'beach/a'),
        ('terrain/a', 'protest/a'),
        ('seen/a', 'sketch/a'),
    ],
)
def test_classes_and_domains_may_be_called_like_a_split(tmp_path, folders):
    for number, folder in enumerate(folders):
        write(tmp_path, f'{folder}/*10', start=10 * number)
    dataset = find(tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (18, 2)
    assert dataset.class_names == (('a',) if '/' in folders[0] else tuple(sorted(folders)))


def test_roles_of_folder_names():
    assert split_role('Train') == ('train', '')
    assert split_role('testimages') == ('test', '')
    assert split_role('amazon-val') == ('validation', 'amazon')
    for name in ('trainval', 'train_val', 'train+val', 'ImagesTrain', 'imagesTr', 'trn'):
        assert split_role(name) == ('train', '')
    assert split_role('imagesTs') == split_role('tests') == ('test', '')
    assert split_role('trainA') == ('train', 'a')
    assert split_role('tr') == split_role('ts') == ('', '')  # words of other languages
    assert split_role('photo') == split_role('train_test') == split_role('contest') == ('', '')


@pytest.mark.parametrize(
    'hidden',
    [
        '.ipynb_checkpoints/x.png',
        '__MACOSX/cat/x.png',
        'cat/._000.png',
        'cat/.DS_Store',
        'dog/Thumbs.db',
        'desktop.ini',
        '.x',
    ],
)
def test_hidden_and_system_entries_are_no_data(tmp_path, hidden):
    write(tmp_path, 'cat/*4', 'dog/*4')
    expected = data.summary(find(tmp_path)), find(tmp_path).load().train.images
    (tmp_path / hidden).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / hidden).write_bytes(b'not an image')
    assert find(tmp_path).class_names == ('cat', 'dog')
    assert data.summary(find(tmp_path)) == expected[0]
    np.testing.assert_array_equal(find(tmp_path).load().train.images, expected[1])


def test_links_to_folders_and_files_are_followed(tmp_path):
    write(tmp_path / 'far', 'dog/*3', 'x.png', start=20)
    write(tmp_path / 'near', 'cat/*3', start=10)
    (tmp_path / 'near' / 'dog').symlink_to(tmp_path / 'far' / 'dog')
    (tmp_path / 'near' / 'cat' / 'more.png').symlink_to(tmp_path / 'far' / 'x.png')
    (tmp_path / 'linked').symlink_to(tmp_path / 'near')
    found = contents(find(tmp_path / 'linked'))
    cats, dogs = dict.fromkeys((10, 11, 12, 23), 'cat'), dict.fromkeys((20, 21, 22), 'dog')
    assert found['train'] | found['test'] == cats | dogs


def test_links_that_lead_back_are_not_followed_and_counted(tmp_path):
    write(tmp_path, 'cat/*3', 'dog/*3')
    (tmp_path / 'cat' / 'again').symlink_to(tmp_path)
    (tmp_path / 'dog' / 'here').symlink_to('.')
    assert data.summary(find(tmp_path)).endswith('left out: 2 links to a folder above (cat/again, dog/here)')


@pytest.mark.parametrize('link', ['cat/x.png', 'emu', 'notes'])
def test_links_to_nothing_are_refused_by_name(tmp_path, link):
    write(tmp_path, 'cat/*3')
    (tmp_path / link).symlink_to(tmp_path / 'gone')
    refused(tmp_path, f'{link} is a link to nothing')
    (tmp_path / link).unlink()
    (tmp_path / link).symlink_to(link.rpartition('/')[2])  # itself
    refused(tmp_path, f'{link} is a link to nothing')


@pytest.mark.parametrize('kind', ['pipe', 'socket', 'device', 'linked device'])
def test_an_image_that_is_no_file_is_refused_and_not_waited_for(tmp_path, kind):
    write(tmp_path, 'cat/*3')
    path = tmp_path / 'cat' / 'x.png'
    if kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'socket':
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == 'device':
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except PermissionError:
            pytest.skip('only root makes devices')
    else:
        path.symlink_to('/dev/zero')
    refused(tmp_path, r'cat/x\.png is no regular file')
    path.rename(tmp_path / 'cat' / 'x.txt')
    assert data.summary(find(tmp_path)).endswith('left out: 1 file (.txt; cat/x.txt)')


def test_what_is_left_out_is_said_in_the_one_line(tmp_path):
    write(tmp_path, 'cat/*120', 'dog/*130', 'emu/*110')
    for name in ('cat/a.xcf', 'dog/b.XCF'):
        (tmp_path / name).write_bytes(b'')
    name = f'folder:{tmp_path}'
    start = (
        f'{name}: 324 train / 36 test (a tenth of every class, by hash of the path), 3 classes (cat 120, dog 130, emu 110)'
    )
    assert data.summary(find(tmp_path)) == f'{start}, left out: 2 files (.xcf; cat/a.xcf, dog/b.XCF)'
    for name in ('README', 'a.txt', 'b.txt', 'c.txt'):
        (tmp_path / name).write_bytes(b'')
    (tmp_path / 'empty').mkdir()
    expected = ', without images: empty, left out: 6 files (.txt 3, .xcf 2, no suffix 1; README, a.txt, b.txt, ...)'
    assert data.summary(find(tmp_path)) == start + expected


def test_classes_without_an_image_in_a_split_are_named(tmp_path):
    write(tmp_path, 'train/cat/*3', 'train/dog/*3', 'test/dog/*1', 'test/emu/*1')
    expected = '6 train / 2 test, 3 classes (cat 3, dog 4, emu 1), no train images of 1 class (emu)'
    assert data.summary(find(tmp_path)).endswith(f'{expected}, no test images of 1 class (cat)')


def test_pooled_domains_and_many_classes_in_one_line(tmp_path):
    for k in range(7):
        write(tmp_path, f'art/c{k}/*{10 + k}', f'photo/c{k}/*10')
    text = data.summary(find(tmp_path))
    assert '7 classes (from 20 of c0 to 26 of c6)' in text
    assert text.endswith(', 2 domains together (art, photo)')


def test_one_flat_folder_is_a_set_without_labels(tmp_path):
    write(tmp_path, '*40')
    dataset = find(tmp_path)
    assert (dataset.num_classes, list(dataset.fields), dataset.class_names) == (0, ['image'], ())
    assert list(dataset.load().train.columns) == ['image']
    assert data.summary(dataset) == f'folder:{tmp_path}: 36 train / 4 test (a tenth, by hash of the path), no labels'


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        ((), r'holds no images \(\.png, .*\), but 1 file \(\.txt; notes\.txt\)'),
        (('a.png', 'cat/b.png'), r'images at depths \[1, 2\] \(a\.png, cat/b\.png\); allowed: all class/image, all domain'),
        (('a/b/c/d.png',), r'images at depths \[4\] \(a/b/c/d\.png\)'),
        (('cat/a.png', 'dog/b.png'), 'too few images: none falls into the test split'),
    ],
)
def test_what_is_no_set_is_refused_in_one_line(tmp_path, files, message):
    (tmp_path / 'notes.txt').write_bytes(b'')
    write(tmp_path, *files)
    refused(tmp_path, message)


def test_a_tenth_of_every_class_is_held_out_by_the_hash_of_the_path():
    """By a plain reading of the rule; of a class of one image none, of two to fourteen one."""
    sizes = {'one': 1, 'two': 2, 'few': 14, 'more': 15, 'many': 237}
    files = [f'{name}/{i}.png' for name, count in sizes.items() for i in range(count)]
    held = held_out(files, [file.partition('/')[0] for file in files])
    for name, count in sizes.items():
        own = sorted((file for file in files if file.startswith(name)), key=lambda f: hashlib.sha256(f.encode()).hexdigest())
        expected = {'one': 0, 'two': 1, 'few': 1, 'more': 2, 'many': 24}[name]
        assert sorted(own[:expected]) == sorted(f for f, out in zip(files, held, strict=True) if out and f.startswith(name))
        assert len(own) == count


def test_one_more_file_moves_at_most_one_other():
    files = [f'cat/{i}.png' for i in range(200)]
    before = {f for f, out in zip(files, held_out(files, [0] * 200), strict=True) if out}
    for more in range(20):
        grown = [*files, f'cat/new{more}.png']
        after = {f for f, out in zip(grown, held_out(grown, [0] * 201), strict=True) if out}
        assert len(before ^ (after - {grown[-1]})) <= 1


def test_names_that_are_no_text_are_read_and_printed(tmp_path):
    folder = os.fsencode(tmp_path) + b'/\xff'
    os.mkdir(folder)
    for i in range(4):
        with open(folder + b'/\xfe%d.png' % i, 'wb') as stream:
            stream.write(encoded(i))
    write(tmp_path, 'cat/*4', start=10)
    dataset = pickle.loads(pickle.dumps(find(tmp_path)))
    assert sorted([*contents(dataset)['train'], *contents(dataset)['test']]) == [0, 1, 2, 3, 10, 11, 12, 13]
    assert data.summary(dataset).isprintable()
    with open(folder + b'/\xfe0.png', 'wb') as stream:
        stream.write(b'no image')
    refused(tmp_path, r'udcfe0\.png is not a readable image')


def test_a_name_in_two_unicode_forms_is_one_class(tmp_path):
    write(tmp_path, 'a/caf\u00e9/*3', 'b/cafe\u0301/*3')
    assert find(tmp_path).class_names == ('caf\u00e9',)
