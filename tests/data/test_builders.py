"""The builders of sets that TFDS lacks, on files in the published formats with made-up content."""

import bz2
import io
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from gjax import data
from gjax.data import builders, domainnet
from gjax.data.downloads import File


@pytest.fixture(autouse=True)
def no_checksums(monkeypatch):
    """Made-up files have their own."""
    for builder in (builders.Usps, builders.MnistM):
        files = tuple(File(file.name, file.url) for file in builder.FILES)
        monkeypatch.setattr(builder, 'FILES', files)


def _image(value, size=(8, 8), kind='PNG'):
    stream = io.BytesIO()
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(stream, kind)
    return stream.getvalue()


def _archive(path, files):
    """A .zip, or a .tar.gz, of {name: bytes}."""
    if path.suffix == '.zip':
        with zipfile.ZipFile(path, 'w') as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return
    with tarfile.open(path, 'w:gz') as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _prepared(name, tmp_path, manual):
    builders.prepare(name, str(tmp_path / 'tfds'), manual_dir=str(manual))
    return data.load(name, str(tmp_path / 'tfds'))


def test_usps(tmp_path):
    rng = np.random.default_rng(0)
    values = np.round(rng.uniform(-1, 1, (7, 256)), 4)
    for name, rows in (('usps.bz2', values[:5]), ('usps.t.bz2', values[5:])):
        lines = [f'{i + 1} ' + ' '.join(f'{k + 1}:{v}' for k, v in enumerate(row)) for i, row in enumerate(rows)]
        (tmp_path / name).write_bytes(bz2.compress('\n'.join(lines).encode()))
    dataset = _prepared('usps', tmp_path, tmp_path)
    assert (len(dataset.train), len(dataset.test), dataset.num_classes, dataset.image_shape) == (5, 2, 10, (16, 16, 1))
    expected = np.round(255 * (values[:5] + 1) / 2)
    for image, label in zip(dataset.train.images, dataset.train.labels, strict=True):
        np.testing.assert_array_equal(image.ravel(), expected[label])


def test_mnist_m(tmp_path):
    files = {}
    for split, count in (('train', 6), ('test', 3)):
        rows = []
        for i in range(count):
            files[f'mnist_m/mnist_m_{split}/{i:08d}.png'] = _image(10 * i, (32, 32))
            rows.append(f'{i:08d}.png {i % 10}')
        files[f'mnist_m/mnist_m_{split}_labels.txt'] = '\n'.join(rows).encode()
    _archive(tmp_path / 'mnist_m.tar.gz', files)
    dataset = _prepared('mnist_m', tmp_path, tmp_path)
    assert (len(dataset.train), len(dataset.test), dataset.image_shape) == (6, 3, (32, 32, 3))
    np.testing.assert_array_equal(dataset.train.images[:, 0, 0, 0], 10 * dataset.train.labels)


