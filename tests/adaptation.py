"""Two shifted Gaussians as two domains, and players of a few numbers each, for the tests of domain adaptation."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gjax import methods
from gjax.evaluators.domains import AdaptationEvaluation
from gjax.losses import correct
from gjax.methods.core.contract import DataInfo
from gjax.methods.core.optimisers import build_optimizer


class Layers(nn.Module):
    """Dense layers on flattened inputs, with ReLU between them."""

    sizes: tuple
    squeeze: bool = False
    standardised: bool = False

    @nn.compact
    def __call__(self, inputs, *, train: bool = False):
        x = inputs.reshape(len(inputs), -1)
        x = 10 * (x - 0.45) if self.standardised else x
        for size in self.sizes[:-1]:
            x = nn.relu(nn.Dense(size)(x))
        x = nn.Dense(self.sizes[-1])(x)
        return x[:, 0] if self.squeeze else x


class NormalisedLayers(nn.Module):
    """Points to their coordinates after a dense layer and batch normalisation."""

    @nn.compact
    def __call__(self, inputs, *, train: bool = False):
        x = nn.Dense(2)(inputs.reshape(len(inputs), -1))
        return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)


class Images(nn.Module):
    """Conditions to images [B, 1, 1, 2] in (-1, 1). norm: whether their batch is normalised before tanh."""

    norm: bool = False

    @nn.compact
    def __call__(self, conditions, *, train: bool):
        x = Layers((32, 2))(conditions)
        if self.norm:
            x = nn.BatchNorm(use_running_average=not train)(x)
        return jnp.tanh(x).reshape(-1, 1, 1, 2)


class Judge(nn.Module):
    """Images to (logits [B], class logits [B, 2]), after dense layers or none. norm: whether their batch is normalised."""

    hidden: tuple = (32,)
    norm: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = images.reshape(len(images), -1)
        for size in self.hidden:
            x = nn.relu(nn.Dense(size)(x))
        if self.norm:
            x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(1, name='real')(x)[:, 0], nn.Dense(2, name='class')(x)


@dataclasses.dataclass(frozen=True)
class ToyNet:
    """As `gjax.nets.gta.GTADigits`, of points [1, 1, 2]; the embedding is linear."""

    noise: int = 2
    normalise: bool = False
    side: int = 1
    width: int = 2
    norm: bool = False

    def embedding(self):
        return Layers((self.width,), standardised=True)

    def classifier(self):
        return Layers((2,))

    def generator(self):
        return Images(self.norm)

    def discriminator(self):
        return Judge(norm=self.norm)

    def domain_discriminator(self):
        return Layers((16, 1), squeeze=True)


def toy_method(name, *, steps=300, learning_rate=0.02, optimizer='adam', **options):
    """The method `name` on the toy."""
    cls = methods.find(name)
    info = DataInfo(2, 256, 10, steps, (1, 1, 2))
    spec = {'name': optimizer, 'learning_rate': learning_rate, 'momentum': 0.0, 'schedule': 'inverse', 'decay': 0.01}
    if name == 'generate_to_adapt':
        options['constant_optimizer'] = build_optimizer(spec | {'schedule': 'constant'}, info)
    return cls(
        net=options.pop('net', ToyNet()),
        optimizer=build_optimizer(spec, info),
        info=info,
        evaluation=AdaptationEvaluation(),
        **options,
    )


def toy_domains(seed: int, count: int = 256, shift=(0.0, 0.3), stretch: float = 1.0, unrelated: bool = False):
    """{'source', 'target'}: two classes that both coordinates tell apart, the second one better; in the target that one is
    moved, and stretched. unrelated: and drawn whatever the class, so that the domains differ in covariance only. As images
    in [0, 1]."""
    rng, domains = np.random.default_rng(seed), {}
    for name, move in (('source', (0.0, 0.0)), ('target', shift)):
        labels = np.arange(count) % 2
        sides = np.stack([labels, labels], axis=1)
        if name == 'target' and unrelated:
            sides[:, 1] = np.arange(count) // 2 % 2
        centers = np.where(sides == 1, (0.55, 0.5), (0.35, 0.2)) + np.asarray(move)
        points = rng.normal(centers, 0.04).astype(np.float32)
        if name == 'target':
            points[:, 1] = 0.35 + stretch * (points[:, 1] - 0.35)
        domains[name] = {
            'image': jnp.asarray(points.reshape(-1, 1, 1, 2)),
            'label': jnp.asarray(labels, jnp.int32),
            'index': jnp.arange(count, dtype=jnp.int32),
        }
    return domains


@functools.cache
def _compiled(method):
    def run(state, batch, steps):
        shapes = jax.eval_shape(method.step, state, batch)[1]
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        return jax.lax.fori_loop(0, steps, lambda i, carry: method.step(carry[0], batch), (state, zeros))

    quick = {'xla_backend_optimization_level': 1}  # for hundreds of steps, of MMD's many exponentials
    return jax.jit(method.init), jax.jit(run, compiler_options=quick)


def trained(method, domains, steps: int, seed: int = 0):
    """The state after so many steps on whole domains, and the last metrics."""
    roles = method.roles(methods.Sets(('source',), 'target'))
    batch = {
        name: {key: domains[name][key] for key in (*(role.fields or ('image', 'label')), 'index')}
        for name, role in roles.items()
    }
    init, run = _compiled(method)
    return run(init(jax.random.key(seed), domains['source']), batch, jnp.int32(steps))


def descended(loss, params, rate: float):
    """Params after a step of gradient descent on loss(params)."""
    return jax.tree.map(lambda p, g: p - rate * g, params, jax.grad(loss)(params))


def assert_close(found, expected, message='', *, atol: float = 1e-6):
    """Every leaf of two trees."""
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, atol=atol, err_msg=message)


def accuracy(method, state, domain) -> float:
    return float(correct(method.logits(state, domain['image']), domain['label']).mean())
