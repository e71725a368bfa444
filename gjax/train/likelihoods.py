"""What a likelihood says of other distributions: scores of out-of-distribution detection, clean and attacked, and what
figures need of them.
"""

import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gjax import attacks, data, metrics
from gjax.losses import bits_per_dim
from gjax.train.errors import RunError
from gjax.train.run import Run, make_evaluate

NOISE = 'noise'
SCORES = ('', '_typicality', '_complexity')


def code_bits(images) -> np.ndarray:
    """Bits per dimension [N] of uint8 images [N, H, W, C] compressed by zlib, an upper bound of their complexity."""
    images = np.asarray(images)
    lengths = [len(zlib.compress(image.tobytes(), 9)) for image in images]
    return 8.0 * np.array(lengths) / images[0].size


def to_levels(images) -> np.ndarray:
    """float images in [0, 1] as uint8."""
    return np.round(255 * np.clip(images, 0, 1)).astype(np.uint8)


class LikelihoodScores:
    """The scores of one run whose method has a density."""

    protocol = ''

    def __init__(self, run: Run):
        self._run, self._test = run, run.method.evaluation
        self._others = {name: self._load(name) for name in self._test.ood}

    def _load(self, name: str) -> np.ndarray:
        """uint8 images of the test split of a set, at most as many as the config says, evenly spaced."""
        shape, count = self._run.info.image_shape, self._test.ood_examples
        if name == NOISE:
            return np.random.default_rng([self._run.config.seed, 0]).integers(0, 256, (count, *shape), np.uint8)
        try:
            other = data.find(name, self._run.config.data.dir or None, shape[0], shape[2])
        except data.DataError as error:
            raise data.DataError(str(error).replace('data.name is', 'evaluation.ood has')) from error
        if tuple(other.image_shape) != shape:
            raise RunError(f'evaluation.ood has {name!r}, images of {other.image_shape}; allowed: {shape}, as data.name has')
        rows = np.linspace(0, len(other.test) - 1, min(count, len(other.test))).astype(int)
        return np.asarray(other.test.read(rows).images)

    def _over(self, name: str, call, state, images, *more) -> dict[str, np.ndarray]:
        """The results of call(state, batch, rng) over uint8 images, in padded batches; more: arguments of every batch."""
        run, size, rows = self._run, self._run.config.train.eval_batch_size, []
        function = run.once(f'likelihoods {name}', lambda: make_evaluate(call, run.mesh, lambda batch: batch))
        for number, start in enumerate(range(0, len(images), size)):
            run.check()
            part = images[start : start + size]
            padded = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)]).astype(np.float32) / 255
            results = function((state, *more), padded, jax.random.fold_in(run.eval_rng, number))
            rows.append({key: values[: len(part)] for key, values in jax.device_get(results).items()})
        return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}

    def _clean(self, variables, images, rng):
        return {'bits': self._run.method.bits(variables[0], images, rng)}

    def _lowered(self, variables, images, rng):
        """The out-of-distribution attack down to a level in bits per dimension."""
        state, level = variables
        method, test = self._run.method, self._test
        attack_rng, noise_rng = jax.random.split(rng)
        level = (level - bits_per_dim(0.0, 1)) * method.dimensions * jnp.log(2.0)
        eps = test.ood_eps or test.eps
        nll = partial(method.nll, state)
        found = attacks.lower_nll(nll, images, eps, rng=attack_rng, level=level, **test.options())
        return {'bits': method.bits(state, found, noise_rng), 'images': found}

    def _own(self, state, split: str) -> dict[str, np.ndarray]:
        """Bits per dimension, and images, of this run's own data."""
        run = self._run

        def call(state, batch, rng):
            return {'bits': run.method.bits(state, batch['image'], rng), 'images': batch['image']}

        function = run.once('likelihoods own', lambda: make_evaluate(call, run.mesh, run.feed.batch))
        every = max(1, -(-run.examples[split] // self._test.ood_examples))
        return run.collect(function, state, split, every)

    def measure(self, state) -> dict[str, float]:
        """How well other sets are told from the test split (AUROC, the higher the score the more foreign): by the bits per
        dimension, by their distance to the training data's mean (typicality), and by how many they are above a zlib code;
        each clean and under `lower_nll` down to the test split's median. And which share of them is below that median.

        'ood_auroc', 'ood_auroc_typicality', 'ood_auroc_complexity', 'ood_below_median', the same with 'attacked_', all
        averaged over the sets, and of each set with '_SET' at the end.
        """
        if not self._others:
            return {}
        own = self._own(state, 'test')
        typical, median = self._own(state, 'train')['bits'].mean(), np.median(own['bits'])

        def scores(bits, images):
            bits = np.where(np.isfinite(bits), bits, np.finfo(np.float32).max)  # as foreign as can be
            return dict(zip(SCORES, (bits, np.abs(bits - typical), bits - code_bits(images)), strict=True))

        reference, found = scores(own['bits'], to_levels(own['images'])), {}
        for name, images in self._others.items():
            clean = self._over('clean', self._clean, state, images)
            attacked = self._over('lowered', self._lowered, state, images, np.float32(median))
            kinds = {'': (clean['bits'], images), 'attacked_': (attacked['bits'], to_levels(attacked['images']))}
            for kind, (bits, seen) in kinds.items():
                for score, values in scores(bits, seen).items():
                    found[f'{kind}ood_auroc{score}_{name}'] = metrics.auroc(reference[score], values)
                found[f'{kind}ood_below_median_{name}'] = float(np.mean(bits < median))
                found[f'{kind}ood_bits_per_dim_{name}'] = float(np.mean(bits[np.isfinite(bits)]))
                found[f'{kind}ood_non_finite_{name}'] = float(np.mean(~np.isfinite(bits)))
        stems = {name.removesuffix(f'_{next(iter(self._others))}') for name in found} & {
            f'{kind}{what}' for kind in kinds for what in ('ood_below_median', *(f'ood_auroc{score}' for score in SCORES))
        }
        means = {stem: float(np.mean([found[f'{stem}_{name}'] for name in self._others])) for stem in sorted(stems)}
        return means | found

    def pictures(self, state) -> dict[str, np.ndarray]:
        """For figures: 'samples'; test images as 'images', 'attacked' and their 'bits', 'attacked_bits'; of every other set
        'ood_SET_images', ...; and all bits per dimension, 'histogram_test', 'histogram_SET', 'histogram_SET_attacked'.
        """
        count = self._test.pictures
        if not count:
            return {}
        run, method = self._run, self._run.method
        own = self._own(state, 'test')
        median = np.float32(np.median(own['bits']))

        def raised(variables, images, rng):
            state = variables[0]
            attack_rng, noise_rng = jax.random.split(rng)
            options = self._test.options()
            nll = partial(method.nll, state)
            found = attacks.raise_nll(nll, images, self._test.eps, rng=attack_rng, **options)
            return {'images': found, 'bits': method.bits(state, found, noise_rng)}

        def sample(state, rng):
            return method.generate(state, count, rng=rng)

        rows = np.linspace(0, len(own['bits']) - 1, min(count, len(own['bits']))).astype(int)
        images = to_levels(own['images'][rows])
        attacked = self._over('raised', raised, state, images)
        shown = {
            'samples': to_levels(jax.device_get(run.once('samples', lambda: jax.jit(sample))(state, run.eval_rng))),
            'images': images,
            'bits': own['bits'][rows],
            'attacked': to_levels(attacked['images']),
            'attacked_bits': attacked['bits'],
            'histogram_test': own['bits'],
        }
        for name, images in self._others.items():
            clean = self._over('clean', self._clean, state, images)
            lowered = self._over('lowered', self._lowered, state, images, median)
            shown |= {
                f'ood_{name}_images': images[:count],
                f'ood_{name}_bits': clean['bits'][:count],
                f'ood_{name}_attacked': to_levels(lowered['images'][:count]),
                f'ood_{name}_attacked_bits': lowered['bits'][:count],
                f'histogram_{name}': clean['bits'],
                f'histogram_{name}_attacked': lowered['bits'],
            }
        return shown

    def snapshot(self, state) -> dict[str, np.ndarray]:
        """What is kept at every evaluation: nothing."""
        return {}
