"""Inception-v3 with random weights, under torchvision's names."""

import jax
import jax.numpy as jnp
import numpy as np

from gjax.nets.inception import InceptionV3


def shapes(variant='torchvision'):
    """Those of Inception-v3's variables."""
    return jax.eval_shape(lambda: InceptionV3(variant).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3))))


def random_state_dict(variant, seed=0):
    """Arrays under torchvision's names, with statistics as after training."""
    rng, arrays = np.random.default_rng(seed), {}
    kinds = {'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var', 'kernel': 'weight'}
    for path, leaf in jax.tree_util.tree_flatten_with_path(shapes(variant))[0]:
        *layer, kind = [key.key for key in path[1:]]
        shape = leaf.shape
        if kind == 'kernel':
            shape = (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape[::-1]
            value = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            value = rng.uniform(0.5, 1.5, shape) if kind in ('scale', 'var') else 0.1 * rng.normal(size=shape)
        arrays['.'.join((*layer, kinds[kind]))] = value.astype(np.float32)
    return arrays
