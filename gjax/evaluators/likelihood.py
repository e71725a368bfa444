"""What is measured of a density: bits per dimension of clean, noisy and attacked images, and how well it tells other
distributions from its own, clean and attacked.
"""

import dataclasses
import itertools
import zlib
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gjax import attacks, data, metrics
from gjax.checks import check_eps, check_norm, check_radii, positive
from gjax.evaluators.base import END, LOG, Evaluator, Findings
from gjax.evaluators.means import Means
from gjax.losses import bits_per_dim, nats

NOISE = 'noise'  # the name of uniform pixels among the other sets
SCORES = ('', '_typicality', '_complexity')


@dataclasses.dataclass(frozen=True)
class LikelihoodEvaluation:
    """How likelihoods are attacked and scored; radii in [0, 1] units."""

    norm: str = 'linf'  # ball of the test attack: 'linf' or 'l2'
    eps: float = 8 / 255
    steps: int = 40  # of the final PGD, whose step sizes fall to zero and add up to 2.5 eps
    restarts: int = 1
    draws: int = 1  # of the dequantisation noise over which the attacker averages, and the measurement, over others
    curve: tuple = ()  # more radii
    quick_steps: int = 5  # PGD steps of evaluations during training
    ood: tuple = ()  # names of data sets of another distribution, or 'noise' (uniform pixels)
    ood_eps: float = 0.0  # radius of the attack that makes them likely; 0: eps
    ood_steps: int = 0  # of that attack; 0: steps
    ood_quantile: float = 0.25  # it stops at this quantile of the test images' likelihood
    ood_examples: int = 1000  # images of each set, at most
    pictures: int = 32  # images that are kept for figures; 0 for none

    def __post_init__(self):
        check_norm('evaluation.norm', self.norm)
        for name in ('eps', 'ood_eps'):
            check_eps(f'evaluation.{name}', getattr(self, name), self.norm)
        for name in ('ood_steps', 'pictures'):
            positive(f'evaluation.{name}', getattr(self, name))
        for name in ('steps', 'restarts', 'draws', 'quick_steps', 'ood_examples'):
            positive(f'evaluation.{name}', getattr(self, name), zero=False)
        if not 0 <= self.ood_quantile <= 1:
            raise ValueError(f'evaluation.ood_quantile is {self.ood_quantile}; allowed: 0..1')
        check_radii('evaluation.curve', self.curve, self.norm, digits=4)  # as the metrics' names have

    def options(self) -> dict:
        """Keyword arguments of the final attacks."""
        return {
            'steps': self.steps,
            'norm': self.norm,
            'restarts': self.restarts,
            'draws': self.draws,
            'step_schedule': 'cosine',
        }

    def protocol(self) -> str:
        """How the final numbers are measured, in words."""
        radius = f'{255 * self.eps:.4g}/255' if self.norm == 'linf' else f'{self.eps:.4g}'
        return f'likelihood attack: {self.steps} steps, {self.restarts} starts, {self.draws} draws, {self.norm} {radius}'


@dataclasses.dataclass(frozen=True)
class Density:
    """The functions of a model with a density, of (state, images [B, H, W, C] in [0, 1], rng=key)."""

    nll: Callable  # -> [B], in nats, with one draw of the dequantisation noise
    generate: Callable  # (state, count, rng=key) -> images
    dimensions: int  # D, of an image

    def bits(self, state, images, *, rng, draws: int):
        """Bits per dimension [B], averaged over draws of the noise."""
        nll = attacks.expected_nll(partial(self.nll, state), rng=rng, draws=draws)
        return bits_per_dim(nll(images), self.dimensions)


def code_bits(images) -> np.ndarray:
    """Bits per dimension [N] of uint8 images [N, H, W, C] compressed by zlib, an upper bound of their complexity."""
    images = np.asarray(images)
    lengths = [len(zlib.compress(image.tobytes(), 9)) for image in images]
    return 8.0 * np.array(lengths) / images[0].size


def _finite(values) -> np.ndarray:
    return values[np.isfinite(values)]


def quick_bits(density: Density, test: LikelihoodEvaluation) -> Means:
    """Bits per dimension while training, clean and under a short attack."""

    def function(state, batch, *, rng):
        images = batch['image']
        attack_rng, noise_rng = jax.random.split(rng)
        options = {'steps': test.quick_steps, 'norm': test.norm}
        attacked = attacks.raise_nll(partial(density.nll, state), images, test.eps, rng=attack_rng, **options)
        return {
            'bits_per_dim': density.bits(state, images, rng=noise_rng, draws=test.draws),
            'attacked_bits_per_dim': density.bits(state, attacked, rng=noise_rng, draws=test.draws),
        }

    return Means(function, when=LOG)


