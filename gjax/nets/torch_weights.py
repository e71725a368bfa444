"""PyTorch's weights as Flax variables: NumPy arrays by other names, in another layout."""

import jax
import jax.numpy as jnp
import numpy as np


def as_kernel(weight) -> np.ndarray:
    """[D, C, kh, kw] of a convolution as [kh, kw, C, D]; [D, C] of a dense layer as [C, D]."""
    weight = np.asarray(weight)
    return weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T


def with_head(found: dict, layer: str, head) -> dict:
    """`found`, as `filled` takes it, with {'kernel', 'bias'} of a network's last layer in place of the file's; as it is if
    `head` is None.
    """
    return found if head is None else found | {f'{layer}/{name}': np.asarray(value) for name, value in head.items()}


def filled(shapes, found: dict[str, np.ndarray], what: str):
    """The tree `shapes` with the arrays of `found`, whose names are paths such as 'params/fc/kernel', as float32.

    Raises:
      ValueError: an array is missing or has another shape; one line.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(shapes)
    leaves = []
    for path, expected in paths:
        name = jax.tree_util.keystr(path, simple=True, separator='/')
        if name not in found or found[name].shape != expected.shape:
            have = f'is {found[name].shape}' if name in found else 'is missing'
            raise ValueError(f'these are not the weights of {what}: {name} {have}, expected {expected.shape}')
        leaves.append(jnp.asarray(found[name], jnp.float32))
    return jax.tree.unflatten(structure, leaves)
