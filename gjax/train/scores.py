"""Scores of what a model makes: distances to the data by a named extractor's features, and a linear probe of its codes."""

import contextlib
import fcntl
import hashlib
from pathlib import Path

import jax
import numpy as np

import gjax
from gjax import metrics
from gjax.data import to_levels
from gjax.methods.classifier import PLAYER
from gjax.nets import inception
from gjax.nets.features import penultimate
from gjax.train import config as configs
from gjax.train import processes
from gjax.train.cache import cache_dir
from gjax.train.checkpoint import Checkpointer
from gjax.train.devices import compiled, sharded
from gjax.train.errors import RunError
from gjax.train.logging import read_arrays
from gjax.train.run import Run, make_evaluate

INCEPTION = 'inception:'


@contextlib.contextmanager
def _alone(folder: Path):
    """One run trains an extractor; those started beside it wait, and then find it trained."""
    if not processes.is_main():
        processes.barrier('extractor')
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix('.lock'), 'w') as lock:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        processes.barrier('extractor')
        yield


class Extractor:
    """A classifier of the suite, trained by a config, whose penultimate features stand for images.

    name: the config's, with a digest of all it says; numbers of extractors of different names do not compare.
    """

    def __init__(self, spec: str, run: Run, train):
        config = configs.load(spec)
        digest = hashlib.sha256(f'{gjax.__version__} {configs.to_json(config)}'.encode()).hexdigest()[:12]
        self.name = f'{config.experiment} {digest}'
        folder = cache_dir() / 'extractors' / digest
        own = Run(config, run.mesh)
        if own.info.image_shape != run.info.image_shape:
            raise RunError(
                f'evaluation.extractor is {spec!r}, trained on images of {own.info.image_shape}; allowed: one of '
                f'{run.info.image_shape}'
            )
        with _alone(folder):
            train(config, folder, mesh=run.mesh)
        with Checkpointer(folder / 'checkpoints', read_only=True) as checkpoints:
            restored = checkpoints.restore_latest(own.template)
        if restored is None:
            raise RunError(f'{folder} holds no checkpoint any more; remove it to train the extractor again')
        state = restored[0]
        self._net = own.method.net
        self.variables = {'params': state.params[PLAYER], 'batch_stats': state.batch_stats[PLAYER]}

    def __call__(self, variables, images) -> dict[str, jax.Array]:
        """{'features': [B, F], 'probabilities': [B, K]}; pure."""
        features, logits = penultimate(self._net, variables, images)
        return {'features': features, 'probabilities': jax.nn.softmax(logits)}


class InceptionExtractor:
    """Inception-v3 with the weights of a local .npz file: the arrays of a torchvision state dict, by its names."""

    def __init__(self, path: str):
        arrays = read_arrays(Path(path))
        try:
            self.variables = inception.from_torch(arrays)
        except ValueError as error:
            raise RunError(f'evaluation.extractor is {INCEPTION + path!r}: {error}') from error
        self.name = f'inception-v3 {hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]}'
        self._net = inception.InceptionV3(self.variables['params']['fc']['bias'].size)

    def __call__(self, variables, images) -> dict[str, jax.Array]:
        """{'features': [B, 2048], 'probabilities': [B, K]}; pure."""
        features, logits = self._net.apply(variables, images)
        return {'features': features, 'probabilities': jax.nn.softmax(logits)}


def find_extractor(spec: str, run: Run, train):
    """The extractor that a config names: '' for none, 'inception:FILE.npz', or a config of a classifier."""
    if spec.startswith(INCEPTION):
        return InceptionExtractor(spec.removeprefix(INCEPTION))
    return Extractor(spec, run, train) if spec else None


