"""The common ground of domain generalisation: labelled images of several source domains, pooled into one batch, and unseen
domains, of which training sees nothing.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gjax import nets
from gjax.evaluators.domains import Selection
from gjax.evaluators.generalization import (
    GeneralizationEvaluation,
    UnseenAccuracy,
    accuracy_by_part,
    combined,
    in_domain_accuracy,
)
from gjax.losses import correct, cross_entropy
from gjax.methods.core.contract import DataInfo, Role
from gjax.methods.core.players import Players
from gjax.methods.core.state import State, new_state

PLAYER = 'classifier'


@dataclasses.dataclass(frozen=True)
class Generalization(Players):
    """One network for all domains and its evaluation; subclasses add `step`, and what each source has of its own."""

    NETS: ClassVar[dict] = nets.GATED
    EVALUATION: ClassVar[type] = GeneralizationEvaluation

    net: Any
    optimizer: Any
    info: DataInfo
    evaluation: GeneralizationEvaluation

    @classmethod
    def roles(cls, sets):
        """Images of all sources, shuffled together, with the numbers of their domains."""
        return {'': Role(sets.sources, fields=('image', 'label', 'domain'))}

    def fits(self):
        if self.info.num_classes < 2:
            found = self.info.num_classes or '0, for they have no labels'
            raise ValueError(f'the number of classes of data.sources is {found}; allowed: at least 2')

    @property
    def domains(self) -> int:
        """p, the number of sources."""
        return max(len(self.info.domains), 1)

    def modules(self):
        return {PLAYER: self.net}

    def init(self, rng, batch) -> State:
        init_rng, run_rng = jax.random.split(rng)
        params, stats = self.init_players(init_rng, lambda *_: batch['image'])
        opt_state = {player: self.optimizer_of(player).init(own) for player, own in params.items()}
        return new_state(run_rng, params, stats, opt_state)

    def with_weights(self, state: State, arrays) -> State:
        """A new state with torchvision's weights in all layers but the last; ValueError if they are not this network's."""
        net = self.modules()[PLAYER]
        variables = net.from_torch(arrays, head=state.params[PLAYER][net.HEAD])
        return state.replace(
            params={**state.params, PLAYER: variables['params']},
            batch_stats={**state.batch_stats, PLAYER: variables.get('batch_stats', {})},
        )

    def classification(self, logits, batch):
        """The mean cross-entropy of a batch, and the metric 'train_accuracy'."""
        accuracy = jnp.mean(correct(logits, batch['label']))
        return jnp.mean(cross_entropy(logits, batch['label'])), {'train_accuracy': accuracy}

    # Evaluation.

    def own_logits(self, state: State, batch, *, rng):
        """Logits [B, K] of source images, each with what its domain has of its own."""
        params = self.masked(state, PLAYER)
        return self.apply(PLAYER, params, state.batch_stats[PLAYER], batch['image'], train=False)[0]

    def unseen_logits(self, state: State, images, *, rng):
        """Logits [B, K] of images of unseen domains, and those with what each source has of its own [p, B, K], or None."""
        return self.own_logits(state, {'image': images}, rng=rng), None

    def evaluators(self):
        return (
            in_domain_accuracy(self.own_logits, self.info.domains),
            UnseenAccuracy(self.unseen_logits, self.info.unseen, self.info.domains),
            *self.selections(),
        )

    def selections(self) -> tuple:
        """What the evaluation with the best accuracy on the sources' validation splits would have had, as the released code
        selects; of out-of-domain accuracy by the sources' test splits, where there is no validation split.
        """
        validation = 'validation_in_domain_accuracy'
        return (
            Selection('in_domain_accuracy', {'selected_by_source': (validation,)}),
            Selection('out_of_domain_accuracy', {'selected_by_source': (validation, 'in_domain_accuracy')}),
        )


@dataclasses.dataclass(frozen=True)
class PartsOfSources(Generalization):
    """Methods in which every source has a part of its own: a mask or a head."""

    PART: ClassVar[str] = ''

    def every_logits(self, state: State, images, *, rng):
        """Logits [p, B, K] of images with the part of each source, as images of that source are judged."""
        raise NotImplementedError

    def protocols(self) -> tuple[str, str]:
        """How images of sources and of unseen domains are judged, in words for results.json."""
        return f'sources: {self.PART}s', f'mean over {self.PART}s of {self.evaluation.combine}'

    def unseen_logits(self, state, images, *, rng):
        every = self.every_logits(state, images, rng=rng)
        return combined(every, self.evaluation.combine), every

    def evaluators(self):
        sources, (own, unseen) = self.info.domains, self.protocols()
        several = (accuracy_by_part(self.every_logits, sources, self.PART, own),) if len(sources) > 1 else ()
        return (
            in_domain_accuracy(self.own_logits, sources, own),
            *several,
            UnseenAccuracy(self.unseen_logits, self.info.unseen, sources, unseen),
            *self.selections(),
        )
