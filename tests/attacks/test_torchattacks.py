"""The same weights in PyTorch: robust accuracy under torchattacks' attacks and under ours, within a point on 500 images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install torch', exc_type=ImportError)
torchattacks = pytest.importorskip('torchattacks', reason='pip install --no-deps torchattacks', exc_type=ImportError)

from gjax import attacks, data
from gjax.losses import correct
from gjax.train import config as configs
from gjax.train.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings('ignore')]
EPS = 0.1


class TorchNet(torch.nn.Module):
    """SmallCNN with two strided convolutions and no BatchNorm; 'SAME' pads even sizes at the far side only."""

    def __init__(self, params):
        super().__init__()
        self.layers = torch.nn.ModuleList()
        for name in ('Conv_0', 'Conv_1', 'Dense_0', 'Dense_1'):
            kernel = torch.tensor(np.asarray(params[name]['kernel']))
            kernel = kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
            conv = name.startswith('Conv')
            shape = kernel.shape
            layer = torch.nn.Conv2d(shape[1], shape[0], 3, 2) if conv else torch.nn.Linear(shape[1], shape[0])
            layer.weight.data, layer.bias.data = kernel.contiguous(), torch.tensor(np.asarray(params[name]['bias']))
            self.layers.append(layer)

    def forward(self, images):
        features = (images - 0.5) / 0.5
        for conv in self.layers[:2]:
            features = conv(torch.nn.functional.pad(features, (0, 1, 0, 1))).relu()
        features = features.permute(0, 2, 3, 1).flatten(1)
        return self.layers[3](self.layers[2](features).relu())


@pytest.fixture(scope='module')
def pair():
    """(logits_fn, torch model, images, labels) of a network trained adversarially for five epochs on mnist5k."""
    config = configs.load('iaat/digits.py:adversarial_training')
    changes = {'data.name': 'mnist5k', 'net.batch_norm': False, 'net.widths': (8, 16), 'net.hidden': 32}
    changes |= {'method.eps': EPS / 2, 'method.step_size': EPS / 4, 'method.attack_steps': 2}
    changes |= {'method.eps_warmup_epochs': 4.0, 'train.total_epochs': 5, 'train.batch_size': 80}
    configs.override(config, changes)
    run = Run(config)
    for new, _, _ in run.advance(run.init(), 0):
        state = new
    test = data.load('mnist5k').test
    rows = np.random.default_rng(0).permutation(1000)[:500]
    images, labels = jnp.asarray(test.images[rows], jnp.float32) / 255, jnp.asarray(test.labels[rows])
    params = jax.device_get(state.params['classifier'])
    net = run.method.net
    return functools.partial(net.apply, {'params': params}, train=False), TorchNet(params), images, labels


def _torch_images(images):
    return torch.tensor(np.asarray(images)).permute(0, 3, 1, 2).contiguous()


def test_the_two_networks_are_one(pair):
    logits_fn, model, images, _ = pair
    with torch.no_grad():
        expected = model(_torch_images(images)).numpy()
    np.testing.assert_allclose(logits_fn(images), expected, atol=1e-4)


def _cases():
    key = jax.random.key(0)
    linf = {'steps': 10, 'step_size': EPS / 4}
    return {
        'fgsm': (lambda f, x, y: attacks.fgsm(f, x, y, EPS), lambda m: torchattacks.FGSM(m, eps=EPS)),
        'pgd': (
            lambda f, x, y: attacks.pgd(f, x, y, EPS, rng=key, **linf),
            lambda m: torchattacks.PGD(m, eps=EPS, alpha=EPS / 4, steps=10),
        ),
        'pgd_l2': (
            # From the images: random starts are of different distributions (here all over the ball, there nearer the image).
            lambda f, x, y: attacks.pgd(f, x, y, 1.5, rng=key, steps=20, step_size=0.2, norm='l2', random_start=False),
            lambda m: torchattacks.PGDL2(m, eps=1.5, alpha=0.2, steps=20, random_start=False),
        ),
        'momentum_iterative': (
            lambda f, x, y: attacks.momentum_iterative(f, x, y, EPS, **linf),
            lambda m: torchattacks.MIFGSM(m, eps=EPS, alpha=EPS / 4, steps=10, decay=1.0),
        ),
    }


@pytest.mark.parametrize('name', _cases())
def test_robust_accuracy_agrees_within_a_point(pair, name):
    logits_fn, model, images, labels = pair
    ours, theirs = _cases()[name]
    own = int(correct(logits_fn(jax.jit(lambda x, y: ours(logits_fn, x, y))(images, labels)), labels).sum())
    torch.manual_seed(0)
    adversarial = theirs(model)(_torch_images(images), torch.tensor(np.asarray(labels), dtype=torch.long))
    with torch.no_grad():
        reference = int((model(adversarial).argmax(1).numpy() == np.asarray(labels)).sum())
    clean = int(correct(logits_fn(images), labels).sum())
    assert abs(own - reference) <= 5  # of 500
    assert 25 < reference < clean - 50  # the attack bites and leaves something


def test_carlini_wagner_l2_agrees_in_success_and_distance(pair):
    logits_fn, model, images, labels = pair
    images, labels = images[:100], labels[:100]
    options = {'steps': 100, 'learning_rate': 0.02, 'constant': 5.0}
    own = jax.jit(lambda x, y: attacks.carlini_wagner_l2(logits_fn, x, y, **options))(images, labels)
    attack = torchattacks.CW(model, c=5.0, kappa=0, steps=100, lr=0.02)
    reference = attack(_torch_images(images), torch.tensor(np.asarray(labels), dtype=torch.long))
    reference = reference.detach().permute(0, 2, 3, 1).numpy()
    distances = [np.linalg.norm((np.asarray(a) - np.asarray(images)).reshape(100, -1), axis=1) for a in (own, reference)]
    assert (distances[0] > 0).mean() == pytest.approx((distances[1] > 0).mean(), abs=0.03)
    both = (distances[0] > 0) & (distances[1] > 0)
    assert distances[0][both].mean() == pytest.approx(distances[1][both].mean(), rel=0.05)