def test_syn_digits(tmp_path):
    for name, count in (('synth_train_32x32.mat', 12), ('synth_test_32x32.mat', 4)):
        labels = np.arange(count)[:, None] % 10
        images = np.broadcast_to(labels.reshape(1, 1, 1, -1).astype(np.uint8) * 20, (32, 32, 3, count))
        savemat(tmp_path / name, {'X': images, 'y': labels})
    dataset = _prepared('syn_digits', tmp_path, tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (12, 4)
    np.testing.assert_array_equal(dataset.train.images[:, 5, 5, 1], 20 * dataset.train.labels)


@pytest.mark.parametrize('archive', ['amazon.tgz', 'domain_adaptation_images.tar.gz', 'office31.zip'])
def test_office31(archive, tmp_path):
    """The layouts of three archives that are around; both splits are all of a domain."""
    files = {
        f'office/{domain}/images/{name}/frame_{i:04d}.jpg': _image(20 * i, (30 + i, 40), 'JPEG')
        for domain in ('amazon', 'webcam')
        for name in ('back_pack', 'mug', 'trash_can')
        for i in range(2)
    }
    _archive(tmp_path / archive, files | {'office/amazon/readme.txt': b'x', '__MACOSX/amazon/images/mug/._frame.jpg': b'x'})
    builders.prepare('office31/amazon', str(tmp_path / 'tfds'), manual_dir=str(tmp_path))
    dataset = data.load('office31/amazon', str(tmp_path / 'tfds'), image_size=16)
    assert (len(dataset.train), len(dataset.test), dataset.num_classes) == (6, 6, 31)
    assert sorted(set(dataset.train.labels.tolist())) == [0, 17, 30]
    assert dataset.class_names[17] == 'mug'
    assert dataset.image_shape == (16, 16, 3)


def test_pacs_all_domains_at_once(tmp_path):
    files = {
        f'PACS/{domain}/{name}/pic_{i:03d}.jpg': _image(5 * i, (227, 227), 'JPEG')
        for domain in builders.Pacs.DOMAINS
        for name in ('dog', 'person')
        for i in range(20)
    }
    _archive(tmp_path / 'PACS.zip', files)
    builders.prepare('pacs', str(tmp_path / 'tfds'), manual_dir=str(tmp_path))
    for domain in builders.Pacs.DOMAINS:
        dataset = data.find(f'pacs/{domain}', str(tmp_path / 'tfds'))
        assert len(dataset.train) + len(dataset.test) == 40
        assert sorted(dataset.test.class_labels().tolist()) == [0, 0, 6, 6]  # a tenth of either class
        assert dataset.class_names == builders.Pacs.CLASSES


@pytest.mark.parametrize('archive', ['officecaltech.tgz', 'office_caltech_10.zip', 'caltech.zip'])
def test_office_caltech10(archive, tmp_path, capsys):
    """Both splits are all of a domain; of an archive with the classes of Office-31 ten are taken."""
    files = {
        f'{domain}/{name}/image_{i:04d}.jpg': _image(20 * i, (30 + i, 40), 'JPEG')
        for domain in ('caltech', 'dslr')
        for name in ('back_pack', 'laptop_computer', 'projector', 'ruler')
        for i in range(2)
    }
    _archive(tmp_path / archive, files)
    builders.prepare('office_caltech10/caltech', str(tmp_path / 'tfds'), manual_dir=str(tmp_path))
    dataset = data.load('office_caltech10/caltech', str(tmp_path / 'tfds'), image_size=16)
    assert (len(dataset.train), len(dataset.test), dataset.num_classes) == (6, 6, 10)
    assert sorted(dataset.test.labels.tolist()) == [0, 0, 5, 5, 9, 9]
    assert set(dataset.class_names) <= set(builders.Office31.CLASSES)
    assert 'left out: 2 files (caltech/ruler/image_0000.jpg, ' in capsys.readouterr().err


def _pacs_kfold(folder):
    """The archive and the lists of PACS, two domains of 10 images, of which one is named by no list."""
    names = [
        f'{domain}/{name}/pic_{i}.jpg' for domain in ('photo', 'sketch') for name in ('dog', 'person') for i in range(5)
    ]
    _archive(folder / 'PACS.zip', {f'PACS/{name}': _image(5 * i, (227, 227), 'JPEG') for i, name in enumerate(names)})
    lines = [f'{name} {1 if "dog" in name else 7}' for name in names if name != 'photo/person/pic_4.jpg']
    for domain in ('photo', 'sketch'):
        own = [line for line in lines if line.startswith(domain)]
        (folder / f'{domain}_train_kfold.txt').write_text('\n'.join(own[1:]) + '\n')
        (folder / f'{domain}_crossval_kfold.txt').write_text(own[0])
    return names


def test_the_published_lists_of_pacs(tmp_path, capsys):
    _pacs_kfold(tmp_path)
    dataset = _prepared('pacs_kfold/photo', tmp_path, tmp_path)
    values = {name: sorted(split.images[:, 0, 0, 0].tolist()) for name, split in dataset.splits.items()}
    assert values == {'train': [5, 10, 15, 20, 25, 30, 35, 40], 'test': [0]}
    assert dataset.class_names == builders.Pacs.CLASSES
    assert sorted(dataset.train.labels.tolist()) == [0] * 4 + [6] * 4
    assert 'left out: 1 file (PACS/photo/person/pic_4.jpg)' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('photo/dog/pic_9.jpg 1', r'PACS.zip lacks 1 images that photo_train_kfold.txt names \(photo/dog/pic_9.jpg\)'),
        (
            'photo/dog/pic_1.jpg 2',
            r"_train_kfold.txt has 'photo/dog/pic_1.jpg 2' in line 9; allowed: photo/CLASS/IMAGE and the",
        ),
        ('photo/dog/pic_1.jpg 0', r"has 'photo/dog/pic_1.jpg 0' in line 9; .* CLASS, 1 for dog to 7 for person"),
        ('photo/dog/pic_1.jpg', r"has 'photo/dog/pic_1.jpg' in line 9"),
        ('sketch/dog/pic_1.jpg 1', r"has 'sketch/dog/pic_1.jpg 1' in line 9"),
        ('photo/../dog/pic_1.jpg 1', r"has 'photo/../dog/pic_1.jpg 1' in line 9"),
        ('photo/dog/pic_1.jpg 1', r"photo_train_kfold.txt has 'photo/dog/pic_1.jpg' twice; allowed: each image once"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, line, message):
    _pacs_kfold(tmp_path)
    with open(tmp_path / 'photo_train_kfold.txt', 'a') as stream:
        stream.write(line)
    with pytest.raises(data.DataError, match=message):
        builders.prepare('pacs_kfold/photo', str(tmp_path / 'tfds'), manual_dir=str(tmp_path))


def test_an_image_in_both_lists_is_told(tmp_path, capsys):
    _pacs_kfold(tmp_path)
    with open(tmp_path / 'photo_crossval_kfold.txt', 'a') as stream:
        stream.write('\n\nphoto/dog/pic_3.jpg 1')
    assert len(_prepared('pacs_kfold/photo', tmp_path, tmp_path).test) == 2
    assert '(PACS/photo/person/pic_4.jpg), 1 image in both lists' in capsys.readouterr().err


def test_domainnet_by_its_published_lists(tmp_path, monkeypatch):
    """From a mirror, with other images in the archive than those that the lists name; read as a set that TFDS knows, too."""
    mirror = tmp_path / 'mirror'
    mirror.mkdir()
    names = [f'clipart/{name}/clipart_{k}_{i}.jpg' for k, name in ((327, 't-shirt'), (344, 'zigzag')) for i in range(4)]
    names.append('clipart/The_Mona_Lisa/clipart_310_0.jpg')
    _archive(mirror / 'clipart.zip', {name: _image(20 * i, (20 + i, 30), 'JPEG') for i, name in enumerate(names)})
    labels = {'t-shirt': 327, 'zigzag': 344, 'The_Mona_Lisa': 310}
    lines = [f'{name} {labels[name.split("/")[1]]}' for name in names]
    (mirror / 'clipart_train.txt').write_text('\n'.join(lines[:3] + lines[4:6] + lines[8:]) + '\n')
    (mirror / 'clipart_test.txt').write_text('\n'.join(lines[3:4]) + '\n')
    where = {'data_dir': str(tmp_path / 'tfds'), 'mirror': mirror.as_uri()}
    with pytest.raises(
        data.DataError, match=r'what came has the MD5 sum .*; the published file has b4349693a7f9c05c53955725c4'
    ):
        builders.prepare('domainnet/clipart', **where)
    for table in (domainnet.ARCHIVES, domainnet.LISTS['clipart']):
        for key, file in table.items():
            monkeypatch.setitem(table, key, File(file.name, file.url))
    builders.prepare('domainnet/clipart', **where)
    dataset = data.load('domainnet/clipart', str(tmp_path / 'tfds'), image_size=16)
    found = {name: sorted(split.labels.tolist()) for name, split in dataset.splits.items()}
    assert found == {'train': [310, 327, 327, 327, 344, 344], 'test': [327]}
    assert (dataset.num_classes, dataset.class_names[308]) == (345, 'The_Eiffel_Tower')
    assert data.set_names({'sources': ('domainnet/*',), 'dir': str(tmp_path / 'tfds')}) == (('clipart',), '', ())
    (mirror / 'sketch_train.txt').write_text('<html>log in</html>')
    monkeypatch.setitem(domainnet.LISTS['sketch'], 'train', File('sketch_train.txt'))
    with pytest.raises(data.DataError, match=r"begins with b'<html>log in</html>' and is no whole .txt file: it is a page"):
        builders.prepare('domainnet/sketch', **where)


@pytest.mark.parametrize('mode', ['P', 'CMYK', 'RGBA', '1'])
def test_images_of_other_modes_are_stored_as_folders_read_them(tmp_path, mode):
    pixels = np.zeros((6, 6, 3), np.uint8)
    pixels[:3], pixels[3:] = (255, 0, 0), (0, 0, 255)
    image, stream = Image.fromarray(pixels).convert(mode), io.BytesIO()
    image.save(stream, 'JPEG' if mode == 'CMYK' else 'PNG')
    _archive(tmp_path / 'office31.zip', {'office/webcam/images/mug/0.png': stream.getvalue()})
    found = _prepared('office31/webcam', tmp_path, tmp_path).train.images[0]
    with Image.open(stream) as again:
        np.testing.assert_array_equal(found, np.asarray(again.convert('RGB')))


def test_what_is_published_of_domainnet():
    """The files by domain; TFDS's own builder names the same classes in the same order."""
    from tensorflow_datasets.image_classification.domainnet import domainnet as published

    assert list(domainnet.CLASSES) == published._CLASS_NAMES
    configs = {config.name: config.img_url for config in published.Domainnet.BUILDER_CONFIGS}
    assert {own: file.url for own, file in domainnet.ARCHIVES.items()} == {
        own: f'{published.Domainnet._BASE_URL}/{url}' for own, url in configs.items()
    }
    sums = [file.md5 for file in domainnet.ARCHIVES.values()]
    sums += [file.md5 for lists in domainnet.LISTS.values() for file in lists.values()]
    assert len(set(sums)) == 18
    assert all(len(md5) == 32 and not md5.strip('0123456789abcdef') for md5 in sums)


def test_hidden_entries_of_an_archive_are_skipped_and_others_counted(tmp_path, capsys):
    files = {f'office/webcam/images/mug/{i}.jpg': _image(20 * i, kind='JPEG') for i in range(3)}
    files |= {'office/webcam/images/mug/._0.jpg': b'x', 'office/webcam/images/.ipynb_checkpoints/mug/0.jpg': b'x'}
    files |= {'__MACOSX/webcam/images/mug/0.jpg': b'x', 'office/webcam/images/mug/Thumbs.db': b'x'}
    files |= {'office/webcam/images/cup/0.jpg': _image(0), 'office/webcam/list.txt': b'x', 'office/dslr/list.txt': b'x'}
    _archive(tmp_path / 'office31.zip', files)
    dataset = _prepared('office31/webcam', tmp_path, tmp_path)
    assert sorted(dataset.train.images[:, 0, 0, 0].tolist()) == [0, 20, 40]
    expected = '3 train / 3 test, 31 classes, left out: 2 files (office/webcam/images/cup/0.jpg, office/webcam/list.txt)'
    assert f'office31/webcam: {expected}' in capsys.readouterr().err


def test_every_image_is_decoded_once_before_a_set_is_called_prepared(tmp_path):
    files = {f'office/webcam/images/mug/{i}.jpg': _image(20 * i, kind='JPEG') for i in range(5)}
    broken = files['office/webcam/images/mug/2.jpg'][:-200]
    for bad, message in ((b'no image', 'it is damaged, or none of PNG, JPEG'), (broken, '')):
        _archive(tmp_path / 'office31.zip', files | {'office/webcam/images/mug/2.jpg': bad})
        with pytest.raises(data.DataError, match=f'office31/webcam train: mug/2.jpg is not a readable image: {message}'):
            builders.prepare('office31/webcam', str(tmp_path / 'tfds'), manual_dir=str(tmp_path))
    assert not (tmp_path / 'tfds/office31/webcam/1.0.0').exists()


def test_a_set_that_cannot_be_read_is_not_called_prepared(tmp_path):
    _archive(tmp_path / 'office31.zip', {'office/webcam/images/mug/0.jpg': _image(0)})
    builders.prepare('office31/webcam', str(tmp_path / 'tfds'), manual_dir=str(tmp_path))
    (file,) = tmp_path.rglob('*train.array_record*')
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(
        data.DataError, match=r'office31/webcam train is prepared but cannot .*: remove .*/webcam/1.0.0 before'
    ):
        builders.prepare('office31/webcam', str(tmp_path / 'tfds'), manual_dir=str(tmp_path))


def _mnist_m(names, rows):
    files = {f'mnist_m/mnist_m_{split}/{name}': _image(0, (32, 32)) for split in ('train', 'test') for name in names}
    return files | {f'mnist_m/mnist_m_{split}_labels.txt': rows.encode() for split in ('train', 'test')}


@pytest.mark.parametrize(
    ('name', 'files', 'message'),
    [
        (
            'mnist_m',
            _mnist_m(['0.png', '1.png'], '0.png 3'),
            r'mnist_m\.tar\.gz: .*/1\.png has no label; allowed: a label for',
        ),
        ('mnist_m', _mnist_m(['0.png'], '0.png 3\n1.png 4'), r'mnist_m\.tar\.gz lacks 1 train images that have labels \(1'),
        ('mnist_m', _mnist_m(['0.png'], '0.png 3\n0.png 4'), r'_train_labels\.txt has two labels for one image'),
        ('mnist_m', _mnist_m(['0.png'], '0.png 10'), r'mnist_m train: 0\.png has the class 10; allowed: 0\.\.9'),
        ('mnist_m', {'mnist_m_train/0.png': b''}, r'mnist_m\.tar\.gz holds 0 files mnist_m_train_labels\.txt; allowed: one'),
        (
            'office31/webcam',
            {f'{top}/webcam/mug/0.jpg': _image(0) for top in 'ab'},
            r'office31/webcam train: mug/0\.jpg is there twice; allowed: each class/image once',
        ),
        (
            'office31/webcam',
            {'webcam/mug/0.png': _image(0), 'webcam/mug/1.png': bytes(2000)},
            r'\.tar\.gz: webcam/mug/1\.png takes 2,000 bytes; allowed: 1,000',
        ),
    ],
)
def test_an_archive_is_used_wholly_or_refused(tmp_path, monkeypatch, name, files, message):
    monkeypatch.setattr('gjax.data.downloads.MEMBER_BYTES', 1000)
    _archive(tmp_path / ('mnist_m.tar.gz' if name == 'mnist_m' else 'office31.tar.gz'), files)
    with pytest.raises(data.DataError, match=message):
        builders.prepare(name, str(tmp_path / 'tfds'), manual_dir=str(tmp_path))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'X': np.zeros((32, 32, 3, 4), np.uint8), 'y': np.zeros((3, 1))}, r'has 4 images and labels of \(3, 1\); allowed'),
        ({'X': np.zeros((32, 32, 3, 4), np.uint8), 'y': np.zeros((2, 2))}, r'has 4 images and labels of \(2, 2\); allowed'),
        (
            {'X': np.zeros((32, 32, 3, 2), np.uint8), 'y': np.asarray([[0], [17]])},
            r'has the label 17; allowed: 0\.\.9, and 10',
        ),
        ({'X': np.zeros((32, 32, 3, 2), np.uint8), 'y': np.asarray([[0], [0.5]])}, r'has the label 0\.5; allowed: 0\.\.9'),
        ({'X': np.zeros((32, 32, 3, 2)), 'y': np.zeros((2, 1))}, r'has X of double .*; allowed: uint8 \(32, 32, 3, N\)'),
        ({'X': np.zeros((32, 32, 3, 2), np.uint8)}, r'synth_train_32x32\.mat lacks y; needed: X, y'),
    ],
)
def test_matlab_files_of_another_form_are_refused(tmp_path, content, message):
    savemat(tmp_path / 'synth_train_32x32.mat', content)
    with pytest.raises(data.DataError, match=message):
        builders.prepare('syn_digits', str(tmp_path / 'tfds'), manual_dir=str(tmp_path))


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        (b'3 1:2.5', r'has 1:2\.5 in line 2; allowed: 1\.\.256:-1\.\.1'),
        (b'3 1:nan', r'has 1:nan in line 2'),
        (b'3 0:0.5', r'has 0:0\.5 in line 2'),
        (b'3 257:0.5', r'has 257:0\.5 in line 2'),
        (b'0 1:0.5', r'usps train: 1 has the class -1; allowed: 0\.\.9'),
        (b'3 ' + b'1:0.5 ' * 12_000, r'has a line 2 of 65,536 characters or more'),
        (b'3 1', r'usps cannot be prepared from the files in'),
    ],
)
def test_lines_of_another_form_are_refused(tmp_path, line, message):
    (tmp_path / 'usps.bz2').write_bytes(bz2.compress(b'1 1:0.5\n' + line + b'\n'))
    with pytest.raises(data.DataError, match=message):
        builders.prepare('usps', str(tmp_path / 'tfds'), manual_dir=str(tmp_path))