def final_bits(density: Density, test: LikelihoodEvaluation) -> Means:
    """Bits per dimension at the end: clean, under noise and attacked at every radius.

    'bits_per_dim', and 'KIND_bits_per_dim' and 'KIND_adds' (what it adds, image by image) of KIND attacked and noise, at
    eps and with '_at_EPS' along the curve: means over the finite values, if any. 'KIND_bits_per_dim_non_finite': the share
    of the others.
    """
    radii = tuple(sorted({test.eps, *test.curve}))

    def function(state, batch, *, rng):
        """[B], and [B, E] at the radii. Where a value is not finite it is 0 and its 'NAME_non_finite' is 1."""
        images = batch['image']
        attack_rng, noise_rng, measure_rng = jax.random.split(rng, 3)

        def perturbed(eps):
            attacked = attacks.raise_nll(partial(density.nll, state), images, eps, rng=attack_rng, **test.options())
            noisy = attacks.random_noise(images, eps, rng=noise_rng, norm=test.norm)
            return tuple(density.bits(state, x, rng=measure_rng, draws=test.draws) for x in (attacked, noisy))

        clean = density.bits(state, images, rng=measure_rng, draws=test.draws)
        found = {'clean': clean}
        curves = jax.lax.map(perturbed, jnp.asarray(radii, jnp.float32))
        for kind, values in zip(('attacked', 'noise'), curves, strict=True):
            found |= {kind: values.T, f'{kind}_adds': values.T - clean[:, None]}
        finite = {name: jnp.isfinite(values) for name, values in found.items()}
        broken = {f'{name}_non_finite': 1 - finite[name].astype(jnp.float32) for name in found}
        return {name: jnp.where(finite[name], values, 0) for name, values in found.items()} | broken

    def conclude(means):
        concluded = {}

        def add(name, kind, i=..., counted=True):
            value, broken = (np.asarray(means[key])[i].item() for key in (kind, f'{kind}_non_finite'))
            if broken < 1:
                concluded[name] = value / (1 - broken)
            if counted:
                concluded[f'{name}_non_finite'] = broken

        add('bits_per_dim', 'clean')
        for i, eps in enumerate(radii):
            own = [''] * (eps == test.eps) + [f'_at_{eps:.4f}'] * (eps in test.curve)
            for kind, suffix in itertools.product(('attacked', 'noise'), own):
                add(f'{kind}_bits_per_dim{suffix}', kind, i)
                add(f'{kind}_adds{suffix}', f'{kind}_adds', i, counted=False)
        return concluded

    concerns = ('attacked', 'noise')
    return Means(function, when=END, conclude=conclude, splits=('test',), protocol=test.protocol(), concerns=concerns)


