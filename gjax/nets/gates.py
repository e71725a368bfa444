"""Where networks take gates: what enters some of their layers is multiplied by one mask for each example.

A network with gates is called as net(images, train=..., gates=...). `gates` is None, or {layer: [B, *units]} with exactly
the layers of `net.gated_layers()` ('layer3', 'fc', ...), see `gjax.masks.gates`.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from gjax.checks import check_shape, one_of

MODES = ('channel', 'element')


class Gate(nn.Module):
    """What enters the layer `self.name`, [B, F] or [B, H, W, C], times its gates: one a channel, or one an element."""

    @nn.compact
    def __call__(self, features, gates):
        if gates is None:
            return features
        own, shape = gates[self.name], features.shape
        if len(shape) == 4 and own.ndim == 2:
            check_shape(f'gates of {self.name}', own, (shape[0], shape[3]), f'[B, C] = {(shape[0], shape[3])}, or {shape}')
            own = own[:, None, None]
        else:
            check_shape(f'gates of {self.name}', own, shape)
        return features * own.astype(features.dtype)


def check_gates(gates, layers: tuple[str, ...]) -> None:
    """ValueError unless there are no gates (None), or those of exactly these layers."""
    if gates is not None and set(gates) != set(layers):
        raise ValueError(f'gates are of {", ".join(sorted(gates))}; allowed: of {", ".join(layers)}, or None')


def gate_shapes(net: nn.Module, image_shape: tuple[int, int, int], mode: str = 'channel') -> dict[str, tuple[int, ...]]:
    """The units of every gated layer for images of this shape.

    Args:
      net: a network with gates.
      image_shape: (H, W, C).
      mode: 'channel' for one unit a channel, 'element' for one unit a channel and place; dense layers have one an input.

    Returns:
      {layer: (C,) or (H, W, C)}, in the order of the forward pass.
    """
    one_of('mode', mode, MODES)
    shapes = {}

    def watch(call, args, kwargs, context):
        if isinstance(context.module, Gate) and context.method_name == '__call__':
            shape = args[0].shape[1:]
            shapes[context.module.name] = shape[-1:] if mode == 'channel' else shape
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        image = jnp.zeros((1, *image_shape))
        jax.eval_shape(lambda: net.init(jax.random.key(0), image, train=False))
    if empty := [layer for layer, shape in shapes.items() if not math.prod(shape)]:
        raise ValueError(f'images of {tuple(image_shape)} are too small: nothing enters {empty[0]}; allowed: larger ones')
    return shapes
