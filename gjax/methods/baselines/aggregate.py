"""One network for the images of all source domains together: what domain generalisation has to beat."""

import dataclasses

from gjax.methods.core.generalization import PLAYER, Generalization


@dataclasses.dataclass(frozen=True)
class Aggregate(Generalization):
    """min E[CE(f(x), y)] over the pooled sources; it sees no domain.

    The step is that of `supervised` with several sources, which measures robustness instead of domains.
    """

    def step(self, state, batch):
        def loss(params):
            stats, rng = state.batch_stats[PLAYER], state.step_rng()
            logits, stats = self.apply(PLAYER, params[PLAYER], stats, batch['image'], train=True, rng=rng)
            value, metrics = self.classification(logits, batch)
            return value, ({PLAYER: stats}, metrics)

        state, metrics = self.minimize(state, (PLAYER,), loss)
        return state.replace(step=state.step + 1), metrics


METHOD = Aggregate
