"""How many floating-point operations a network costs, by formula: for each weight, and hence for pruned and sliced ones."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gjax.nets.layers import Conv, ConvTranspose


def _valid_taps(size: int, out: int, taps: int, stride: int, padding) -> int:
    """Over all outputs along one axis of a convolution, how many taps fall on the image."""
    low = padding if isinstance(padding, int) else max((out - 1) * stride + taps - size, 0) // 2 if padding == 'SAME' else 0
    return sum(0 <= i * stride - low + k < size for i in range(out) for k in range(taps))


def flops_per_weight(module: nn.Module, inputs, **arguments) -> dict[str, float]:
    """{'LAYER/kernel': FLOPs of one example's forward pass for each of its weights}, of dense layers and convolutions.

    A multiplication and an addition count as two, those with padding as none: 2 kh kw cin cout ho wo of a whole convolution,
    but for the border.

    Args:
      module: of `gjax.nets.layers` (InceptionV3 is not).
      inputs: [B, ...], or their jax.ShapeDtypeStruct.
      **arguments: of its call.
    """
    found = {}

    def watch(call, args, kwargs, context):
        outputs = call(*args, **kwargs)
        layer, x = context.module, args[0] if args else None
        if context.method_name == '__call__' and isinstance(layer, nn.Dense | Conv | ConvTranspose):
            uses = 1.0
            if isinstance(layer, nn.Dense):
                uses = x.size / x.shape[0] / x.shape[-1]
            else:
                # A transposed convolution is the gradient of a convolution from its outputs to its inputs.
                big, small = (outputs, x) if isinstance(layer, ConvTranspose) else (x, outputs)
                padding = getattr(layer, 'padding', 'SAME')
                for size, out, taps in zip(big.shape[1:3], small.shape[1:3], layer.kernel_size, strict=True):
                    uses *= _valid_taps(size, out, taps, layer.strides, padding) / taps
            found['/'.join((*layer.path, 'kernel'))] = 2.0 * uses
        return outputs

    def forward(inputs):
        with nn.intercept_methods(watch):
            return module.init(jax.random.key(0), inputs, **arguments)

    jax.eval_shape(forward, jax.ShapeDtypeStruct(jnp.shape(inputs), jnp.float32))
    return found


def forward_flops(per_weight: dict[str, float], weights: dict[str, int]) -> float:
    """FLOPs of one example's forward pass from `flops_per_weight` and how many weights each kernel has, or has left."""
    return sum(cost * weights[name] for name, cost in per_weight.items())
