"""Every shipped config builds, starts and steps, in shapes only; the paper-scale one holds the sheet's values."""

import jax
import jax.numpy as jnp
import pytest

from gjax import data, methods, nets
from gjax.train import config as configs
from gjax.train.programs import step_batch

FILES = configs.shipped_files()
CASES = [(f'{p.parent.name}/{p.name}', arg) for p in FILES for arg in getattr(configs.load_module(p), 'METHODS', ('',))]
CASES += [('generate_to_adapt/digits.py', 'generate_to_adapt,mnist5k_to_digits')]
# Tracing takes seconds each: by default the methods of the minis, and of other files the first.
FAST = [case for case in CASES if case[0].endswith('/digits.py') and case[0] != 'flow_robustness/digits.py']
FAST += [next(case for case in CASES if case[0] == file) for file in sorted({case[0] for case in CASES})]
DEEP = ('dmg/paper', 'generate_to_adapt/large', 'iaat/imagenet', 'iaat/cifar100')
SLOW = [case for case in CASES if case not in FAST or case[0].startswith(DEEP)]


def _batch(role, side: int, channels: int) -> dict:
    """The shapes of four examples as a role's batch holds them: all columns unless it names some."""
    fields = {
        'image': jax.ShapeDtypeStruct((4, side, side, channels), jnp.float32),
        'label': jax.ShapeDtypeStruct((4,), jnp.int32),
    }
    number = jax.ShapeDtypeStruct((4,), jnp.int32)
    asked = role.fields or tuple(fields)  # a 'domain' reaches those alone that ask for it
    return {name: fields.get(name, number) for name in asked} | {'index': number}


@pytest.mark.parametrize(('file', 'arg'), [pytest.param(*case, marks=[pytest.mark.slow] * (case in SLOW)) for case in CASES])
def test_it_steps(file, arg):
    config = configs.load(f'{file}:{arg}' if arg else file, {'train.batch_size': 4})
    config.train.steps_per_call = 1
    side, channels = config.data.image_size or 32, config.data.channels or 3
    sets = methods.Sets(*data.set_names(config.data))
    info = methods.DataInfo(10, 40, 10, 100, (side, side, channels), domains=sets.sources, unseen=sets.unseen)
    method = methods.build(config, info)
    batch = step_batch({name: _batch(role, side, channels) for name, role in method.roles(sets).items()})
    state = jax.eval_shape(method.init, jax.random.key(0), _batch(methods.Role(sets.sources), side, channels))
    new, metrics = jax.eval_shape(method.step, state, batch)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), new) == jax.tree.map(lambda s: (s.shape, s.dtype), state)
    assert all(metrics[f'loss/{player}'].shape == () for player in new.params)


def test_cifar10_holds_the_sheets_values():
    flat = configs.flatten(configs.load('iaat/cifar10.py:iaat').to_dict())
    expected = {
        'net.name': 'iaat_wide_resnet',
        'net.depth': 32,
        'net.width': 10,
        'train.batch_size': 256,
        'train.total_epochs': 110,
        'optimizer.learning_rate': 0.1,
        'optimizer.momentum': 0.9,
        'optimizer.weight_decay': 5e-4,
        'optimizer.milestones': (70, 90, 100),
        'optimizer.factor': 0.2,
        'method.eps': 8 / 255,
        'method.gamma': 1.9 / 255,
        'method.beta': 0.1,
        'method.warmup_epochs': 10,
        'method.attack_steps': 10,
        'method.min_step': 2 / 255,
        'method.attack_batch_norm': 'train_update',
        'data.padding': 4,
        'data.flip': True,
    }
    assert {key: flat[key] for key in expected} == expected


