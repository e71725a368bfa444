"""FLOPs by formula: exact for one layer, near the compiler's count for whole networks, sliced and pruned ones too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import masks, nets
from gjax.nets.flops import flops_per_weight, forward_flops
from gjax.nets.layers import Conv, ConvTranspose

SHAPE, LATENT, BATCH = (32, 32, 3), 8, 4
NETS = {
    'small_cnn': {},
    'preact_resnet18': {'blocks': (1, 1), 'width': 16},
    'resnet18': {'blocks': (1, 1), 'width': 16},
    'resnet50': {'blocks': (1, 1), 'width': 16},
    'wide_resnet': {'depth': 10, 'width': 1},
    'iaat_wide_resnet': {'depth': 8, 'width': 1},
}
FAMILIES = {
    'dcgan': {'widths': (16, 64)},
    'resnet_gan': {'widths': (16, 16), 'trunk_widths': (16, 16)},
    'mlp': {'widths': (64, 32)},
}


def _sizes(params):
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return {masks.path_name(path): leaf.size for path, leaf in leaves}


def _both(module, inputs, **arguments):
    """(by formula, by the compiler of a TPU, whose convolutions are as they are written), for the batch."""
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), inputs, **arguments))
    formula = len(inputs) * forward_flops(flops_per_weight(module, inputs, **arguments), _sizes(variables['params']))
    traced = jax.jit(lambda v, x: module.apply(v, x, **arguments)).trace(variables, inputs)
    return formula, traced.lower(lowering_platforms=('tpu',)).cost_analysis()['flops']


def test_one_convolution():
    layer, inputs = Conv(5, (3, 2), padding='VALID', use_bias=False), jnp.zeros((1, 9, 8, 4))
    assert flops_per_weight(layer, inputs) == {'kernel': 2 * 7 * 7}
    assert _both(layer, inputs) == (2 * 3 * 2 * 4 * 5 * 7 * 7,) * 2


@pytest.mark.parametrize(
    'layer',
    [Conv(5, (4, 4), 2, use_bias=False), Conv(5, (3, 3), 2, 1, use_bias=False), ConvTranspose(5, use_bias=False)],
    ids=['same', 'padded', 'transposed'],
)
def test_padding_costs_nothing(layer):
    formula, compiled = _both(layer, jnp.zeros((1, 8, 8, 3)))
    assert formula == pytest.approx(compiled)
    assert formula < 2 * layer.kernel_size[0] * layer.kernel_size[1] * 3 * 5 * (
        64 if isinstance(layer, ConvTranspose) else 16
    )


@pytest.mark.parametrize('name', NETS)
def test_a_classifiers_total_is_the_compilers(name):
    formula, compiled = _both(nets.build(name, num_classes=10, **NETS[name]), jnp.zeros((BATCH, *SHAPE)), train=False)
    assert formula == pytest.approx(compiled, rel=0.05)


@pytest.mark.parametrize('name', FAMILIES)
def test_a_familys_totals_are_the_compilers(name):
    family = nets.build(name, image_shape=SHAPE, latent=LATENT, **FAMILIES[name])
    for module, shape in ((family.decoder(), (LATENT,)), (family.encoder(8), SHAPE), (family.discriminator(), SHAPE)):
        formula, compiled = _both(module, jnp.zeros((BATCH, *shape)), train=False)
        assert formula == pytest.approx(compiled, rel=0.05)


def test_fewer_channels_cost_what_the_smaller_network_does():
    wide, narrow = (nets.build('dcgan', image_shape=SHAPE, latent=LATENT, widths=widths) for widths in ((8, 16), (4, 6)))
    inputs = np.zeros((1, *SHAPE), np.float32)
    costs = [flops_per_weight(net.encoder(3), inputs, train=False) for net in (wide, narrow)]
    assert costs[0] == costs[1]
