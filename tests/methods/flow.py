"""A linear flow of four pixels and batches for it, for the tests of flows and of their evaluation."""

import jax.numpy as jnp
import numpy as np

from gjax.evaluators.likelihood import LikelihoodEvaluation
from gjax.methods.core.contract import DataInfo
from gjax.methods.core.optimisers import build_optimizer
from gjax.methods.flow_robustness import FlowRobustness
from gjax.nets.linear_flow import LinearFlow

SHAPE = (2, 2, 1)


def method(steps=100, **options):
    """A linear flow, trained by plain gradient descent unless told otherwise."""
    info = DataInfo(1, 64, 10, steps, SHAPE)
    spec = options.pop('optimizer', {'name': 'sgd', 'learning_rate': 0.1, 'momentum': 0.0})
    evaluation = options.pop('evaluation', LikelihoodEvaluation(curve=(0.01, 0.1), steps=3, norm='l2'))
    return FlowRobustness(LinearFlow(SHAPE), build_optimizer(spec, info), info, evaluation, **options)


def batch_of(seed: int, count: int = 16):
    images = jnp.asarray(np.random.default_rng(seed).uniform(0.2, 0.8, (count, *SHAPE)), jnp.float32)
    zeros = jnp.zeros(count, jnp.int32)
    return {'image': images, 'label': zeros, 'index': jnp.arange(count, dtype=jnp.int32)}