def test_svhn_to_mnist_holds_the_sheets_values():
    flat = configs.flatten(configs.load('generate_to_adapt/paper.py').to_dict())
    expected = {
        'data.name': 'svhn_cropped',
        'data.target': 'mnist',
        'data.image_size': 32,
        'data.channels': 3,
        'train.batch_size': 100,
        'train.total_epochs': 100,
        'net.widths': (64, 64, 128),
        'net.hidden': (128,),
        'net.noise': 512,
        'net.generator_width': 64,
        'net.discriminator_width': 64,
        'optimizer.name': 'adam',
        'optimizer.learning_rate': 5e-4,
        'optimizer.b1': 0.8,
        'optimizer.b2': 0.999,
        'optimizer.schedule': 'inverse',
        'optimizer.decay': 1e-4,
        'method.class_weight': 0.1,
        'method.domain_weight': 0.03,
        'method.gan_loss': 'non_saturating',
        'method.generator_schedule': False,
    }
    assert {key: flat[key] for key in expected} == expected
    usps = configs.load('generate_to_adapt/paper.py:dann,usps_to_mnist_p')
    assert (usps.data.name, usps.data.target) == ('usps', 'mnist')
    assert (usps.data.examples, usps.data.target_examples) == (1800, 2000)
    assert usps.net.widths == (32, 48)
    module, images = nets.build(**usps.net, num_classes=10, image_shape=(32, 32, 3)).embedding(), jnp.zeros((1, 32, 32, 3))
    assert jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), images)[0]).shape == (1, 1200)


def test_domain_specific_masks_hold_the_sheets_values():
    pacs = configs.flatten(configs.load('dmg/paper.py:dmg,photo').to_dict())
    expected = {
        'data.sources': ('pacs/art_painting', 'pacs/cartoon', 'pacs/sketch'),
        'data.unseen': ('pacs/photo',),
        'data.image_size': 224,
        'train.batch_size': 64,
        'train.total_epochs': 150,
        'net.name': 'resnet18',
        'optimizer.name': 'adam',
        'optimizer.learning_rate': 1e-4,
        'optimizer.weight_decay': 1e-5,
        'optimizer.schedule': 'exponential',
        'optimizer.factor': 0.99,
        'method.overlap_weight': 0.1,
        'method.overlap': 'mean',
        'method.sparsity_weight': 0.0,
        'method.mode': 'channel',
        'method.mask_start': (0.0, 1.0),
        'method.mask_learning_rate': 0.0,
        'method.mask_schedule': 'constant',
        'method.mask_weight_decay': 1e-5,
        'evaluation.in_domain': 'greedy',
        'evaluation.unseen': 'softscale',
        'evaluation.combine': 'logits',
    }
    assert {key: pacs[key] for key in expected} == expected
    domainnet = configs.flatten(configs.load('dmg/paper.py:dmg,sketch_of_domainnet').to_dict())
    expected = {
        'data.unseen': ('domainnet/sketch',),
        'train.total_epochs': 50,
        'optimizer.weight_decay': 0.0,
        'optimizer.schedule': 'inverse',
        'optimizer.decay': 1e-4,
        'optimizer.power': 0.75,
        'method.mask_schedule': 'network',
        'method.mask_weight_decay': 0.0,
    }
    assert {key: domainnet[key] for key in expected} == expected
    assert configs.load('dmg/paper.py:aggregate,photo').train.total_epochs == 100


def test_small_is_the_papers_protocol():
    for transfer, examples in (
        ('mnist_to_usps_p', (2000, 1800)),
        ('usps_to_mnist_p', (1800, 2000)),
        ('mnist_to_usps', (0, 0)),
    ):
        small, paper = (configs.load(f'generate_to_adapt/{file}.py:dann,{transfer}').data for file in ('small', 'paper'))
        assert (small.examples, small.target_examples) == (paper.examples, paper.target_examples) == examples
        assert (small.name, small.target) == (paper.name, paper.target)
    blended = configs.load('generate_to_adapt/small.py:dann,mnist_to_mnistm')
    assert (blended.data.name, blended.data.target, blended.data.channels) == ('mnist', 'mnist_m', 3)


def test_other_arguments_are_refused():
    for file in ('digits', 'paper', 'small', 'large'):
        for arg in ('dan,nowhere', 'cyclegan'):
            with pytest.raises(configs.ConfigError, match=rf"the argument is '{arg}'; allowed: METHOD or METHOD,TRANSFER"):
                configs.load(f'generate_to_adapt/{file}.py:{arg}')
    for file in ('digits', 'small', 'paper'):
        for arg in ('dmg,nowhere', 'cyclegan'):
            with pytest.raises(configs.ConfigError, match=rf"the argument is '{arg}'; allowed: METHOD or METHOD,UNSEEN"):
                configs.load(f'dmg/{file}.py:{arg}')
