"""Inception-v3: torchvision's layers, names and numbers."""

import collections
import importlib.util
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from gjax.nets.inception import InceptionV3, from_torch
from tests.inception import random_state_dict, shapes

# Output channels of torchvision's convolutions, block by block (models/inception.py).
LAYERS = {
    'Conv2d': [32, 32, 64, 80, 192],
    'Mixed_5b': [64, 48, 64, 64, 96, 96, 32],
    'Mixed_5c': [64, 48, 64, 64, 96, 96, 64],
    'Mixed_5d': [64, 48, 64, 64, 96, 96, 64],
    'Mixed_6a': [384, 64, 96, 96],
    'Mixed_6b': [192, 128, 128, 192, 128, 128, 128, 128, 192, 192],
    'Mixed_6c': [192, 160, 160, 192, 160, 160, 160, 160, 192, 192],
    'Mixed_6d': [192, 160, 160, 192, 160, 160, 160, 160, 192, 192],
    'Mixed_6e': [192, 192, 192, 192, 192, 192, 192, 192, 192, 192],
    'Mixed_7a': [192, 320, 192, 192, 192, 192],
    'Mixed_7b': [320, 384, 384, 384, 448, 384, 384, 384, 192],
    'Mixed_7c': [320, 384, 384, 384, 448, 384, 384, 384, 192],
}


def test_the_layers_are_torchvisions():
    params = shapes()['params']
    widths = collections.defaultdict(list)
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if path[-1].key == 'kernel' and path[0].key != 'fc':
            widths[path[0].key.partition('_')[0] if path[0].key.startswith('Conv2d') else path[0].key].append(leaf.shape[-1])
    assert {name: sorted(values) for name, values in widths.items()} == {n: sorted(v) for n, v in LAYERS.items()}
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
