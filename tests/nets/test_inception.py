"""Inception-v3: torchvision's layers, names and numbers, and the variant of published FIDs."""

import importlib.util
import sys
import types
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax.nets import inception
from gjax.nets.inception import from_torch
from gjax.train.extractors import InceptionExtractor
from tests.inception import random_state_dict, shapes


def test_the_layers_are_torchvisions():
    listed = {}
    for line in (Path(__file__).parent / 'inception_layers.txt').read_text().splitlines()[1:]:
        name, *numbers = line.split()
        listed[name] = tuple(map(int, numbers))
    found = {}

    def watch(call, args, kwargs, context):
        if isinstance(layer := context.module, nn.Conv) and context.method_name == '__call__':
            (height, _), (width, _) = layer.padding
            kernel = (layer.features, args[0].shape[-1], *layer.kernel_size)
            found['.'.join(layer.path[:-1])] = (*kernel, layer.strides, height, width)
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        params = shapes()['params']
    found |= {'fc.weight': params['fc']['kernel'].shape[::-1], 'fc.bias': params['fc']['bias'].shape}
    assert found == listed
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 27_161_264 - 3_326_696  # without the auxiliary classifier


def test_weights_of_another_network_are_refused_in_one_line():
    arrays = random_state_dict('fid')
    with pytest.raises(ValueError, match=r'Mixed_7c/branch_pool/conv/kernel is missing, expected \(1, 1, 2048, 192\)'):
        from_torch({name: value for name, value in arrays.items() if name != 'Mixed_7c.branch_pool.conv.weight'})
    with pytest.raises(ValueError, match=r'params/fc/kernel is \(2, 2\), expected \(2048, 1008\)'):
        from_torch(arrays | {'fc.weight': np.zeros((2, 2))})
    with pytest.raises(ValueError, match=r"have 10 classes; allowed: 1000 \(torchvision's\) or 1008 \(fid's\)"):
        from_torch(arrays | {'fc.bias': np.zeros(10)})


def test_the_number_of_classes_chooses_the_variant(monkeypatch):
    chosen = []
    monkeypatch.setattr(inception, 'filled', lambda shapes, found, what: chosen.append(shapes['params']['fc']['bias'].size))
    assert from_torch({'fc.bias': np.zeros(1000)})[0].variant == 'torchvision'
    assert from_torch({'fc.bias': np.zeros(1008)})[0].variant == 'fid'
    assert chosen == [1000, 1008]


def test_poolings_by_hand():
    """Over 3x3 pixels of two images' channels: with the padding's zeros, without the padding, and maxima."""
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 4)).astype(np.float32)
    for pool, reduce in (
        (inception._mean_pool, lambda window: window.sum(axis=(1, 2)) / 9),
        (inception._inner_mean_pool, lambda window: window.mean(axis=(1, 2))),
        (inception._same_max_pool, lambda window: window.max(axis=(1, 2))),
    ):
        expected = [[reduce(x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]) for j in range(3)] for i in range(3)]
        np.testing.assert_allclose(pool(jnp.asarray(x)), np.transpose(expected, (2, 0, 1, 3)), rtol=1e-5, atol=1e-6)


def test_an_extractor_sees_images_of_8_bits(monkeypatch, tmp_path):
    seen = {}

    class Net:
        variant = 'fid'

        def apply(self, variables, images):
            seen['images'] = images
            return images, images.reshape(len(images), -1)

    monkeypatch.setattr(inception, 'from_torch', lambda arrays: (Net(), {}))
    np.savez(tmp_path / 'weights.npz', weight=np.zeros(1))
    extractor = InceptionExtractor(str(tmp_path / 'weights.npz'))
    images = jnp.asarray([0.0, 0.4 / 255, 0.6 / 255, 7 / 255, 1.0]).reshape(1, 5, 1, 1)
    extractor({}, images)
    np.testing.assert_allclose(seen['images'].ravel(), np.asarray([0, 0, 1, 7, 255]) / 255, rtol=1e-6)
    assert extractor.name.startswith('inception-v3 (fid) ')
    assert extractor.name.endswith(' of 8-bit images')


