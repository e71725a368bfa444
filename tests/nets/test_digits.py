"""The digit networks of DANN and of Digits-Five: parameter counts, and PyTorch's layers with the same weights."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import nets
from gjax.nets.digits import DANNDigits, M3SDADigits

SHAPE = (32, 32, 3)


@pytest.mark.parametrize(
    ('net', 'features', 'counts'),
    [
        # Convolutions with biases, two numbers a channel of batch normalisation; heads of 100.
        (DANNDigits(SHAPE, 10), 1250, (4864 + 128 + 80_050 + 100, 125_100 + 200 + 10_100 + 200 + 1010, 125_100 + 200 + 101)),
        (
            M3SDADigits(SHAPE, 10),
            2048,
            (4864 + 128 + 102_464 + 128 + 204_928 + 256 + 25_168_896 + 6144 + 6_293_504 + 4096, 20_490, 2_098_176 + 1025),
        ),
    ],
    ids=['dann', 'm3sda'],
)
def test_shapes_and_parameter_counts(net, features, counts):
    inputs = (jnp.zeros((2, *SHAPE)), jnp.zeros((2, features)), jnp.zeros((2, features)))
    shapes = ((2, features), (2, 10), (2,))
    modules = (net.embedding(), net.classifier(), net.domain_discriminator())
    for module, x, shape, count in zip(modules, inputs, shapes, counts, strict=True):
        outputs, variables = jax.eval_shape(lambda m=module, x=x: m.init_with_output(jax.random.key(0), x, train=False))
        assert outputs.shape == shape
        assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == count


def test_a_batch_passes_as_through_pytorchs_layers():
    """In training mode, without dropout; statistics move by a tenth."""
    torch = pytest.importorskip('torch')
    net = DANNDigits((20, 20, 3), 4, widths=(3, 5), hidden=(6, 7), dropout=0.0)
    rng = np.random.default_rng(0)
    images = rng.random((8, 20, 20, 3), np.float32)
    embedding, classifier = net.embedding(), net.classifier()
    variables = embedding.init(jax.random.key(0), images, train=False)
    features, new = embedding.apply(variables, images, train=True, mutable=['batch_stats'])
    heads = classifier.init(jax.random.key(1), features, train=False)
    logits, _ = classifier.apply(heads, features, train=True, mutable=['batch_stats'])

    def normalised(x):
        return torch.nn.functional.batch_norm(x, None, None, training=True)

    x = torch.tensor(2 * images - 1).permute(0, 3, 1, 2)
    for i in range(2):
        own = variables['params'][f'Conv_{i}']
        kernel = torch.tensor(np.asarray(own['kernel'])).permute(3, 2, 0, 1)
        x = torch.nn.functional.conv2d(x, kernel, torch.tensor(np.asarray(own['bias'])))
        if i == 0:
            mean = x.mean(dim=(0, 2, 3)).numpy()
        x = torch.relu(torch.nn.functional.max_pool2d(normalised(x), 2))
    x = x.permute(0, 2, 3, 1).flatten(1)
    np.testing.assert_allclose(features, x.numpy(), atol=2e-5)
    np.testing.assert_allclose(new['batch_stats']['BatchNorm_0']['BatchNorm_0']['mean'], 0.1 * mean, atol=1e-5)
    for i in range(3):
        own = heads['params'][f'Dense_{i}']
        x = x @ torch.tensor(np.asarray(own['kernel'])) + torch.tensor(np.asarray(own['bias']))
        x = torch.relu(normalised(x)) if i < 2 else x
    np.testing.assert_allclose(logits, x.numpy(), atol=1e-4)


def test_dropout_takes_whole_channels_and_keeps_the_mean():
    net = DANNDigits((12, 12, 1), 2, widths=(64,), dropout=0.25)
    module, images = net.embedding(), jax.random.uniform(jax.random.key(0), (16, 12, 12, 1))
    variables = module.init(jax.random.key(1), images, train=False)
    seen = np.asarray(
        module.apply(variables, images, train=True, mutable=['batch_stats'], rngs={'dropout': jax.random.key(2)})[0]
    ).reshape(16, 16, 64)
    whole = DANNDigits((12, 12, 1), 2, widths=(64,), dropout=0.0).embedding()
    plain = np.asarray(whole.apply(variables, images, train=True, mutable=['batch_stats'])[0]).reshape(16, 16, 64)
    gone = (seen == 0).all(axis=1) & (plain > 0).any(axis=1)
    assert abs(gone.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / gone.size)
    kept = np.broadcast_to(~gone[:, None], seen.shape)
    np.testing.assert_allclose(seen[kept], plain[kept] / 0.75, rtol=1e-5)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'image_shape': (14, 14, 1)}, 'the images have 14 pixels a side: too few for net.widths (64, 50)'),
        ({'dropout': 1.0}, 'net.dropout is 1.0; allowed: 0 <= dropout < 1'),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        nets.build('dann_digits', num_classes=10, **({'image_shape': SHAPE} | options))


def test_no_dropout_is_allowed_and_no_width_of_zero_is():
    nets.check('dann_digits', dropout=0)
    with pytest.raises(ValueError, match=r'net\.widths is'):
        nets.check('dann_digits', widths=(0, 4))
