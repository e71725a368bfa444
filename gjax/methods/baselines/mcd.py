"""Maximum classifier discrepancy (Saito et al. 2018, arXiv:1712.02560): two classifiers find, and F removes, the target
images on which they differ.

  A  F, C1, C2 descend  CE(C1(F(s)), y) + CE(C2(F(s)), y)
  B  C1, C2 descend     the same - d(C1(F(t)), C2(F(t))),  d the mean |difference| of probabilities
  C  F descends         d(C1(F(t)), C2(F(t))),  generator_steps times
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from gjax.checks import positive
from gjax.losses import classifier_discrepancy, cross_entropy
from gjax.methods.core.adaptation import Adaptation, C, F
from gjax.methods.core.optimisers import set_schedule

SECOND = 'second_classifier'


@dataclasses.dataclass(frozen=True)
class MCD(Adaptation):
    """All updates of a step have the learning rate of that step, however many a player takes. Evaluation adds the logits of
    both classifiers."""

    classifying: ClassVar[tuple] = (F, C, SECOND)

    generator_steps: int = 4  # updates C after every A and B

    def __post_init__(self):
        super().__post_init__()
        positive('method.generator_steps', self.generator_steps, zero=False)

    def modules(self):
        return {**super().modules(), SECOND: self.net.classifier()}

    def minimize(self, state, players, loss):
        own = {player: set_schedule(state.opt_state[player], state.step) for player in players}
        return super().minimize(state.replace(opt_state={**state.opt_state, **own}), players, loss)

    def classification(self, params, embeddings, labels):
        """The source term of A and B."""
        return sum(jnp.mean(cross_entropy(self.classify(params[p], embeddings), labels)) for p in (C, SECOND))

    def discrepancy(self, params, embeddings):
        """d on target embeddings."""
        return jnp.mean(classifier_discrepancy(*(self.classify(params[p], embeddings) for p in (C, SECOND))))

    def step(self, state, batch):
        source, target = batch['source'], batch['target']

        def step_a(params):
            embeddings, stats = self.embed(params[F], state.batch_stats[F], source['image'])
            return self.classification(params, embeddings, source['label']), ({F: stats}, {})

        state, metrics = self.minimize(state, (F, C, SECOND), step_a)
        fixed = self.masked(state, F)
        source_embeddings, stats = self.embed(fixed, state.batch_stats[F], source['image'])
        target_embeddings, stats = self.embed(fixed, stats, target['image'])

        def step_b(params):
            distance = self.discrepancy(params, target_embeddings)
            return self.classification(params, source_embeddings, source['label']) - distance, ({}, {})

        state, more = self.minimize(state, (C, SECOND), step_b)
        state = state.replace(batch_stats={**state.batch_stats, F: stats})
        classifiers = {player: self.masked(state, player) for player in (C, SECOND)}

        for _ in range(self.generator_steps):

            def step_c(params, stats=state.batch_stats[F]):
                embeddings, stats = self.embed(params[F], stats, target['image'])
                distance = self.discrepancy(classifiers, embeddings)
                return distance, ({F: stats}, {'discrepancy': distance})

            state, last = self.minimize(state, (F,), step_c)
        return self.after_step(state), more | metrics | {'discrepancy': last['discrepancy']}

    def logits(self, state, images):
        embeddings = self.features(state, images)
        return sum(self.classify(self.evaluated(state, player), embeddings) for player in (C, SECOND))


METHOD = MCD