class Scores:
    """The scores of one run's states; what they need of the data alone is computed once."""

    def __init__(self, run: Run, train):
        self._run, test = run, run.config.evaluation
        self.extractor = find_extractor(test.extractor, run, train)
        self._real = {}

    @property
    def protocol(self) -> str:
        """What makes two distances comparable."""
        return f'{self.extractor.name}, {self._run.config.evaluation.samples} samples' if self.extractor else ''

    def _over(self, name: str, images_of, variables, split: str):
        """The extractor's features of images_of(variables, batch) over a split."""

        def call(variables, batch, rng):
            own, extractor_variables = variables
            return {'features': self.extractor(extractor_variables, images_of(own, batch))['features']}

        return self._run.collect(self._evaluate(name, call), (variables, self.extractor.variables), split)['features']

    def _evaluate(self, name: str, call):
        """`call` as a function over batches, compiled once."""
        return self._run.once(f'scores {name}', lambda: make_evaluate(call, self._run.mesh, self._run.feed.batch))

    def _statistics(self, split: str):
        if split not in self._real:
            features = self._over('real', lambda _, batch: batch['image'], (), split)
            self._real[split] = metrics.gaussian_statistics(features)
        return self._real[split]

    def generated(self, state, rng, count: int):
        """The extractor's results on `count` images of the prior."""
        run, size = self._run, self._run.config.train.eval_batch_size

        def call(state, variables, rng):
            images = run.method.generate(state, size, rng=rng)
            return self.extractor(variables, jax.lax.with_sharding_constraint(images, sharded(run.mesh)))

        function = run.once('scores generated', lambda: compiled(call, run.mesh))
        parts = []
        for i in range(-(-count // size)):
            run.check()
            parts.append(jax.device_get(function(state, self.extractor.variables, jax.random.fold_in(rng, i))))
        return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}

    def measure(self, state) -> dict[str, float]:
        """frechet_distance and inception_score of generated images (to the training split), reconstruction_frechet_distance
        of the test split, linear_probe_accuracy of its codes: as far as the model, the data and the config go."""
        method, test, scores = self._run.method, self._run.config.evaluation, {}
        able = method.abilities()
        if self.extractor and 'generate' in able:
            fakes = self.generated(state, self._run.eval_rng, test.samples)
            statistics = metrics.gaussian_statistics(fakes['features'])
            scores['frechet_distance'] = metrics.frechet_distance(self._statistics('train'), statistics)
            scores['inception_score'] = metrics.inception_score(fakes['probabilities'])
        if self.extractor and 'reconstruct' in able:

            def reconstruct(state, batch):
                return method.reconstruct(state, batch['image'])

            rebuilt = self._over('reconstructed', reconstruct, state, 'test')
            distance = metrics.frechet_distance(self._statistics('test'), metrics.gaussian_statistics(rebuilt))
            scores['reconstruction_frechet_distance'] = distance
        if test.probe and 'encode' in able and self._run.info.num_classes > 1:
            scores['linear_probe_accuracy'] = self._probe(state)
        return scores

    def pictures(self, state, count: int = 64) -> dict[str, np.ndarray]:
        """uint8 images for figures: 'generated', and 'originals' of the test split with their 'reconstructions'."""
        run, method, shown = self._run, self._run.method, {}

        def generate(state, rng):
            return method.generate(state, count, rng=rng)

        def reconstruct(state, batch, rng):
            return batch['image'], method.reconstruct(state, batch['image'])

        if 'generate' in method.abilities():
            samples = run.once('scores samples', lambda: compiled(generate, run.mesh))
            shown['generated'] = samples(state, run.eval_rng)
        if 'reconstruct' in method.abilities():
            function = self._evaluate('pairs', reconstruct)
            with run.feed.examples('test', run.config.train.eval_batch_size) as sources:
                source, mask = next(iter(sources))
                both = jax.device_get(function(state, source, run.eval_rng))
            shown['originals'], shown['reconstructions'] = (images[mask][:count] for images in both)
        return {name: to_levels(jax.device_get(images)) for name, images in shown.items()}

    def snapshot(self, state) -> dict[str, np.ndarray]:
        """What is kept at every evaluation: nothing; `pictures` are of the end."""
        return {}

    def _probe(self, state) -> float:
        def call(state, batch, rng):
            return {'codes': self._run.method.encode(state, batch['image']), 'labels': batch['label']}

        train, test = (self._run.collect(self._evaluate('codes', call), state, split) for split in ('train', 'test'))
        return metrics.linear_probe_accuracy(train['codes'], train['labels'], test['codes'], test['labels'])
