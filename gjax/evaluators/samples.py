"""What is measured of a generative model's samples, reconstructions and codes, by a named extractor's features."""

import dataclasses
from collections.abc import Callable

from gjax import metrics
from gjax.checks import positive
from gjax.data import to_levels
from gjax.evaluators.base import END, Evaluator, Findings

PICTURES = 64  # images of each kind that are kept for figures


@dataclasses.dataclass(frozen=True)
class GenerativeEvaluation:
    """How samples and codes are scored after training."""

    # Whose features the Fréchet distance compares: the config of a classifier, which is trained once and kept, or
    # 'inception:FILE.npz', Inception-v3 with the weights in that file (1008 classes: the variant of published FIDs, 1000:
    # torchvision's), which sees images rounded to 8 bits; '' for none.
    extractor: str = ''
    samples: int = 1000  # how many images are generated for it
    probe: bool = True  # whether a linear classifier is fitted on the codes

    def __post_init__(self):
        positive('evaluation.samples', self.samples, zero=False)


class Samples(Evaluator):
    """As far as the model, the data and the options go: 'frechet_distance' and 'inception_score' of generated images (to
    the training split), 'reconstruction_frechet_distance' of the test split, 'linear_probe_accuracy' of its codes; and
    images for figures, 'generated', 'originals' and 'reconstructions' in images.npz.
    """

    when = END
    concerns = ('frechet_distance', 'inception_score')

    def __init__(
        self,
        options: GenerativeEvaluation,
        *,
        generate: Callable | None = None,
        reconstruct: Callable | None = None,
        encode: Callable | None = None,
    ):
        """
        Args:
          options: which extractor, how many samples.
          generate: (state, count, *, rng) -> images [count, H, W, C] in [0, 1]; None if the model has no prior.
          reconstruct: (state, images) -> images; None if it cannot.
          encode: (state, images) -> codes [B, latent]; None if it cannot.
        """
        self.options, self.generate, self.reconstruct, self.encode = options, generate, reconstruct, encode
        self._extractor, self._real = None, {}

        def features(state, batch, variables, *, rng):
            return {'features': self._extractor(variables, batch['image'])['features']}

        def rebuilt_features(state, batch, variables, *, rng):
            return {'features': self._extractor(variables, reconstruct(state, batch['image']))['features']}

        def pairs(state, batch, *, rng):
            return {'originals': batch['image'], 'reconstructions': reconstruct(state, batch['image'])}

        def codes(state, batch, *, rng):
            return {'codes': encode(state, batch['image']), 'labels': batch['label']}

        self._features, self._rebuilt_features, self._pairs, self._codes = features, rebuilt_features, pairs, codes

    @property
    def protocol(self) -> str:
        """The extractor and the number of samples, which make two distances comparable."""
        return f'{self._extractor.name}, {self.options.samples} samples' if self._extractor else ''

    def prepare(self, look):
        if len(look.trained) != 1 and (self.options.extractor or self.options.probe):
            raise ValueError(
                f'evaluation.extractor, evaluation.probe are set with {len(look.trained)} sources; allowed: one source'
            )
        self._extractor = look.extractor(self.options.extractor)

    def _statistics(self, look, split: str):
        """Mean and covariance of the features of a split, computed once for all states."""
        if split not in self._real:
            features = look.rows(self._features, look.trained[0], split, self._extractor.variables)['features']
            self._real[split] = metrics.gaussian_statistics(features)
        return self._real[split]

    def _distances(self, look) -> dict[str, float]:
        found, variables = {}, self._extractor.variables
        if self.generate:
            fakes = look.generated(self.generate, self._extractor, self.options.samples, variables)
            statistics = metrics.gaussian_statistics(fakes['features'])
            found['frechet_distance'] = metrics.frechet_distance(self._statistics(look, 'train'), statistics)
            found['inception_score'] = metrics.inception_score(fakes['probabilities'])
        if self.reconstruct:
            rebuilt = look.rows(self._rebuilt_features, look.trained[0], 'test', variables)['features']
            statistics = metrics.gaussian_statistics(rebuilt)
            found['reconstruction_frechet_distance'] = metrics.frechet_distance(self._statistics(look, 'test'), statistics)
        return found

    def _probe(self, look) -> float:
        train, test = (look.rows(self._codes, look.trained[0], split) for split in ('train', 'test'))
        return metrics.linear_probe_accuracy(train['codes'], train['labels'], test['codes'], test['labels'])

    def __call__(self, state, look):
        found = self._distances(look) if self._extractor else {}
        if self.options.probe and self.encode and look.info.num_classes > 1:
            found['linear_probe_accuracy'] = self._probe(look)
        shown = {}
        if self.generate:
            shown['generated'] = look.sample(self.generate, PICTURES)
        if self.reconstruct:
            name = look.trained[0]
            shown |= look.rows(self._pairs, name, 'test', rows=look.drawn(name, 'test', PICTURES))
        return Findings(found, {'images': {name: to_levels(images) for name, images in shown.items()}})