def test_links_in_an_archive_are_followed(tmp_path):
    with tarfile.open(tmp_path / 'webcam.tgz', 'w:gz') as archive:
        for i in range(2):
            member, content = tarfile.TarInfo(f'webcam/images/mug/{i}.jpg'), _image(20 * i, kind='JPEG')
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for kind, target in ((tarfile.LNKTYPE, 'webcam/images/mug/0.jpg'), (tarfile.SYMTYPE, '../mug/1.jpg')):
            member = tarfile.TarInfo(f'webcam/images/bike/{target[-5]}.jpg')
            member.type, member.linkname = kind, target
            archive.addfile(member)
    dataset = _prepared('office31/webcam', tmp_path, tmp_path)
    found = zip(dataset.train.images[:, 0, 0, 0].tolist(), dataset.train.labels.tolist(), strict=True)
    assert sorted(found) == [(0, 1), (0, 17), (20, 1), (20, 17)]


def test_a_mirror_serves_files_by_name(tmp_path):
    mirror, manual = tmp_path / 'mirror', tmp_path / 'manual'
    mirror.mkdir()
    for name in ('usps.bz2', 'usps.t.bz2'):
        (mirror / name).write_bytes(bz2.compress(b'3 1:0.5\n'))
    where = {'manual_dir': str(manual), 'mirror': mirror.as_uri()}
    builders.prepare('usps', str(tmp_path / 'tfds'), **where)
    assert sorted(path.name for path in manual.iterdir()) == ['usps.bz2', 'usps.t.bz2']
    assert data.load('usps', str(tmp_path / 'tfds')).train.labels.tolist() == [2]