class Foreign(Evaluator):
    """How well other sets are told from the test split, clean and under `attacks.lower_nll`.

    Metrics, averaged over the sets, each also as 'attacked_...', and of every single set with '_SET' at the end:
      ood_auroc: AUROC of the bits per dimension; the more bits, the more foreign.
      ood_auroc_typicality: of the distance of the bits from the training data's mean.
      ood_auroc_complexity: of the bits above those of a zlib code.
      ood_below_median: share of a set that is likelier than the median test image.
      ood_non_finite: share whose likelihood is not finite; it counts as most foreign.
      ood_bits_per_dim: mean of the finite ones, of single sets only.

    For figures, in images.npz: 'samples'; test images as 'images', 'attacked' and their 'bits', 'attacked_bits'; of every
    other set 'ood_SET_images', ...; and all bits per dimension, 'histogram_test', 'histogram_SET', 'histogram_SET_attacked'.
    """

    when = END

    def __init__(self, density: Density, test: LikelihoodEvaluation):
        self.density, self.test, self._others = density, test, {}
        if test.ood:
            steps, eps = test.ood_steps or test.steps, test.ood_eps or test.eps
            self.protocol = (
                f'other sets made likely: {steps} steps, {test.norm} {eps:.4g}, quantile {test.ood_quantile:.4g}, '
                f'{test.ood_examples} of each at most'
            )

        def own(state, batch, *, rng):
            return {'bits': density.bits(state, batch['image'], rng=rng, draws=test.draws)}

        def own_images(state, batch, *, rng):
            return own(state, batch, rng=rng) | {'images': batch['image']}

        def clean(state, images, *, rng):
            return {'bits': density.bits(state, images, rng=rng, draws=test.draws)}

        def raised(state, images, *, rng):
            attack_rng, noise_rng = jax.random.split(rng)
            nll = partial(density.nll, state)
            found = attacks.raise_nll(nll, images, test.eps, rng=attack_rng, **test.options())
            return {'bits': density.bits(state, found, rng=noise_rng, draws=test.draws), 'images': found}

        def lowered(state, images, level, *, rng):
            """Images made likely, down to `level` in bits per dimension."""
            attack_rng, noise_rng = jax.random.split(rng)
            options = test.options() | {'level': nats(level, density.dimensions), 'steps': test.ood_steps or test.steps}
            eps = test.ood_eps or test.eps
            found = attacks.lower_nll(partial(density.nll, state), images, eps, rng=attack_rng, **options)
            return {'bits': density.bits(state, found, rng=noise_rng, draws=test.draws), 'images': found}

        self._own, self._own_images, self._clean, self._raised, self._lowered = own, own_images, clean, raised, lowered

    def prepare(self, look):
        if len(look.trained) != 1 and (self.test.ood or self.test.pictures):
            raise ValueError(
                f'evaluation.ood, evaluation.pictures are set with {len(look.trained)} sources; allowed: one source'
            )
        self._others = {name: self._load(look, name) for name in self.test.ood}

    def _load(self, look, name: str) -> np.ndarray:
        """uint8 images of the test split of a set, at most as many as the options say, drawn of all classes."""
        if name == NOISE:
            shape = (self.test.ood_examples, *look.info.image_shape)
            return np.random.default_rng(abs(look.seed)).integers(0, 256, shape, np.uint8)
        other = look.other_set(name, 'evaluation.ood')
        return np.asarray(other.test.read(data.drawn_rows(other, 'test', self.test.ood_examples, look.seed)).images)

    def _measured(self, look) -> dict[str, dict[str, np.ndarray]]:
        """{'test': own images and bits, 'SET': another's, 'SET attacked': after the attack on it}."""
        found = {'test': self._some(look, self._own_images, 'test')}
        found['test']['images'] = data.to_levels(found['test']['images'])
        bits = _finite(found['test']['bits'])
        level = np.float32(np.quantile(bits, self.test.ood_quantile) if len(bits) else 0)
        for name, images in self._others.items():
            found[name] = {'images': images} | look.over(self._clean, images)
            found[f'{name} attacked'] = look.over(self._lowered, images, level)
            found[f'{name} attacked']['images'] = data.to_levels(found[f'{name} attacked']['images'])
        return found

    def _some(self, look, function, split: str) -> dict[str, np.ndarray]:
        """The values of as many examples of a split as of the other sets, drawn of all classes."""
        (name,) = look.trained
        return look.rows(function, name, split, rows=look.drawn(name, split, self.test.ood_examples))

    def __call__(self, state, look):
        if not self._others and not self.test.pictures:
            return Findings({})
        found = self._measured(look)
        measured = self._scores(look, found) if self._others else {}
        return Findings(measured, {'images': self._pictures(look, found)} if self.test.pictures else {})

    def _scores(self, look, found) -> dict[str, float]:
        measured = {}
        typical = _finite(self._some(look, self._own, 'train')['bits'])
        typical = typical.mean() if len(typical) else 0.0
        likely = _finite(found['test']['bits'])
        median = np.median(likely) if len(likely) else -np.inf

        def scores(of):
            bits = np.where(np.isfinite(of['bits']), of['bits'], np.finfo(np.float32).max)
            values = (bits, np.abs(bits - typical), bits - code_bits(of['images']))
            return dict(zip(SCORES, values, strict=True))

        reference = scores(found['test'])
        for name in self._others:
            for kind, of in (('', found[name]), ('attacked_', found[f'{name} attacked'])):
                finite = _finite(of['bits'])
                own = {f'auroc{score}': metrics.auroc(reference[score], values) for score, values in scores(of).items()}
                own |= {'below_median': np.mean(of['bits'] < median), 'non_finite': 1 - len(finite) / len(of['bits'])}
                own |= {'bits_per_dim': finite.mean()} if len(finite) else {}
                measured |= {f'{kind}ood_{key}_{name}': float(value) for key, value in own.items()}
        means = {}
        for stem in ('below_median', 'non_finite', *(f'auroc{score}' for score in SCORES)):
            for kind in ('', 'attacked_'):
                values = [measured[f'{kind}ood_{stem}_{name}'] for name in self._others]
                means[f'{kind}ood_{stem}'] = float(np.mean(values))
        return means | measured

    def _pictures(self, look, found) -> dict[str, np.ndarray]:
        count, own = self.test.pictures, found['test']
        rows = np.random.default_rng(abs(look.seed)).permutation(len(own['bits']))[:count]
        attacked = look.over(self._raised, own['images'][rows])
        shown = {
            'samples': data.to_levels(look.sample(self.density.generate, count)),
            'images': own['images'][rows],
            'bits': own['bits'][rows],
            'attacked': data.to_levels(attacked['images']),
            'attacked_bits': attacked['bits'],
            'histogram_test': own['bits'],
        }
        for name in self._others:
            for key, of in (('', found[name]), ('_attacked', found[f'{name} attacked'])):
                few = np.random.default_rng(abs(look.seed)).permutation(len(of['bits']))[:count]
                shown[f'ood_{name}{key or "_images"}'] = of['images'][few]
                shown[f'ood_{name}{key}_bits'] = of['bits'][few]
                shown[f'histogram_{name}{key}'] = of['bits']
        return shown
