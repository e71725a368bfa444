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
from gjax.methods.core.adaptation import TARGET, Adaptation, C, F
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

    def minimize(self, state, players, loss, *, turn=0):
        own = {player: set_schedule(state.opt_state[player], state.step) for player in players}
        return super().minimize(state.replace(opt_state={**state.opt_state, **own}), players, loss, turn=turn)

    def classification(self, run, embeddings, labels):
        """The source term of A and B."""
        return sum(jnp.mean(cross_entropy(run(p, embeddings), labels)) for p in (C, SECOND))

    def discrepancy(self, run, embeddings):
        """d on target embeddings."""
        return jnp.mean(classifier_discrepancy(*(run(p, embeddings, TARGET) for p in (C, SECOND))))

    def step(self, state, batch):
        source, target = batch['source'], batch['target']

        def step_a(run):
            return self.classification(run, run(F, source['image']), source['label']), {}

        state, metrics = self.minimize(state, (F, C, SECOND), step_a)
        fixed = self.passes(state, turn=1)
        source_embeddings, target_embeddings = fixed(F, source['image']), fixed(F, target['image'], TARGET)

        def step_b(run):
            distance = self.discrepancy(run, target_embeddings)
            return self.classification(run, source_embeddings, source['label']) - distance, {}

        def step_c(run):
            distance = self.discrepancy(run, run(F, target['image'], TARGET))
            return distance, {'discrepancy': distance}

        state, more = self.minimize(state, (C, SECOND), step_b, turn=2)
        state = state.replace(batch_stats={**state.batch_stats, F: fixed.batch_stats[F]})
        for i in range(self.generator_steps):
            state, last = self.minimize(state, (F,), step_c, turn=3 + i)
        return self.after_step(state), more | metrics | {'discrepancy': last['discrepancy']}

    def logits(self, state, images, domain=TARGET):
        embeddings = self.features(state, images, domain)
        return sum(self.see(state, player, embeddings, domain) for player in (C, SECOND))


METHOD = MCD
