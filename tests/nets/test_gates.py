"""Networks with gates: where they stand and how large they are, what they do, and torch's AlexNet as the judge of ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import nets
from gjax.nets.alexnet import AlexNet
from gjax.nets.gates import gate_shapes

# Of the paper's released code, for 224 pixels: sheet, section 3.
CHANNELS = {
    'alexnet': {'fc6': (9216,), 'fc7': (4096,), 'fc8': (4096,)},
    'resnet18': {'layer3': (128,), 'layer4': (256,), 'fc': (512,)},
    'resnet50': {'layer3': (512,), 'layer4': (1024,), 'fc': (2048,)},
}
ELEMENTS = {
    'alexnet': CHANNELS['alexnet'],
    'resnet18': {'layer3': (28, 28, 128), 'layer4': (14, 14, 256), 'fc': (512,)},
    'resnet50': {'layer3': (28, 28, 512), 'layer4': (14, 14, 1024), 'fc': (2048,)},
}


@pytest.mark.parametrize('name', CHANNELS)
def test_gates_are_the_released_codes(name):
    net = nets.build(name, num_classes=7)
    assert gate_shapes(net, (224, 224, 3)) == CHANNELS[name]
    assert gate_shapes(net, (224, 224, 3), 'element') == ELEMENTS[name]
    assert tuple(CHANNELS[name]) == net.gated_layers()


def test_gates_of_the_small_network():
    net = nets.build('masked_cnn', num_classes=3)
    assert gate_shapes(net, (16, 16, 1)) == {'conv3': (64,), 'conv4': (128,), 'fc': (128,)}
    assert gate_shapes(net, (64, 64, 3), 'element') == {'conv3': (16, 16, 64), 'conv4': (8, 8, 128), 'fc': (128,)}
    with pytest.raises(ValueError, match=r'8 pixels a side: too few for net.widths \(32, 64, 128, 128\); allowed: from 16'):
        gate_shapes(net, (8, 8, 1))
    with pytest.raises(ValueError, match='images have 32 pixels a side; allowed: from 63 on'):
        gate_shapes(nets.build('alexnet', num_classes=3), (32, 32, 3))
    with pytest.raises(ValueError, match="mode is 'pixel'; allowed: channel, element"):
        gate_shapes(net, (16, 16, 1), 'pixel')


# A small form of each network, its images, and which kernels what is gated enters.
CASES = {
    'masked_cnn': ({'widths': (4, 6, 5)}, (16, 16, 2), {'conv2': ['Conv_1'], 'conv3': ['Conv_2'], 'fc': ['Dense_0']}),
    'resnet18': (
        {'blocks': (1, 1, 1), 'width': 4},
        (32, 32, 3),
        {
            'layer2': ['BasicBlock_1/Conv_0', 'BasicBlock_1/Conv_2'],
            'layer3': ['BasicBlock_2/Conv_0', 'BasicBlock_2/Conv_2'],
            'fc': ['Dense_0'],
        },
    ),
    'resnet50': (
        {'blocks': (1, 1, 1), 'width': 2},
        (32, 32, 3),
        {
            'layer2': ['BottleneckBlock_1/Conv_0', 'BottleneckBlock_1/Conv_3'],
            'layer3': ['BottleneckBlock_2/Conv_0', 'BottleneckBlock_2/Conv_3'],
            'fc': ['Dense_0'],
        },
    ),
    'alexnet': ({'hidden': 8}, (63, 63, 3), {'fc6': ['Dense_0'], 'fc7': ['Dense_1'], 'fc8': ['Dense_2']}),
}


def _scaled(params, layer: str, gate):
    """Params whose kernel of a layer has every input times `gate`."""
    *path, last = layer.split('/')
    if path:
        return {**params, path[0]: _scaled(params[path[0]], last, gate)}
    kernel = params[last]['kernel']
    gate = gate.reshape((1,) * (kernel.ndim - 2) + (-1, 1))
    return {**params, last: {**params[last], 'kernel': kernel * gate}}


@pytest.mark.parametrize(
    'name', ['masked_cnn', *(pytest.param(n, marks=pytest.mark.slow) for n in CASES if n != 'masked_cnn')]
)
def test_a_gate_scales_what_enters_its_layer(name):
    """One example's gates act as the inputs of the kernels behind them, scaled; gates of one do nothing, in any form."""
    options, shape, kernels = CASES[name]
    net = nets.build(name, num_classes=3, **options)
    images = jax.random.uniform(jax.random.key(0), (1, *shape))
    variables = net.init(jax.random.key(1), images, train=False)
    keys = jax.random.split(jax.random.key(2), len(kernels))
    shapes = gate_shapes(net, shape)
    assert list(shapes) == list(kernels)
    gates = {
        layer: jax.random.uniform(key, (1, *own), minval=0.2) for key, (layer, own) in zip(keys, shapes.items(), strict=True)
    }
    params = variables['params']
    for layer, own in kernels.items():
        for kernel in own:
            params = _scaled(params, kernel, gates[layer][0])
    found = net.apply(variables, images, train=False, gates=gates)
    np.testing.assert_allclose(found, net.apply({**variables, 'params': params}, images, train=False), rtol=1e-4, atol=1e-6)
    whole = net.apply(variables, images, train=False)
    assert np.abs(found - whole).max() > 1e-4
    for mode in ('channel', 'element'):
        ones = {layer: jnp.ones((1, *own)) for layer, own in gate_shapes(net, shape, mode).items()}
        np.testing.assert_array_equal(net.apply(variables, images, train=False, gates=ones), whole)
    with pytest.raises(ValueError, match=r'gates are of fc; allowed: of .*, or None'):
        net.apply(variables, images, train=False, gates={'fc': jnp.ones((1, 3))})
    with pytest.raises(ValueError, match=f'the shape of gates of {list(shapes)[-1]} is'):
        net.apply(variables, images, train=False, gates={**gates, list(shapes)[-1]: jnp.ones((1, 99))})