def test_what_is_wrong_comes_in_one_line(tmp_path, monkeypatch):
    where = {'data_dir': str(tmp_path / 'tfds'), 'manual_dir': str(tmp_path / 'manual')}
    with pytest.raises(data.DataError, match=r"there is no set 'pacs/dog' to prepare; known: usps, mnist_m, .*pacs/sketch"):
        builders.prepare('pacs/dog', **where)
    with pytest.raises(data.DataError, match=r'synth_train_32x32.mat is not in .*manual, and no public link .* --mirror'):
        builders.prepare('syn_digits', **where)
    with pytest.raises(data.DataError, match=r'usps.bz2 cannot be downloaded from file:.*missing/usps.bz2 .*put it into'):
        builders.prepare('usps', **where, mirror=(tmp_path / 'missing').as_uri())
    monkeypatch.setattr(builders.Usps, 'FILES', (File('usps.bz2', '', 'abc'), File('usps.t.bz2')))
    (tmp_path / 'manual').mkdir(exist_ok=True)
    (tmp_path / 'manual/usps.bz2').write_bytes(b'other')
    with pytest.raises(data.DataError, match=r'usps.bz2 has the MD5 sum .*; the published file has abc: remove it'):
        builders.prepare('usps', **where)
    (tmp_path / 'manual/mnist_m.tar.gz').write_bytes(b'no archive')
    with pytest.raises(data.DataError, match=r'mnist_m cannot be prepared from the files in'):
        builders.prepare('mnist_m', **where)
    with pytest.raises(data.DataError, match=r'PACS.zip is not in .*--manual_dir.*; one of these does, too: pacs.zip, PACS'):
        builders.prepare('pacs/photo', **where)
    _archive(tmp_path / 'manual/PACS.zip', {'PACS/photo/cat/1.jpg': _image(0)})
    with pytest.raises(data.DataError, match=r'pacs cannot be .* files in .*manual: they hold no images of pacs/photo'):
        builders.prepare('pacs/photo', **where)
    with pytest.raises(data.DataError, match=r'run: gjax prepare usps --data_dir='):
        data.find('usps', str(tmp_path / 'tfds'))


def test_the_command_line_prepares_without_tensorflow(tmp_path):
    for name in ('synth_train_32x32.mat', 'synth_test_32x32.mat'):
        savemat(tmp_path / name, {'X': np.zeros((32, 32, 3, 2), np.uint8), 'y': np.ones((2, 1))})
    command = [
        sys.executable,
        '-m',
        'gjax.cli',
        'prepare',
        'syn_digits',
        f'--data_dir={tmp_path}',
        f'--manual_dir={tmp_path}',
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / 'syn_digits/1.0.0')
    again = subprocess.run([*command[:4], 'syndigits'], capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 1
    assert again.stderr.startswith("gjax: error: there is no set 'syndigits' to prepare; known: usps")
