"""Adversarial discriminative domain adaptation (Tzeng et al. 2017, arXiv:1702.05464).

1  F_s, C descend  CE(C(F_s(s)), y)
2  from F_t = F_s, F_s and C fixed:
   D descends      BCE(D(F_s(s)), 1) + BCE(D(F_t(t)), 0)
   F_t descends    BCE(D(F_t(t)), 1)
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jax import lax

from gjax.checks import positive
from gjax.losses import binary_cross_entropy
from gjax.methods.baselines.source_only import SourceOnly
from gjax.methods.core.adaptation import SOURCE, TARGET, F
from gjax.methods.core.optimisers import restart_optimizer

D = 'domain'


@dataclasses.dataclass(frozen=True)
class ADDA(SourceOnly):
    """Both phases are one run. The player 'embedding' is F_s in the first phase, and F_t in the second and in evaluation.

    The metric `phase` says which phase a step belongs to; the metrics of the other phase are 0.
    """

    source_share: float = 0.5  # the first phase's share of the steps
    adaptation_rate: float = 0.2  # F_t's learning rate as a multiple of the config's

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.source_share < 1:
            raise ValueError(f'method.source_share is {self.source_share}; allowed: 0 < source_share < 1')
        positive('method.adaptation_rate', self.adaptation_rate, zero=False)

    @property
    def switch(self) -> int:
        """The first step of the second phase."""
        return max(1, round(self.source_share * self.info.num_steps))

    def modules(self):
        return {**super().modules(), D: self.net.domain_discriminator()}

    def optimizer_of(self, player):
        if player != F:
            return self.optimizer
        return optax.chain(
            self.optimizer, optax.scale_by_schedule(lambda step: jnp.where(step < self.switch, 1.0, self.adaptation_rate))
        )

    def init_memory(self, params, batch_stats):
        return {'source_embedding': jax.tree.map(jnp.copy, (params[F], self.running(batch_stats, F, SOURCE)))}

    def of_source(self, batch_stats):
        """F's statistics with which the source's embeddings are computed."""
        return batch_stats[F][SOURCE] if self.statistics == 'own' else batch_stats[F]

    def begin_adaptation(self, state):
        """F_t starts as F_s, which stays as it is, without momentum of before."""
        own = restart_optimizer(self.optimizer_of(F), state.params[F], state.step)
        stats = self.running(state.batch_stats, F, SOURCE)
        memory = {**state.memory, 'source_embedding': (self.masked(state, F), stats)}
        return state.replace(memory=memory, opt_state={**state.opt_state, F: own})

    def adaptation_step(self, state, batch):
        """D, then F_t against the new D."""
        source = self.apply(F, *state.memory['source_embedding'], batch['source']['image'], train=False)[0]
        target = self.passes(state)(F, batch['target']['image'], TARGET)

        def discriminator_loss(run):
            logits = [run(D, source), run(D, target, TARGET)]
            loss = jnp.mean(binary_cross_entropy(logits[0], True)) + jnp.mean(binary_cross_entropy(logits[1], False))
            right = (jnp.mean(logits[0] > 0) + jnp.mean(logits[1] < 0)) / 2
            return loss, {'discriminator_accuracy': right}

        def embedding_loss(run):
            logits = run(D, run(F, batch['target']['image'], TARGET), TARGET)
            return jnp.mean(binary_cross_entropy(logits, True)), {}

        state, metrics = self.minimize(state, (D,), discriminator_loss, turn=1)
        state, more = self.minimize(state, (F,), embedding_loss, turn=2)
        return state, metrics | more

    def step(self, state, batch):
        first = state.step < self.switch
        state = lax.cond(state.step == self.switch, self.begin_adaptation, lambda state: state, state)
        shapes = [jax.eval_shape(f, state, b)[1] for f, b in self._phases(batch)]
        zeros = {name: jnp.zeros(s.shape, s.dtype) for own in shapes for name, s in own.items()}

        def phase(f, own):
            def run(state):
                state, metrics = f(state, own)
                return state, zeros | metrics

            return run

        state, metrics = lax.cond(first, *(phase(f, own) for f, own in self._phases(batch)), state)
        return self.after_step(state), metrics | {'phase': jnp.where(first, 1.0, 2.0)}

    def _phases(self, batch):
        return (self.classification_step, batch['source']), (self.adaptation_step, batch)


METHOD = ADDA
