"""Weights from files of other projects, and torch's own ResNet-50 as the judge of their conversion."""

import zlib

import jax
import numpy as np
import pytest

from gjax.nets.gta import GTAResNet50
from gjax.nets.resnet import ResNet18, ResNet50
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.run import Run
from gjax.train.store.weights import read_weights

SMALL = {'blocks': (1, 2), 'width': 8}


def _torch_resnet(torch, blocks, width, classes, basic=False):
    """torchvision's ResNet of bottlenecks (v1.5: the 3x3 convolution has the stride) or of basic blocks, by its names."""
    nn, wider = torch.nn, 1 if basic else 4

    class Basic(nn.Module):
        def __init__(self, before, width, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
            self.downsample = None
            if stride != 1 or before != width:
                self.downsample = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

        def forward(self, x):
            out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(out + (x if self.downsample is None else self.downsample(x)))

    class Bottleneck(nn.Module):
        def __init__(self, before, width, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
            self.downsample = None
            if stride != 1 or before != 4 * width:
                self.downsample = nn.Sequential(
                    nn.Conv2d(before, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
                )

        def forward(self, x):
            out = torch.relu(self.bn1(self.conv1(x)))
            out = torch.relu(self.bn2(self.conv2(out)))
            out = self.bn3(self.conv3(out))
            return torch.relu(out + (x if self.downsample is None else self.downsample(x)))

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
            before = width
            for i, count in enumerate(blocks):
                layers = []
                for k in range(count):
                    layers.append((Basic if basic else Bottleneck)(before, width * 2**i, 2 if i and not k else 1))
                    before = wider * width * 2**i
                setattr(self, f'layer{i + 1}', nn.Sequential(*layers))
            self.fc = nn.Linear(before, classes)

        def forward(self, x):
            x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
            for i in range(len(blocks)):
                x = getattr(self, f'layer{i + 1}')(x)
            return self.fc(x.mean((2, 3)))

    net = ResNet()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                noise = torch.randn(value.shape, generator=generator)
                value.copy_(1 + 0.1 * noise.abs() if 'var' in name else (0.3 if value.ndim < 2 else 0.1) * noise)
    return net.eval()


@pytest.mark.parametrize('suffix', ['pth', 'checkpoint.pth', 'safetensors', 'npz'])
def test_resnet_features_are_torchs(suffix, tmp_path):
    torch = pytest.importorskip('torch')
    net = _torch_resnet(torch, **SMALL, classes=5)
    arrays = {name: value.numpy() for name, value in net.state_dict().items()}
    path = tmp_path / f'weights.{suffix}'
    if suffix.endswith('pth'):
        torch.save({'epoch': 3, 'state_dict': net.state_dict()} if 'checkpoint' in suffix else net.state_dict(), path)
    elif suffix == 'npz':
        np.savez(path, **arrays)
    else:
        from safetensors.numpy import save_file

        save_file(arrays, path)
    images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype(np.float32)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = net(torch.from_numpy(((images - mean) / std).transpose(0, 3, 1, 2).copy())).numpy()
    ours = ResNet50(5, **SMALL)
    variables = ours.from_torch(read_weights(path))
    np.testing.assert_allclose(ours.apply(variables, images, train=False), expected, rtol=2e-3, atol=2e-4)
    trunk = GTAResNet50((32, 32, 3), 5, **SMALL)
    features = trunk.embedding().apply(trunk.pretrained(read_weights(path)), images, train=False)
    np.testing.assert_allclose(
        np.asarray(features) @ arrays['fc.weight'].T + arrays['fc.bias'], expected, rtol=2e-3, atol=2e-4
    )


def test_the_whole_resnet50_takes_torchvisions_names():
    """The names and shapes of all of its 161 parameters and 106 statistics, as torchvision lists them."""
    torch = pytest.importorskip('torch')
    with torch.device('meta'):
        net = _torch_resnet_shapes(torch)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in net.items()}
    found = jax.eval_shape(lambda: ResNet50(1000).from_torch(arrays))
    assert sum(leaf.size for leaf in jax.tree.leaves(found['params'])) == 25_557_032


def test_resnet18_is_torchs():
    """Its logits of random weights; all of torchvision's names and shapes; and a head of its own for other classes."""
    torch = pytest.importorskip('torch')
    judge = _torch_resnet(torch, (1, 2), 8, 5, basic=True)
    arrays = {name: value.numpy() for name, value in judge.state_dict().items()}
    images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype(np.float32)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = judge(torch.from_numpy(((images - mean) / std).transpose(0, 3, 1, 2).copy())).numpy()
    ours = ResNet18(5, **SMALL)
    variables = ours.from_torch(arrays)
    np.testing.assert_allclose(ours.apply(variables, images, train=False), expected, rtol=2e-3, atol=2e-4)
    head = {'kernel': np.zeros((16, 3)), 'bias': np.arange(3)}
    other = ResNet18(3, **SMALL).from_torch(arrays, head)
    np.testing.assert_allclose(ResNet18(3, **SMALL).apply(other, images, train=False), [[0, 1, 2]] * 2)
    with pytest.raises(ValueError, match=r'params/Dense_0/bias is \(5,\), expected \(3,\)'):
        ResNet18(3, **SMALL).from_torch(arrays)
    with torch.device('meta'):
        net = _torch_resnet_shapes(torch, (2, 2, 2, 2), basic=True)
    whole = {name: np.zeros(shape, np.float32) for name, shape in net.items()}
    found = jax.eval_shape(lambda: ResNet18(1000).from_torch(whole))
    assert sum(leaf.size for leaf in jax.tree.leaves(found['params'])) == 11_689_512  # as torchvision counts them


def _torch_resnet_shapes(torch, blocks=(3, 4, 6, 3), basic=False):
    original = torch.randn
    torch.randn = lambda shape, generator: original(shape)
    try:
        return {
            name: tuple(value.shape) for name, value in _torch_resnet(torch, blocks, 64, 1000, basic).state_dict().items()
        }
    finally:
        torch.randn = original


@pytest.mark.parametrize('prefix', ['module.', 'model.', 'backbone.', 'module.model.backbone.', '_orig_mod.module.'])
def test_prefixes_of_trainers_are_taken_off(tmp_path, prefix):
    np.savez(tmp_path / 'w.npz', **{f'{prefix}conv1.weight': np.ones(3), 'fc.bias': np.zeros(2)})
    found = read_weights(tmp_path / 'w.npz')
    assert found.keys() == {'conv1.weight', 'fc.bias'}
    np.testing.assert_array_equal(found['conv1.weight'], np.ones(3))
    np.savez(tmp_path / 'w.npz', **{f'{prefix}fc.bias': np.ones(3), 'fc.bias': np.zeros(2)})
    with pytest.raises(RunError, match=f"has both '{prefix}fc.bias' and 'fc.bias'; allowed: a file with one of them"):
        read_weights(tmp_path / 'w.npz')


@pytest.mark.parametrize('wrapper', ['state_dict', 'model_state_dict', 'model'])
def test_checkpoints_of_trainers(tmp_path, wrapper):
    torch = pytest.importorskip('torch')
    torch.save({'epoch': 1, wrapper: {'module.fc.bias': torch.ones(3)}}, tmp_path / 'w.pt')
    assert read_weights(tmp_path / 'w.pt').keys() == {'fc.bias'}


def test_files_that_are_no_weights(tmp_path):
    for name, content, message in (
        ('a.bin', b'', 'allowed: a file .safetensors, .pth, .pt, .npz'),
        ('b.npz', None, 'but there is no such file'),
        ('c.npz', b'x', 'is damaged and cannot be read'),
        ('d.safetensors', zlib.compress(b'x' * 99), 'is damaged or holds more than weights'),
        ('e.pth', b'x', 'is damaged or holds more than weights|takes torch'),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(RunError, match=message):
            read_weights(tmp_path / name)


def test_a_run_begins_with_weights_from_a_file(tmp_path):
    trunk = ResNet50(0, **SMALL)
    variables = jax.jit(lambda: trunk.init(jax.random.key(7), np.zeros((1, 32, 32, 3), np.float32), train=False))()
    arrays = {}
    blocks = [('layer1.0', 0), ('layer2.0', 1), ('layer2.1', 2)]
    pairs = [('conv1', 'Conv_0', 'bn1', 'BatchNorm_0')]
    for torch_name, i in blocks:
        tree = variables['params'][f'BottleneckBlock_{i}']
        names = [(f'conv{k + 1}', f'bn{k + 1}', k) for k in range(3)] + (
            [('downsample.0', 'downsample.1', 3)] if 'Conv_3' in tree else []
        )
        pairs += [
            (f'{torch_name}.{c}', f'BottleneckBlock_{i}/Conv_{k}', f'{torch_name}.{b}', f'BottleneckBlock_{i}/BatchNorm_{k}')
            for c, b, k in names
        ]
    for conv, place, norm, norm_place in pairs:
        tree, stats = variables['params'], variables['batch_stats']
        for part in place.split('/'):
            tree = tree[part]
        arrays[f'{conv}.weight'] = np.asarray(tree['kernel']).transpose(3, 2, 0, 1)
        tree = variables['params']
        for part in (*norm_place.split('/'), 'BatchNorm_0'):
            tree, stats = tree[part], stats[part]
        arrays |= {f'{norm}.{k}': np.asarray(v) for k, v in (('weight', tree['scale']), ('bias', tree['bias']))}
        arrays |= {f'{norm}.{k}': np.asarray(v) for k, v in (('running_mean', stats['mean']), ('running_var', stats['var']))}
    np.savez(tmp_path / 'w.npz', **arrays)
    overrides = {'net.name': 'gta_resnet50', 'net.weights': f'{tmp_path}/w.npz', 'net.blocks': (1, 2), 'net.width': 8}
    spec = 'generate_to_adapt/digits.py:source_only,mnist5k_to_mnistm5k'
    run = Run(configs.load(spec, overrides | {'method.ema': 0.5}))
    state = run.init()
    for tree in (state.params['embedding'], state.memory['ema']['embedding']):
        for found, expected in zip(jax.tree.leaves(tree), jax.tree.leaves(variables['params']), strict=True):
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(
        RunError, match=r"net.weights is '.*w.npz', with bn1.bias, .*: these are not the weights of this ResNet: .* expected"
    ):
        Run(configs.load(spec, overrides | {'net.width': 16})).init()
