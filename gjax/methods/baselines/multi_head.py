"""One trunk for all source domains and a last layer for each (the multi-headed baseline of Chattopadhyay et al. 2020,
arXiv:2008.12839).
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from gjax.evaluators.generalization import PartsEvaluation
from gjax.methods.core.generalization import PLAYER, PartsOfSources


@dataclasses.dataclass(frozen=True)
class MultiHead(PartsOfSources):
    """min E[CE(h_d(g(x)), y)], d the domain of x; unseen images are judged by the mean of all heads.

    The p heads are one layer of p K outputs: their weights are apart, and each begins as a layer of its own would.
    """

    PART: ClassVar[str] = 'head'
    EVALUATION: ClassVar[type] = PartsEvaluation

    # Whether all heads are one layer, as in the released AlexNet, whose heads wrap the same layers by mistake. Such a
    # network is the aggregate one.
    tied: bool = False

    def modules(self):
        heads = 1 if self.tied else self.domains
        return {PLAYER: self.net.clone(num_classes=heads * self.info.num_classes)}

    def of_heads(self, outputs):
        """Outputs [B, p K], or [B, K] of tied heads, as logits [B, p, K]."""
        shape = (len(outputs), self.domains, self.info.num_classes)
        return jnp.broadcast_to(outputs[:, None], shape) if self.tied else outputs.reshape(shape)

    def of_domain(self, outputs, domain):
        """The logits [B, K] of each example's own head."""
        return jnp.take_along_axis(self.of_heads(outputs), domain[:, None, None], axis=1)[:, 0]

    def step(self, state, batch):
        def loss(params):
            stats, rng = state.batch_stats[PLAYER], state.step_rng()
            outputs, stats = self.apply(PLAYER, params[PLAYER], stats, batch['image'], train=True, rng=rng)
            value, metrics = self.classification(self.of_domain(outputs, batch['domain']), batch)
            return value, ({PLAYER: stats}, metrics)

        state, metrics = self.minimize(state, (PLAYER,), loss)
        return state.replace(step=state.step + 1), metrics

    def _outputs(self, state, images):
        return self.apply(PLAYER, self.masked(state, PLAYER), state.batch_stats[PLAYER], images, train=False)[0]

    def own_logits(self, state, batch, *, rng):
        return self.of_domain(self._outputs(state, batch['image']), batch['domain'])

    def every_logits(self, state, images, *, rng):
        return jnp.swapaxes(self.of_heads(self._outputs(state, images)), 0, 1)


METHOD = MultiHead
