"""Flax Linen networks by name: images [B, H, W, C] in [0, 1] to float32 outputs, parameters always float32."""

import difflib

import jax.numpy as jnp

from gjax.nets.resnet import PreActResNet, ResNet50
from gjax.nets.small_cnn import SmallCNN
from gjax.nets.wide_resnet import IAATWideResNet, WideResNet

NETS = {
    'small_cnn': SmallCNN,
    'preact_resnet18': PreActResNet,
    'resnet50': ResNet50,
    'wide_resnet': WideResNet,
    'iaat_wide_resnet': IAATWideResNet,
}
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def defaults(name: str) -> dict:
    """The options of the network `name` with their defaults, `dtype` among them; ValueError if there is no such network."""
    if name not in NETS:
        raise ValueError(f'net.name is {name!r}; allowed: {", ".join(NETS)}')
    fields = {key: field.default for key, field in NETS[name].__dataclass_fields__.items()}
    return {key: fields[key] for key in fields if key not in ('parent', 'name', 'num_classes')} | {'dtype': 'float32'}


def build(name: str, *, num_classes: int, dtype: str = 'float32', **options):
    """The network `name` as a Linen module.

    Args:
      name: a key of NETS.
      num_classes: K.
      dtype: 'float32' or 'bfloat16', of the arithmetic; parameters, statistics and logits stay float32.
      **options: the module's own fields.

    Raises:
      ValueError: unknown name, dtype or option, a size that is not positive; the message lists what is allowed.
    """
    fields = [field for field in defaults(name) if field != 'dtype']
    if dtype not in DTYPES:
        raise ValueError(f'net.dtype is {dtype!r}; allowed: {", ".join(DTYPES)}')
    for key, value in options.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            hint = f' (did you mean {near[0]}?)' if near else ''
            raise ValueError(f'net.{key} is {value!r}, but {name} has no such option{hint}; allowed: {", ".join(fields)}')
        sizes = value if isinstance(value, tuple | list) else (value,)
        if not sizes or any(isinstance(size, int | float) and not isinstance(size, bool) and size <= 0 for size in sizes):
            raise ValueError(f'net.{key} is {value!r}; allowed: positive')
    return NETS[name](num_classes=num_classes, dtype=DTYPES[dtype], **options)
