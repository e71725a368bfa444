"""Inception-v3: torchvision's layers, names and numbers."""

import importlib.util
import sys
import types
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from gjax.nets.inception import InceptionV3, from_torch
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
    arrays = random_state_dict(5)
    with pytest.raises(ValueError, match=r'Mixed_7c/branch_pool/conv/kernel is missing, expected \(1, 1, 2048, 192\)'):
        from_torch({name: value for name, value in arrays.items() if name != 'Mixed_7c.branch_pool.conv.weight'})
    with pytest.raises(ValueError, match=r'params/fc/kernel is \(2, 2\), expected \(2048, 5\)'):
        from_torch(arrays | {'fc.weight': np.zeros((2, 2))})


def _torchvision_inception():
    """torchvision's own module, without the compiled operators that its package loads."""
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
    try:
        spec.loader.exec_module(module)
    finally:
        for name, old in before.items():
            sys.modules.pop(name)
            if old is not None:
                sys.modules[name] = old
    return module


@pytest.mark.slow
def test_features_are_torchvisions():
    torch = pytest.importorskip('torch')
    net = _torchvision_inception().Inception3(num_classes=7, init_weights=False).eval()
    arrays = random_state_dict(7)
    missing, unexpected = net.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()}, strict=False)
    assert not unexpected
    assert all(name.startswith('AuxLogits') or name.endswith('num_batches_tracked') for name in missing)
    images = np.random.default_rng(1).uniform(size=(2, 40, 40, 3)).astype(np.float32)
    inputs = 2 * torch.from_numpy(images).permute(0, 3, 1, 2) - 1
    inputs = torch.nn.functional.interpolate(inputs, (299, 299), mode='bilinear', align_corners=False)
    seen = []
    net.avgpool.register_forward_hook(lambda _, __, output: seen.append(output.flatten(1)))
    with torch.no_grad():
        logits = net(inputs)
    features, ours = jax.jit(InceptionV3(7).apply)(from_torch(arrays), images)
    np.testing.assert_allclose(features, seen[0], rtol=2e-3, atol=2e-3 * float(seen[0].abs().max()))
    np.testing.assert_allclose(ours, logits, rtol=2e-3, atol=2e-3 * float(logits.abs().max()))
