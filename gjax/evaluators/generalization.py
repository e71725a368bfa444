"""What is measured of a classifier that was trained on several source domains: accuracy on those, on unseen ones, and with
what is another domain's.

A method may have a part for each source: a mask or a head. Functions that give logits 'as of each source' give [p, B, K], by
the part of each of the p sources. Metrics of parts are called by a word for them, `part`: 'mask' or 'head'.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gjax.checks import one_of
from gjax.evaluators.base import BOTH, END, Evaluator, Findings
from gjax.evaluators.means import Means
from gjax.losses import correct, cross_entropy

COMBINATIONS = ('logits', 'probabilities')
INFERENCES = ('greedy', 'softscale', 'sample')
ALL_IMAGES = 'unseen sets: all of their images, of every split'


@dataclasses.dataclass(frozen=True)
class GeneralizationEvaluation:
    """No options: there is one network for all domains."""


@dataclasses.dataclass(frozen=True)
class PartsEvaluation(GeneralizationEvaluation):
    """How the parts of several sources judge an image of an unseen domain together."""

    combine: str = (
        'logits'  # 'logits': the mean of their logits (the released code); 'probabilities': of their probabilities
    )

    def __post_init__(self):
        one_of('evaluation.combine', self.combine, COMBINATIONS)


@dataclasses.dataclass(frozen=True)
class MasksEvaluation(PartsEvaluation):
    """Which masks images pass: 'greedy' (units of q > 1/2 are on), 'softscale' (units times q), 'sample' (drawn by q)."""

    in_domain: str = 'greedy'  # images of a source domain, with that domain's mask
    # Images of an unseen domain: with the masks of every source, one after the other, whose outputs `combine` averages; or
    # 'average': once, times the mean of q over the sources.
    unseen: str = 'softscale'

    def __post_init__(self):
        super().__post_init__()
        one_of('evaluation.in_domain', self.in_domain, INFERENCES)
        one_of('evaluation.unseen', self.unseen, (*INFERENCES, 'average'))


def combined(every, combine: str):
    """What the parts of several sources say together.

    Args:
      every: logits [p, B, K].
      combine: 'logits' for the mean of the logits, 'probabilities' for that of the probabilities; the two rules differ, and
        the mean of logits is the one of the released code.

    Returns:
      Logits [B, K].
    """
    one_of('combine', combine, COMBINATIONS)
    if combine == 'logits':
        return jnp.mean(every, axis=0)
    return jax.nn.logsumexp(jax.nn.log_softmax(every), axis=0) - np.log(len(every)).astype(every.dtype)


def _scores(logits, labels) -> dict:
    return {'accuracy': correct(logits, labels).astype(jnp.float32), 'loss': cross_entropy(logits, labels)}


class _OfMethods(Means):
    """Means whose protocol belongs to the method: results.json states it, but no single metric has it, so that reports put
    methods into one column.
    """

    def protocol_of(self, metric):
        return ''


def in_domain_accuracy(logits: Callable, sources: tuple[str, ...], protocol: str = '') -> Means:
    """Accuracy and cross-entropy of every source, and their means over the sources, 'in_domain_accuracy'.

    Args:
      logits: (state, batch, *, rng) -> [B, K]; the batch has the number of its source as 'domain'.
      sources: their names.
      protocol: how the method judges images, such as by which masks.
    """

    def function(state, batch, *, rng):
        return _scores(logits(state, batch, rng=rng), batch['label'])

    def across(means):
        accuracies = [own['accuracy'] for own in means.values()]
        return {'in_domain_accuracy': sum(accuracies) / len(accuracies)}

    return _OfMethods(function, across=across, sets=sources, needs=('label',), protocol=protocol)


def accuracy_by_part(every: Callable, sources: tuple[str, ...], part: str, protocol: str = '') -> Means:
    """Accuracy on the test split of every source with the part of each source: 'SET_accuracy_with_SOURCE', and the mean over
    the sets and all sources but their own, 'wrong_PART_accuracy'. At the end.

    Args:
      every: (state, images, *, rng) -> [p, B, K].
      sources: their names, p >= 2.
      part: 'mask' or 'head'.
      protocol: how the method judges images; of these metrics.
    """

    def function(state, batch, *, rng):
        return {'accuracies': _accuracies(every(state, batch['image'], rng=rng), batch['label'])}

    def across(means):
        found, wrong = {}, []
        for name, own in means.items():
            accuracies = dict(zip(sources, own['accuracies'], strict=True))
            found |= {f'{name}_accuracy_with_{source}': value for source, value in accuracies.items()}
            wrong += [value for source, value in accuracies.items() if source != name]
        return found | {f'wrong_{part}_accuracy': sum(wrong) / len(wrong)}

    return Means(
        function,
        conclude=lambda means: {},
        across=across,
        when=END,
        sets=sources,
        splits=('test',),
        needs=('label',),
        protocol=protocol,
    )


def _accuracies(every, labels):
    """Whether each example is classified rightly by each part, float32 [B, p]."""
    return jax.vmap(lambda logits: correct(logits, labels), out_axes=1)(every).astype(jnp.float32)


class UnseenAccuracy(Evaluator):
    """Accuracy and cross-entropy on all images of every unseen set, of its training, validation and test splits together,
    and the mean over sets, 'out_of_domain_accuracy'.

    Of a method with parts also 'SET_accuracy_with_SOURCE', by the part of each source alone, and which parts a set prefers:
    'SET_most_confident_SOURCE' is the share of its images whose most probable class is most probable by that part, and
    'SET_lowest_entropy_SOURCE' the share whose prediction has the lowest entropy by it, the first of equals.
    """

    when = BOTH
    protocol = ALL_IMAGES

    def __init__(self, predict: Callable, sets: tuple[str, ...], sources: tuple[str, ...], protocol: str = ''):
        """
        Args:
          predict: (state, images, *, rng) -> (logits [B, K], logits as of each source [p, B, K], or None without parts).
          sets: the unseen ones; those without labels are left out.
          sources: the names of the sources.
          protocol: how the method judges images, such as by which masks.
        """
        self.sets, self.sources = sets, sources
        if protocol:
            self.protocol = f'{ALL_IMAGES}; {protocol}'

        def function(state, batch, *, rng):
            logits, every = predict(state, batch['image'], rng=rng)
            found = _scores(logits, batch['label'])
            if every is None:
                return found
            probabilities = jax.nn.softmax(every)
            entropy = -jnp.sum(jax.scipy.special.xlogy(probabilities, probabilities), axis=-1)
            return found | {
                'accuracy_with': _accuracies(every, batch['label']),
                'most_confident': jax.nn.one_hot(jnp.argmax(jnp.max(probabilities, axis=-1), axis=0), len(every)),
                'lowest_entropy': jax.nn.one_hot(jnp.argmin(entropy, axis=0), len(every)),
            }

        self.function = function

    def protocol_of(self, metric):
        return ALL_IMAGES

    def __call__(self, state, look):
        found, accuracies = {}, []
        for name in self.sets:
            if not look.has(name, 'label'):
                continue
            means = self._over_all(look, name)
            accuracies.append(float(means['accuracy']))
            for key, value in means.items():
                if np.ndim(value):
                    of_each = zip(self.sources, value.tolist(), strict=True)
                    found |= {look.prefixed(name, f'{key}_{source}'): own for source, own in of_each}
                else:
                    found[look.prefixed(name, key)] = float(value)
        if accuracies:
            found['out_of_domain_accuracy'] = sum(accuracies) / len(accuracies)
        return Findings(found)

    def _over_all(self, look, name: str) -> dict:
        """The means over all splits of a set as one."""
        splits = [split for split in ('train', 'validation', 'test') if look.count(name, split)]
        counts = [look.count(name, split) for split in splits]
        means = [look.means(self.function, name, split) for split in splits]
        return {key: np.average([own[key] for own in means], axis=0, weights=counts) for key in means[0]}
