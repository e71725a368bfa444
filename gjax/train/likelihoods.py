"""What a likelihood says of other distributions: scores of out-of-distribution detection, clean and attacked, and what
figures need of them.
"""

import zlib
from functools import partial

import jax
import numpy as np

from gjax import attacks, data, metrics
from gjax.losses import nats
from gjax.train.devices import compiled
from gjax.train.errors import RunError
from gjax.train.run import Run, make_evaluate

NOISE = 'noise'
SCORES = ('', '_typicality', '_complexity')


def code_bits(images) -> np.ndarray:
    """Bits per dimension [N] of uint8 images [N, H, W, C] compressed by zlib, an upper bound of their complexity."""
    images = np.asarray(images)
    lengths = [len(zlib.compress(image.tobytes(), 9)) for image in images]
    return 8.0 * np.array(lengths) / images[0].size


def _finite(values) -> np.ndarray:
    return values[np.isfinite(values)]


class LikelihoodScores:
    """The scores of one run whose method has a density."""

    protocol = ''

    def __init__(self, run: Run):
        self._run, self._test = run, run.method.evaluation
        self._others = {name: self._load(name) for name in self._test.ood}
        self._last = (None, {})  # a state and all that was computed of it

    def _load(self, name: str) -> np.ndarray:
        """uint8 images of the test split of a set, at most as many as the config says, evenly spaced."""
        shape, count = self._run.info.image_shape, self._test.ood_examples
        if name == NOISE:
            return np.random.default_rng(abs(self._run.config.seed)).integers(0, 256, (count, *shape), np.uint8)
        try:
            other = data.find(name, self._run.config.data.dir or None, shape[0], shape[2])
        except data.DataError as error:
            raise data.DataError(str(error).replace('data.name is', 'evaluation.ood has')) from error
        if tuple(other.image_shape) != shape:
            raise RunError(f'evaluation.ood has {name!r}, images of {other.image_shape}; allowed: {shape}, as data.name has')
        rows = np.linspace(0, len(other.test) - 1, min(count, len(other.test))).astype(int)
        return np.asarray(other.test.read(rows).images)

    def _over(self, name: str, call, state, images, *more) -> dict[str, np.ndarray]:
        """The results of call((state, *more), images, rng) over uint8 images, in padded batches."""
        run, size, rows = self._run, self._run.config.train.eval_batch_size, []
        function = run.once(f'likelihoods {name}', lambda: make_evaluate(call, run.mesh, lambda batch: batch))
        for number, start in enumerate(range(0, len(images), size)):
            run.check()
            part = images[start : start + size]
            padded = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)]).astype(np.float32) / 255
            results = function((state, *more), padded, jax.random.fold_in(run.eval_rng, number))
            rows.append({key: values[: len(part)] for key, values in jax.device_get(results).items()})
        return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}

    def _own(self, state, split: str, *, images: bool) -> dict[str, np.ndarray]:
        """Bits per dimension, and images if asked for, of this run's own data, as many as of the other sets."""
        run = self._run

        def call(state, batch, rng):
            found = {'bits': run.method.bits(state, batch['image'], rng=rng)}
            return found | {'images': batch['image']} if images else found

        function = run.once(f'likelihoods own {images}', lambda: make_evaluate(call, run.mesh, run.feed.batch))
        every = max(1, -(-run.examples[split] // self._test.ood_examples))
        return run.collect(function, state, split, every)

    def _clean(self, variables, images, rng):
        return {'bits': self._run.method.bits(variables[0], images, rng=rng)}

    def _attacked(self, variables, images, rng):
        """The in-distribution attack or, down to a level in bits per dimension, the out-of-distribution attack."""
        state, *level = variables
        method, test = self._run.method, self._test
        attack_rng, noise_rng = jax.random.split(rng)
        nll, options = partial(method.nll, state), test.options()
        if level:
            eps, options['level'] = test.ood_eps or test.eps, nats(level[0], method.dimensions)
            options['steps'] = test.ood_steps or test.steps
            found = attacks.lower_nll(nll, images, eps, rng=attack_rng, **options)
        else:
            found = attacks.raise_nll(nll, images, test.eps, rng=attack_rng, **options)
        return {'bits': method.bits(state, found, rng=noise_rng), 'images': found}

    def _all(self, state) -> dict[str, dict[str, np.ndarray]]:
        """{'test': own images and bits, 'SET': another's, 'SET attacked': after the attack on it}, of one state once."""
        if self._last[0] is not state:
            found = {'test': self._own(state, 'test', images=True)}
            found['test']['images'] = data.to_levels(found['test']['images'])
            bits = _finite(found['test']['bits'])
            level = np.float32(np.quantile(bits, self._test.ood_quantile) if len(bits) else 0)
            for name, images in self._others.items():
                found[name] = {'images': images} | self._over('clean', self._clean, state, images)
                found[f'{name} attacked'] = self._over('lowered', self._attacked, state, images, level)
                found[f'{name} attacked']['images'] = data.to_levels(found[f'{name} attacked']['images'])
            self._last = (state, found)
        return self._last[1]

    def measure(self, state) -> dict[str, float]:
        """How well other sets are told from the test split (AUROC, the higher the score the more foreign): by the bits per
        dimension, by their distance to the training data's mean (typicality), and by how many they are above a zlib code;
        each clean and under `lower_nll`. And which share of them is below the median of the test split. What is not finite
        is as foreign as can be, and counted.

        'ood_auroc', 'ood_auroc_typicality', 'ood_auroc_complexity', 'ood_below_median', 'ood_non_finite', the same with
        'attacked_', all averaged over the sets, and of each set with '_SET' at the end, which 'ood_bits_per_dim' also has.
        """
        if not self._others:
            return {}
        found, measured = self._all(state), {}
        typical = _finite(self._own(state, 'train', images=False)['bits'])
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

    def pictures(self, state) -> dict[str, np.ndarray]:
        """For figures: 'samples'; test images as 'images', 'attacked' and their 'bits', 'attacked_bits'; of every other set
        'ood_SET_images', ...; and all bits per dimension, 'histogram_test', 'histogram_SET', 'histogram_SET_attacked'.
        """
        count = self._test.pictures
        if not count:
            return {}
        run, found = self._run, self._all(state)

        def sample(state, rng):
            return run.method.generate(state, count, rng=rng)

        own = found['test']
        rows = np.linspace(0, len(own['bits']) - 1, min(count, len(own['bits']))).astype(int)
        attacked = self._over('raised', self._attacked, state, own['images'][rows])
        samples = run.once('samples', lambda: compiled(sample, run.mesh))(state, run.eval_rng)
        shown = {
            'samples': data.to_levels(jax.device_get(samples)),
            'images': own['images'][rows],
            'bits': own['bits'][rows],
            'attacked': data.to_levels(attacked['images']),
            'attacked_bits': attacked['bits'],
            'histogram_test': own['bits'],
        }
        for name in self._others:
            for key, of in (('', found[name]), ('_attacked', found[f'{name} attacked'])):
                shown[f'ood_{name}{key or "_images"}'] = of['images'][:count]
                shown[f'ood_{name}{key}_bits'] = of['bits'][:count]
                shown[f'histogram_{name}{key}'] = of['bits']
        return shown

    def snapshot(self, state) -> dict[str, np.ndarray]:
        """What is kept at every evaluation: nothing."""
        return {}
