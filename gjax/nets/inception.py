"""Inception-v3 (Szegedy et al. 2015, arXiv:1512.00567) under torchvision's names, so that its weights fit: for distances.

There are two variants, with the same layers but for the last and other pooling: torchvision's, of 1000 classes, and that of
the TensorFlow graph of 2015, of 1008 classes, by which published FIDs are measured (pytorch-fid has it under the same
names). Weights of one give wrong features in the other.

Evaluation mode alone, without the auxiliary classifier; weights come from a file (`gjax.nets.inception.from_torch`).
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gjax.checks import one_of
from gjax.nets.torch_weights import as_kernel, filled

SIDE = 299  # pixels
VARIANTS = {'torchvision': 1000, 'fid': 1008}  # and their numbers of classes


class ConvUnit(nn.Module):
    """Convolution without bias, batch normalisation by running statistics, ReLU."""

    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: tuple[int, int] = (0, 0)

    @nn.compact
    def __call__(self, x):
        padding = [(p, p) for p in self.padding]
        x = nn.Conv(self.features, self.kernel, self.stride, padding, use_bias=False, name='conv')(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name='bn')(x))


_SAME = {'window_shape': (3, 3), 'strides': (1, 1), 'padding': ((1, 1), (1, 1))}


def _mean_pool(x):
    """Means over 3x3 windows, stride 1; the padding's zeros count, as in torchvision."""
    return nn.pool(x, 0.0, jax.lax.add, **_SAME) / 9.0


def _inner_mean_pool(x):
    """Means over what 3x3 windows, stride 1, have of the image: the padding does not count, as in TensorFlow."""
    return nn.avg_pool(x, **_SAME, count_include_pad=False)


def _same_max_pool(x):
    """Maxima over 3x3 windows, stride 1."""
    return nn.max_pool(x, **_SAME)


def _max_pool(x):
    return nn.max_pool(x, (3, 3), (2, 2))


def _join(*branches):
    return jnp.concatenate(branches, axis=-1)


class InceptionA(nn.Module):
    """35x35: 1x1, 5x5, double 3x3, pooled by `pool`."""

    pooled: int
    pool: Callable

    @nn.compact
    def __call__(self, x):
        five = ConvUnit(64, (5, 5), padding=(2, 2), name='branch5x5_2')(ConvUnit(48, name='branch5x5_1')(x))
        three = ConvUnit(96, (3, 3), padding=(1, 1), name='branch3x3dbl_2')(ConvUnit(64, name='branch3x3dbl_1')(x))
        three = ConvUnit(96, (3, 3), padding=(1, 1), name='branch3x3dbl_3')(three)
        one = ConvUnit(64, name='branch1x1')(x)
        return _join(one, five, three, ConvUnit(self.pooled, name='branch_pool')(self.pool(x)))


class InceptionB(nn.Module):
    """35x35 to 17x17."""

    @nn.compact
    def __call__(self, x):
        double = ConvUnit(96, (3, 3), padding=(1, 1), name='branch3x3dbl_2')(ConvUnit(64, name='branch3x3dbl_1')(x))
        double = ConvUnit(96, (3, 3), 2, name='branch3x3dbl_3')(double)
        return _join(ConvUnit(384, (3, 3), 2, name='branch3x3')(x), double, _max_pool(x))


