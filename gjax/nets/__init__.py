"""Flax Linen networks by name: images [B, H, W, C] in [0, 1] to float32 outputs, parameters always float32.

Classifiers and flows are one module; the generative families (`gjax.nets.autoencoder.Family`) and the networks of domain
adaptation (`gjax.nets.gta`) give several that fit each other.
"""

import difflib

import jax.numpy as jnp

from gjax.nets.alexnet import AlexNet
from gjax.nets.autoencoder import MLP
from gjax.nets.dcgan import DCGAN
from gjax.nets.digits import DANNDigits, M3SDADigits
from gjax.nets.glow import Glow
from gjax.nets.gta import GTADigits, GTAResNet50
from gjax.nets.linear_flow import LinearFlow
from gjax.nets.masked_cnn import MaskedCNN
from gjax.nets.realnvp import RealNVP
from gjax.nets.resnet import PreActResNet, ResNet18, ResNet50
from gjax.nets.small_cnn import SmallCNN
from gjax.nets.sngan import ResNetGAN
from gjax.nets.wide_resnet import IAATWideResNet, WideResNet

CLASSIFIERS = {
    'small_cnn': SmallCNN,
    'preact_resnet18': PreActResNet,
    'resnet18': ResNet18,
    'resnet50': ResNet50,
    'wide_resnet': WideResNet,
    'iaat_wide_resnet': IAATWideResNet,
}
# Whose layers take gates (`gjax.nets.gates`).
GATED = {'masked_cnn': MaskedCNN, 'resnet18': ResNet18, 'resnet50': ResNet50, 'alexnet': AlexNet}
FAMILIES = {'mlp': MLP, 'dcgan': DCGAN, 'resnet_gan': ResNetGAN}
GTA_NETS = {'gta_digits': GTADigits, 'gta_resnet50': GTAResNet50}
DOMAIN_NETS = GTA_NETS | {'dann_digits': DANNDigits, 'm3sda_digits': M3SDADigits}
FLOWS = {'realnvp': RealNVP, 'glow': Glow, 'linear_flow': LinearFlow}
NETS = CLASSIFIERS | GATED | FAMILIES | DOMAIN_NETS | FLOWS
_GIVEN = ('parent', 'name', 'num_classes', 'image_shape')  # not options: the data and flax know them
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def defaults(name: str) -> dict:
    """The options of the network `name` with their defaults, `dtype` among them; ValueError if there is no such network."""
    if name not in NETS:
        raise ValueError(f'net.name is {name!r}; allowed: {", ".join(NETS)}')
    fields = {key: field.default for key, field in NETS[name].__dataclass_fields__.items()}
    return {key: fields[key] for key in fields if key not in _GIVEN} | {'dtype': 'float32'}


def check(name: str, *, dtype: str = 'float32', **options) -> None:
    """Checks the name and the options of a network; arguments as of `build`.

    Raises:
      ValueError: unknown name, dtype or option, a size that is not positive; the message lists what is allowed.
    """
    known = defaults(name)
    fields = [field for field in known if field != 'dtype']
    if dtype not in DTYPES:
        raise ValueError(f'net.dtype is {dtype!r}; allowed: {", ".join(DTYPES)}')
    for key, value in options.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            hint = f' (did you mean {near[0]}?)' if near else ''
            raise ValueError(f'net.{key} is {value!r}, but {name} has no such option{hint}; allowed: {", ".join(fields)}')
        sizes = value if isinstance(value, tuple | list) else (value,)
        numbers = [size for size in sizes if isinstance(size, int | float) and not isinstance(size, bool)]
        # What is off by default may be 0, and so may a share.
        zero = known[key] == 0 or (isinstance(known[key], float) and known[key] < 1)
        if (not sizes and known[key] != ()) or any(number < 0 or (number == 0 and not zero) for number in numbers):
            raise ValueError(f'net.{key} is {value!r}; allowed: positive')


def build(name: str, *, num_classes: int = 0, image_shape=(), dtype: str = 'float32', **options):
    """The network `name` as a Linen module, or the family.

    Args:
      name: a key of NETS.
      num_classes: K, of classifiers and networks of domain adaptation.
      image_shape: (H, W, C), of all but classifiers; flows take (D,) too, for vectors [B, D].
      dtype: 'float32' or 'bfloat16', of the arithmetic; parameters, statistics and logits stay float32.
      **options: the module's own fields.

    Raises:
      ValueError: as `check`, or a network that needs an image shape got none; the message lists what is allowed.
    """
    check(name, dtype=dtype, **options)
    given = {'num_classes': num_classes} if name not in FAMILIES | FLOWS else {}
    if name not in CLASSIFIERS | GATED:
        if len(image_shape) != 3 and not (name in FLOWS and len(image_shape) == 1):
            vectors = ', or (D,) for vectors' if name in FLOWS else ''
            raise ValueError(f'image_shape is {tuple(image_shape)}; allowed for {name}: (height, width, channels){vectors}')
        given['image_shape'] = tuple(image_shape)
    return NETS[name](**given, dtype=DTYPES[dtype], **options)
