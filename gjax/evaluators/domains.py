"""What is measured of a classifier over several domains: accuracy by domain and class, how far embeddings can be told apart,
what its generator makes, and what other selections than the last step would have given.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gjax import metrics
from gjax.checks import positive
from gjax.data import to_levels
from gjax.evaluators.base import END, LOG, Evaluator, Findings
from gjax.evaluators.means import Means
from gjax.losses import correct, cross_entropy


@dataclasses.dataclass(frozen=True)
class AdaptationEvaluation:
    """What is measured beside accuracy."""

    # On how many embeddings of each domain a linear classifier of domains is fitted, and on how many it is tested, at every
    # evaluation; 0 for none.
    probe_examples: int = 2000
    pictures: int = 500  # of how many images embeddings are kept for figures; 0 for none

    def __post_init__(self):
        positive('evaluation.probe_examples', self.probe_examples)
        positive('evaluation.pictures', self.pictures)


def accuracy_by_class(logits: Callable, num_classes: int, sources: tuple[str, ...] = (), of: str = 'target') -> Means:
    """Accuracy and cross-entropy of every set with labels; of the set `of` also by class, and as the mean over the classes
    that it has; of several sources also their mean, 'source_accuracy'.

    Args:
      logits: (state, batch) -> [B, K], as evaluation sees them.
      num_classes: K.
      sources: their names.
      of: a set's name; 'TARGET_class_3_accuracy', 'TARGET_mean_class_accuracy'.
    """

    def function(state, batch, *, rng):
        own = logits(state, batch)
        right = correct(own, batch['label']).astype(jnp.float32)
        is_class = jax.nn.one_hot(batch['label'], num_classes)
        return {
            'accuracy': right,
            'loss': cross_entropy(own, batch['label']),
            'class_right': is_class * right[:, None],
            'class_count': is_class,
        }

    def conclude(means):
        return {name: value for name, value in means.items() if name not in ('class_right', 'class_count')}

    def across(means):
        found = {}
        measured = [means[name]['accuracy'] for name in sources if name in means]
        if measured and 'source' not in sources:
            found['source_accuracy'] = sum(measured) / len(measured)
        if of in means:
            shares = zip(means[of]['class_right'], means[of]['class_count'], strict=True)
            accuracy = {k: right / count for k, (right, count) in enumerate(shares) if count}
            found[f'{of}_mean_class_accuracy'] = sum(accuracy.values()) / len(accuracy)
            found |= {f'{of}_class_{k}_accuracy': value for k, value in accuracy.items()}
        return found

    return Means(function, conclude=conclude, across=across, needs=('label',))


class Embeddings(Evaluator):
    """How well a linear classifier tells the domains of training apart by their embeddings (see `metrics.told_apart`), and,
    at the end, embeddings of test images for figures: 'SET_embedding', 'SET_prediction' and, of a set with labels,
    'SET_label' in images.npz.
    """

    def __init__(self, features: Callable, logits: Callable, options: AdaptationEvaluation):
        """
        Args:
          features: (state, batch) -> [B, D], as evaluation sees them.
          logits: (state, batch) -> [B, K].
          options: how many examples count.
        """
        self.options = options
        self.protocol = (
            f'domains told apart by {options.probe_examples} embeddings of each' if options.probe_examples else ''
        )

        def embed(state, batch, *, rng):
            predictions = logits(state, batch).argmax(axis=-1)
            labels = {'label': batch['label']} if 'label' in batch else {}
            return {'embedding': features(state, batch), **labels, 'prediction': predictions}

        self.embed = embed

    def _some(self, look, name: str, split: str, limit: int) -> dict[str, np.ndarray]:
        """The embeddings of `limit` examples of a split at most, drawn of all classes."""
        return look.rows(self.embed, name, split, rows=look.drawn(name, split, limit))

    def __call__(self, state, look):
        found, arrays, test = {}, {}, self.options
        if test.probe_examples:
            found = metrics.told_apart(
                *(
                    [self._some(look, name, split, test.probe_examples)['embedding'] for name in look.trained]
                    for split in ('train', 'test')
                )
            )
        if test.pictures and look.when == 'end':
            for name in look.trained:
                own = self._some(look, name, 'test', test.pictures)
                arrays |= {f'{name}_{key}': values for key, values in own.items()}
        return Findings(found, {'images': arrays} if arrays else {})


class Snapshots(Evaluator):
    """uint8 images of the test split of every set, drawn of all classes, and what a generator makes of them, at every log
    point: snapshots/STEP.npz with 'SET_images' and 'SET_generated'.
    """

    when = LOG

    def __init__(self, generate: Callable, count: int = 16):
        """
        Args:
          generate: (state, batch, *, rng) -> images [B, H, W, C] in [0, 1].
          count: how many of every set.
        """
        self.count = count

        def both(state, batch, *, rng):
            return {'images': batch['image'], 'generated': generate(state, batch, rng=rng)}

        self.both = both

    def __call__(self, state, look):
        shown = {}
        for name in look.sets:
            found = look.rows(self.both, name, 'test', rows=look.drawn(name, 'test', self.count))
            shown |= {f'{name}_{key}': to_levels(images) for key, images in found.items()}
        return Findings({}, {'snapshots': shown})


class Selection(Evaluator):
    """What the evaluation that is best by another metric would have had, the last of equals: 'METRIC_SELECTION'."""

    when = END

    def __init__(self, metric: str, by: dict[str, tuple[str, ...]]):
        """
        Args:
          metric: the one that is reported, e.g. 'target_accuracy'.
          by: {selection: metrics}, of which the first that was logged selects.
        """
        self.metric, self.by = metric, by

    def __call__(self, state, look):
        return Findings(selected(look.log, self.metric, self.by))


def selected(lines: list[dict], metric: str, by: dict[str, tuple[str, ...]]) -> dict[str, float]:
    """{'METRIC_SELECTION': value} from the lines of metrics.jsonl; arguments as of `Selection`."""

    def logged(line, name):
        return line.get(
            f'validation/{name.removeprefix("validation_")}' if name.startswith('validation_') else f'test/{name}'
        )

    tested = [line for line in lines if logged(line, metric) is not None]
    found = {}
    for selection, names in by.items():
        for name in names:
            measured = [line for line in tested if logged(line, name) is not None]
            if measured:
                best = max(reversed(measured), key=lambda line: logged(line, name))
                found[f'{metric}_{selection}'] = logged(best, metric)
                break
    return found