class InceptionC(nn.Module):
    """17x17: 1x1, 7x7 as 1x7 and 7x1 once and twice, pooled by `pool`."""

    width: int
    pool: Callable

    @nn.compact
    def __call__(self, x):
        def chain(name: str, kernels: Sequence[tuple[int, int]]):
            out = ConvUnit(self.width, name=f'{name}_1')(x)
            for i, kernel in enumerate(kernels, 2):
                features = 192 if i == len(kernels) + 1 else self.width
                padding = tuple(k // 2 for k in kernel)
                out = ConvUnit(features, kernel, padding=padding, name=f'{name}_{i}')(out)
            return out

        once = chain('branch7x7', [(1, 7), (7, 1)])
        twice = chain('branch7x7dbl', [(7, 1), (1, 7)] * 2)
        one = ConvUnit(192, name='branch1x1')(x)
        return _join(one, once, twice, ConvUnit(192, name='branch_pool')(self.pool(x)))


class InceptionD(nn.Module):
    """17x17 to 8x8."""

    @nn.compact
    def __call__(self, x):
        three = ConvUnit(320, (3, 3), 2, name='branch3x3_2')(ConvUnit(192, name='branch3x3_1')(x))
        seven = ConvUnit(192, (1, 7), padding=(0, 3), name='branch7x7x3_2')(ConvUnit(192, name='branch7x7x3_1')(x))
        seven = ConvUnit(192, (7, 1), padding=(3, 0), name='branch7x7x3_3')(seven)
        return _join(three, ConvUnit(192, (3, 3), 2, name='branch7x7x3_4')(seven), _max_pool(x))


class InceptionE(nn.Module):
    """8x8: branches that end in 1x3 and 3x1 side by side, pooled by `pool`."""

    pool: Callable

    @nn.compact
    def __call__(self, x):
        def split(name: str, x):
            wide = ConvUnit(384, (1, 3), padding=(0, 1), name=f'{name}a')(x)
            return _join(wide, ConvUnit(384, (3, 1), padding=(1, 0), name=f'{name}b')(x))

        three = split('branch3x3_2', ConvUnit(384, name='branch3x3_1')(x))
        double = ConvUnit(384, (3, 3), padding=(1, 1), name='branch3x3dbl_2')(ConvUnit(448, name='branch3x3dbl_1')(x))
        double = split('branch3x3dbl_3', double)
        one = ConvUnit(320, name='branch1x1')(x)
        return _join(one, three, double, ConvUnit(192, name='branch_pool')(self.pool(x)))


class InceptionV3(nn.Module):
    """Images [B, H, W, 1 or 3] in [0, 1], resized to 299 pixels, to features [B, 2048] and logits [B, classes]."""

    # 'torchvision' counts the zeros of the padding in its mean pooling. 'fid' does not, and takes maxima instead of means in
    # the last block's pooled branch.
    variant: str = 'torchvision'

    @nn.compact
    def __call__(self, images):
        one_of('variant', self.variant, tuple(VARIANTS))
        fid = self.variant == 'fid'
        pool = _inner_mean_pool if fid else _mean_pool
        x = jnp.broadcast_to(images, (*images.shape[:3], 3)) * 2 - 1
        x = jax.image.resize(x, (x.shape[0], SIDE, SIDE, 3), 'bilinear', antialias=False)
        x = ConvUnit(32, (3, 3), 2, name='Conv2d_1a_3x3')(x)
        x = ConvUnit(32, (3, 3), name='Conv2d_2a_3x3')(x)
        x = _max_pool(ConvUnit(64, (3, 3), padding=(1, 1), name='Conv2d_2b_3x3')(x))
        x = ConvUnit(80, name='Conv2d_3b_1x1')(x)
        x = _max_pool(ConvUnit(192, (3, 3), name='Conv2d_4a_3x3')(x))
        for name, pooled in (('5b', 32), ('5c', 64), ('5d', 64)):
            x = InceptionA(pooled, pool, name=f'Mixed_{name}')(x)
        x = InceptionB(name='Mixed_6a')(x)
        for name, width in (('6b', 128), ('6c', 160), ('6d', 160), ('6e', 192)):
            x = InceptionC(width, pool, name=f'Mixed_{name}')(x)
        x = InceptionD(name='Mixed_7a')(x)
        x = InceptionE(pool, name='Mixed_7b')(x)
        x = InceptionE(_same_max_pool if fid else pool, name='Mixed_7c')(x)
        features = x.mean(axis=(1, 2))
        return features, nn.Dense(VARIANTS[self.variant], name='fc')(features)


def from_torch(arrays) -> tuple[InceptionV3, dict]:
    """The network that PyTorch weights belong to, of the variant that their number of classes tells, and its variables.

    Args:
      arrays: of a state dict, {'Mixed_5b.branch1x1.conv.weight': array, ..., 'fc.bias': [1000 or 1008]}: torchvision's with
        1000 classes or pytorch-fid's with 1008. The auxiliary classifier's and the counters are left out.

    Raises:
      ValueError: another number of classes, or a name or a shape that is not the network's; one line.
    """
    kinds = {'conv.weight': 'kernel', 'bn.weight': 'scale', 'bn.bias': 'bias', 'fc.weight': 'kernel', 'fc.bias': 'bias'}
    kinds |= {'bn.running_mean': 'mean', 'bn.running_var': 'var'}
    found = {}
    for name, value in arrays.items():
        layer, kind = name.split('.')[:-1], '.'.join(name.split('.')[-2:])
        if layer[:1] == ['AuxLogits'] or kind not in kinds:
            continue
        array, leaf = np.asarray(value), kinds[kind]
        if leaf == 'kernel':
            array = as_kernel(array)
        found['/'.join(('batch_stats' if leaf in ('mean', 'var') else 'params', *layer, leaf))] = array
    classes = found['params/fc/bias'].size if 'params/fc/bias' in found else VARIANTS['torchvision']
    variants = [variant for variant, count in VARIANTS.items() if count == classes]
    if not variants:
        allowed = ' or '.join(f"{count} ({variant}'s)" for variant, count in VARIANTS.items())
        raise ValueError(f'these weights of Inception-v3 have {classes} classes; allowed: {allowed}')
    net = InceptionV3(variants[0])
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3))))
    return net, filled(shapes, found, 'Inception-v3')