def _torch_alexnet(torch, hidden: int, classes: int):
    """torchvision's AlexNet, by its names; with fewer hidden units."""
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            relu, pool = nn.ReLU, lambda: nn.MaxPool2d(3, 2)
            self.features = nn.Sequential(
                *(nn.Conv2d(3, 64, 11, 4, 2), relu(), pool(), nn.Conv2d(64, 192, 5, padding=2), relu(), pool()),
                *(nn.Conv2d(192, 384, 3, padding=1), relu(), nn.Conv2d(384, 256, 3, padding=1), relu()),
                *(nn.Conv2d(256, 256, 3, padding=1), relu(), pool()),
            )
            self.classifier = nn.Sequential(
                *(nn.Dropout(), nn.Linear(9216, hidden), relu(), nn.Dropout(), nn.Linear(hidden, hidden), relu()),
                nn.Linear(hidden, classes),
            )

        def forward(self, images):
            return self.classifier(self.features(images).flatten(1))

    torch.manual_seed(0)
    return Net().eval()


@pytest.mark.slow
def test_alexnet_is_torchs():
    """Of random weights; a new head is the network's own, and files of other networks are refused."""
    torch = pytest.importorskip('torch')
    judge = _torch_alexnet(torch, 12, 5)
    arrays = {name: value.numpy() for name, value in judge.state_dict().items()}
    images = np.random.default_rng(0).uniform(size=(2, 224, 224, 3)).astype(np.float32)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = judge(torch.from_numpy(((images - mean) / std).transpose(0, 3, 1, 2).copy())).numpy()
    net = AlexNet(5, hidden=12)
    variables = net.from_torch(arrays)
    np.testing.assert_allclose(net.apply(variables, images, train=False), expected, rtol=1e-3, atol=1e-4)
    head = {'kernel': np.ones((12, 3), np.float32), 'bias': np.zeros(3, np.float32)}
    other = AlexNet(3, hidden=12).from_torch(arrays, head)
    np.testing.assert_array_equal(other['params']['Dense_2']['kernel'], 1)
    np.testing.assert_array_equal(other['params']['Dense_1']['kernel'], variables['params']['Dense_1']['kernel'])
    with pytest.raises(ValueError, match=r'not the weights of this AlexNet: params/Dense_2/bias is \(5,\), expected \(3,\)'):
        AlexNet(3, hidden=12).from_torch(arrays)


@pytest.mark.slow
def test_alexnet_drops_out_only_without_gates():
    net = AlexNet(3, hidden=8)
    images = jax.random.uniform(jax.random.key(0), (1, 63, 63, 3))
    variables = net.init(jax.random.key(1), images, train=False)
    gates = {layer: jnp.ones((1, *own)) for layer, own in gate_shapes(net, (63, 63, 3)).items()}
    whole = net.apply(variables, images, train=False)
    np.testing.assert_array_equal(net.apply(variables, images, train=True, gates=gates), whole)
    thinned = [net.apply(variables, images, train=True, rngs={'dropout': jax.random.key(k)}) for k in range(2)]
    assert np.abs(thinned[0] - thinned[1]).max() > 0
    sure = AlexNet(3, hidden=8, head_std=1e-3).init(jax.random.key(1), images, train=False)['params']['Dense_2']
    assert 0 < np.abs(sure['kernel']).max() < 0.01