def _torchvision(then=None):
    """torchvision's own module of Inception, without the compiled operators that its package loads; or, where given, what
    `then()` returns while torchvision can be imported.
    """
    found = importlib.util.find_spec('torchvision')
    if found is None:
        pytest.skip('torchvision is not installed')
    root = Path(found.origin).parent
    names = ('torchvision', 'torchvision.models', 'torchvision.transforms', 'torchvision.transforms._presets')
    names += ('torchvision.utils', 'torchvision.models._api', 'torchvision.models._meta', 'torchvision.models._utils')
    stubs = {name: types.ModuleType(name) for name in names}
    for name in names[:3]:
        stubs[name].__path__ = []
    stubs['torchvision.transforms._presets'].ImageClassification = lambda: None
    stubs['torchvision.utils']._log_api_usage_once = lambda _: None
    api = stubs['torchvision.models._api']
    api.Weights, api.WeightsEnum = (lambda **_: None), type('WeightsEnum', (), {'DEFAULT': None})
    api.register_model = lambda: lambda function: function
    stubs['torchvision.models._meta']._IMAGENET_CATEGORIES = ()
    utils = stubs['torchvision.models._utils']
    utils.handle_legacy_interface = lambda **_: lambda function: function
    utils._ovewrite_named_param = None
    spec = importlib.util.spec_from_file_location('torchvision.models.inception', root / 'models' / 'inception.py')
    module = importlib.util.module_from_spec(spec)
    before = {name: sys.modules.get(name) for name in stubs}
    sys.modules.update(stubs)
    stubs['torchvision.models'].inception = sys.modules['torchvision.models.inception'] = module
    stubs['torchvision'].models, stubs['torchvision'].__version__ = stubs['torchvision.models'], '0.0'
    try:
        spec.loader.exec_module(module)
        return then() if then else module
    finally:
        sys.modules.pop('torchvision.models.inception')
        for name, old in before.items():
            sys.modules.pop(name)
            if old is not None:
                sys.modules[name] = old


def _state_dict(variant, torch):
    arrays = random_state_dict(variant)
    return arrays, {name: torch.from_numpy(value) for name, value in arrays.items()}


def _inputs(torch):
    """Images, and what a network of PyTorch gets of them."""
    images = np.random.default_rng(1).uniform(size=(2, 40, 40, 3)).astype(np.float32)
    inputs = 2 * torch.from_numpy(images).permute(0, 3, 1, 2) - 1
    return images, torch.nn.functional.interpolate(inputs, (299, 299), mode='bilinear', align_corners=False)


def _features_and_logits(net, inputs, torch):
    seen = []
    net.avgpool.register_forward_hook(lambda _, __, output: seen.append(output.flatten(1)))
    with torch.no_grad():
        logits = net.eval()(inputs)
    return seen[0], logits


def _assert_ours(arrays, images, features, logits):
    net, variables = from_torch(arrays)
    found, ours = jax.jit(net.apply)(variables, images)
    np.testing.assert_allclose(found, features, rtol=2e-3, atol=2e-3 * float(features.abs().max()))
    np.testing.assert_allclose(ours, logits, rtol=2e-3, atol=2e-3 * float(logits.abs().max()))


@pytest.mark.slow
def test_features_are_torchvisions():
    torch = pytest.importorskip('torch')
    arrays, weights = _state_dict('torchvision', torch)
    net = _torchvision().Inception3(num_classes=1000, init_weights=False)
    missing, unexpected = net.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.startswith('AuxLogits') or name.endswith('num_batches_tracked') for name in missing)
    images, inputs = _inputs(torch)
    _assert_ours(arrays, images, *_features_and_logits(net, inputs, torch))


@pytest.mark.slow
def test_features_are_pytorch_fids():
    """Its own blocks, in the places where its constructor, which downloads weights, puts them."""
    torch = pytest.importorskip('torch')
    if importlib.util.find_spec('pytorch_fid') is None:
        pytest.skip('pytorch-fid is not installed: pip install pytorch-fid')

    def build():
        fid = importlib.import_module('pytorch_fid.inception')
        net = sys.modules['torchvision.models.inception'].Inception3(1008, aux_logits=False, init_weights=False)
        for name, channels, pooled in (('5b', 192, 32), ('5c', 256, 64), ('5d', 288, 64)):
            setattr(net, f'Mixed_{name}', fid.FIDInceptionA(channels, pool_features=pooled))
        for name, width in (('6b', 128), ('6c', 160), ('6d', 160), ('6e', 192)):
            setattr(net, f'Mixed_{name}', fid.FIDInceptionC(768, channels_7x7=width))
        net.Mixed_7b, net.Mixed_7c = fid.FIDInceptionE_1(1280), fid.FIDInceptionE_2(2048)
        return net

    arrays, weights = _state_dict('fid', torch)
    net = _torchvision(build)
    assert not net.load_state_dict(weights, strict=False).unexpected_keys
    images, inputs = _inputs(torch)
    _assert_ours(arrays, images, *_features_and_logits(net, inputs, torch))


