"""Adaptive batch normalisation (Li et al. 2016, arXiv:1603.04779): a network trained on the source alone, whose statistics
of batch normalisation are the target's wherever it is applied to the target.
"""

import dataclasses

import jax

from gjax.methods.baselines.source_only import SourceOnly
from gjax.methods.core.adaptation import TARGET, C, F


@dataclasses.dataclass(frozen=True)
class AdaBN(SourceOnly):
    """F, C = argmin CE(C(F(s)), y). Every step also passes a batch of target images through both, which changes nothing but
    the running statistics with which the target is evaluated. The paper takes them of all target images with the last
    weights; these are running averages over batches and weights of the last steps.
    """

    statistics: str = 'own'

    def __post_init__(self):
        super().__post_init__()
        if self.statistics != 'own':
            raise ValueError(f"method.statistics is {self.statistics!r}; allowed for adabn: 'own', which is the method")

    def fits(self):
        super().fits()
        image = jax.ShapeDtypeStruct((2, *self.info.image_shape), 'float32')
        shapes = jax.eval_shape(lambda image: self.net.embedding().init(jax.random.key(0), image, train=False), image)
        if not shapes.get('batch_stats'):
            raise ValueError('the network of adabn has no batch normalisation; allowed: one that has (net.name=dann_digits)')

    def step(self, state, batch):
        state, metrics = self.classification_step(state, batch['source'])
        run = self.passes(state, turn=1)
        run(C, run(F, batch['target']['image'], TARGET), TARGET)
        return self.after_step(state.replace(batch_stats=run.batch_stats)), metrics


METHOD = AdaBN
