"""AlexNet in torchvision's form (Krizhevsky 2014, arXiv:1404.5997), with gates before its dense layers."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gjax.nets.gates import Gate, check_gates
from gjax.nets.layers import Conv, standardize
from gjax.nets.torch_weights import as_kernel, filled, with_head

# (channels, side of the kernel, stride, padding) of the convolutions; 3x3 max pooling follows those in _POOLED.
_CONVOLUTIONS = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
_POOLED = (0, 1, 4)
# torchvision's names of the layers, and ours.
_PLACES = {f'features.{i}': f'Conv_{k}' for k, i in enumerate((0, 3, 6, 8, 10))}
_PLACES |= {f'classifier.{i}': f'Dense_{k}' for k, i in enumerate((1, 4, 6))}


class AlexNet(nn.Module):
    """AlexNet for 224-pixel images; [B, H, W, 3] in [0, 1] to float32 logits [B, K].

    Images of 224 pixels leave 6 x 6 x 256 numbers of the convolutions, for which ImageNet's weights are made; smaller ones,
    from 63 pixels on, leave fewer. Gates stand before the dense layers 'fc6', 'fc7' and 'fc8'. In training without gates
    dropout stands there (before the first two), and takes a key: apply(..., rngs={'dropout': key}). With gates there is no
    dropout, as in the authors' code of the masks.
    """

    HEAD = 'Dense_2'  # the last layer

    num_classes: int
    hidden: int = 4096
    dropout: float = 0.5
    head_std: float = 0.0  # the last layer begins as N(0, head_std^2); 0 for LeCun's initialisation
    weights: str = ''  # a file of torchvision's weights; the last layer keeps its own
    dtype: Any = jnp.float32

    def gated_layers(self) -> tuple[str, ...]:
        """The layers whose inputs take gates, in the order of the forward pass."""
        return ('fc6', 'fc7', 'fc8')

    @nn.compact
    def __call__(self, images, *, train: bool, gates=None):
        check_gates(gates, self.gated_layers())
        features = standardize(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        for i, (width, side, stride, padding) in enumerate(_CONVOLUTIONS):
            features = nn.relu(Conv(width, (side, side), stride, padding, dtype=self.dtype)(features))
            if i in _POOLED:
                if min(features.shape[1:3]) < 3:
                    raise ValueError(f'the images have {min(images.shape[1:3])} pixels a side; allowed: from 63 on')
                features = nn.max_pool(features, (3, 3), (2, 2))
        features = features.reshape(len(features), -1)
        thinned = train and gates is None
        for layer in ('fc6', 'fc7'):
            features = nn.Dropout(self.dropout, deterministic=not thinned)(features)
            features = nn.relu(nn.Dense(self.hidden, dtype=self.dtype)(Gate(name=layer)(features, gates)))
        init = nn.initializers.normal(self.head_std) if self.head_std else nn.initializers.lecun_normal()
        return nn.Dense(self.num_classes, kernel_init=init)(Gate(name='fc8')(features, gates).astype(jnp.float32))

    def from_torch(self, arrays, head=None) -> dict:
        """Flax variables of this network from the arrays of torchvision's state dict, by its names.

        Args:
          arrays: {'features.0.weight': ..., 'classifier.6.bias': ...}; other names are those of other layers.
          head: {'kernel', 'bias'} of the last layer, in place of the file's; None for the file's own.

        Raises:
          ValueError: an array is missing or has another shape; one line.
        """
        found = {}
        for name, value in arrays.items():
            layer, _, kind = name.rpartition('.')
            if (place := _PLACES.get(layer)) is None:
                continue
            value = np.asarray(value)
            if layer == 'classifier.1' and kind == 'weight' and value.ndim == 2 and value.shape[1] == 256 * 36:
                # torch flattens channels first, we flatten them last.
                value = value.reshape(-1, 256, 6, 6).transpose(0, 2, 3, 1).reshape(len(value), -1)
            if kind == 'weight':
                found[f'params/{place}/kernel'] = as_kernel(value)
            else:
                found[f'params/{place}/{kind}'] = value
        image = jnp.zeros((1, 224, 224, 3))
        shapes = jax.eval_shape(lambda: self.init(jax.random.key(0), image, train=False))
        return filled(shapes, with_head(found, f'params/{self.HEAD}', head), 'this AlexNet')