def _fid_in_torch(weights, x, torch):
    """Features [B, 2048] and logits [B, 1008] of FID's network, written down here by PyTorch's functions."""
    functional = torch.nn.functional

    def unit(x, name, stride=1, padding=0):
        x = functional.conv2d(x, weights[f'{name}.conv.weight'], None, stride, padding)
        norm = (weights[f'{name}.bn.{kind}'] for kind in ('running_mean', 'running_var', 'weight', 'bias'))
        return torch.relu(functional.batch_norm(x, *norm, eps=1e-3))

    def chain(x, block, *layers):
        for name, *options in layers:
            x = unit(x, f'{block}.{name}', *options)
        return x

    def mean(x):
        return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    def reduced(x):
        return functional.max_pool2d(x, 3, 2)

    def split(x, block, name):
        return [chain(x, block, (f'{name}a', 1, (0, 1))), chain(x, block, (f'{name}b', 1, (1, 0)))]

    x = unit(unit(unit(x, 'Conv2d_1a_3x3', 2), 'Conv2d_2a_3x3'), 'Conv2d_2b_3x3', 1, 1)
    x = reduced(unit(unit(reduced(x), 'Conv2d_3b_1x1'), 'Conv2d_4a_3x3'))
    for block in ('Mixed_5b', 'Mixed_5c', 'Mixed_5d'):
        double = chain(x, block, ('branch3x3dbl_1',), ('branch3x3dbl_2', 1, 1), ('branch3x3dbl_3', 1, 1))
        five = chain(x, block, ('branch5x5_1',), ('branch5x5_2', 1, 2))
        x = torch.cat([chain(x, block, ('branch1x1',)), five, double, chain(mean(x), block, ('branch_pool',))], 1)
    double = chain(x, 'Mixed_6a', ('branch3x3dbl_1',), ('branch3x3dbl_2', 1, 1), ('branch3x3dbl_3', 2))
    x = torch.cat([chain(x, 'Mixed_6a', ('branch3x3', 2)), double, reduced(x)], 1)
    row, column = (0, 3), (3, 0)
    for block in ('Mixed_6b', 'Mixed_6c', 'Mixed_6d', 'Mixed_6e'):
        once = chain(x, block, ('branch7x7_1',), ('branch7x7_2', 1, row), ('branch7x7_3', 1, column))
        layers = [(f'branch7x7dbl_{i}', 1, column if i % 2 == 0 else row) for i in range(2, 6)]
        twice = chain(x, block, ('branch7x7dbl_1',), *layers)
        x = torch.cat([chain(x, block, ('branch1x1',)), once, twice, chain(mean(x), block, ('branch_pool',))], 1)
    three = chain(x, 'Mixed_7a', ('branch3x3_1',), ('branch3x3_2', 2))
    seven = [('branch7x7x3_1',), ('branch7x7x3_2', 1, row), ('branch7x7x3_3', 1, column), ('branch7x7x3_4', 2)]
    x = torch.cat([three, chain(x, 'Mixed_7a', *seven), reduced(x)], 1)
    for block, pooled in (('Mixed_7b', mean), ('Mixed_7c', lambda x: functional.max_pool2d(x, 3, 1, 1))):
        three = split(chain(x, block, ('branch3x3_1',)), block, 'branch3x3_2')
        double = split(chain(x, block, ('branch3x3dbl_1',), ('branch3x3dbl_2', 1, 1)), block, 'branch3x3dbl_3')
        one = chain(x, block, ('branch1x1',))
        x = torch.cat([one, *three, *double, chain(pooled(x), block, ('branch_pool',))], 1)
    features = x.mean((2, 3))
    return features, functional.linear(features, weights['fc.weight'], weights['fc.bias'])


@pytest.mark.slow
def test_features_are_fids():
    torch = pytest.importorskip('torch')
    arrays, weights = _state_dict('fid', torch)
    images, inputs = _inputs(torch)
    features, logits = _fid_in_torch(weights, inputs, torch)
    _assert_ours(arrays, images, features, logits)
    other, variables = inception.InceptionV3('torchvision'), from_torch(arrays)[1]
    params = {**variables['params'], 'fc': jax.tree.map(lambda p: p[..., :1000], variables['params']['fc'])}
    wrong = jax.jit(other.apply)({**variables, 'params': params}, images)[0]
    assert np.linalg.norm(wrong - features.numpy()) > 0.05 * float(features.norm())  # the variants are told apart
