"""The methods of the contract battery and what each is expected to do. A new method joins by one entry of `BATTERY`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections
import numpy as np

from gjax.train import config as configs

EPS = 8 / 255
_ATTACK = {'eps': EPS, 'step_size': 4 / 255, 'attack_steps': 2}

# What a method is expected to learn of the toy data: functions (run, state, before, after), where `before` and `after` are
# the metrics that its evaluators log of the first and of the last state.


def classifies(run, state, before, after):
    """Its accuracy is nearly perfect, and no attack raises it."""
    assert after['clean_accuracy'] >= 0.95
    assert after['robust_accuracy'] <= after['clean_accuracy']


def adapts(run, state, before, after):
    """It classifies both domains."""
    assert min(after['source_accuracy'], after['target_accuracy']) >= 0.9


def generalizes(run, state, before, after):
    """It classifies its sources and the unseen domain."""
    assert min(after['in_domain_accuracy'], after['out_of_domain_accuracy']) >= 0.9


def rebuilds(run, state, before, after):
    """Its loss on the test split falls."""
    assert after['loss'] < 0.9 * before['loss']


def compresses(run, state, before, after):
    """Its likelihood rises, and an attack lowers it."""
    assert after['bits_per_dim'] < before['bits_per_dim'] - 0.1
    assert after['bits_per_dim'] < after['attacked_bits_per_dim']


def generates(run, state, before, after):
    """Its images have a bright and a dark half, and either half may be the bright one."""
    images = run.look(state, 'log').sample(run.method.generate, 64)
    contrast = images[:, :, 4:].mean(axis=(1, 2, 3)) - images[:, :, :4].mean(axis=(1, 2, 3))  # data: 0.43 or -0.43
    assert np.abs(contrast).mean() > 0.15
    assert (contrast > 0).any()
    assert (contrast < 0).any()


# Nets and optimisers of the tiny configs: dotted keys and their values.
_CLASSIFIER = {'net.name': 'small_cnn', 'net.widths': (4, 8), 'net.hidden': 8, 'optimizer.learning_rate': 0.05}
_CLASSIFIER |= {'evaluation.eps': EPS, 'evaluation.steps': 3, 'evaluation.restarts': 2, 'evaluation.quick_steps': 2}
_CLASSIFIER |= {'evaluation.curve': (2 / 255, EPS), 'evaluation.curve_steps': 2}
_CLASSIFIER |= {'evaluation.attacks': ('pgd',), 'evaluation.warnings': False}  # one program, and a small one
_DOMAINS = {'net.name': 'gta_digits', 'net.widths': (6,), 'net.pool_last': True, 'net.hidden': (8,), 'net.noise': 3}
_DOMAINS |= {'net.generator_width': 4, 'net.discriminator_width': 4, 'net.domain_widths': (8,)}
_DOMAINS |= {'optimizer.learning_rate': 0.002}  # a game of four players: rounding grows fast
_NORMALISED = {'net.name': 'dann_digits', 'net.widths': (6,), 'net.hidden': (8,), 'net.domain_widths': (8,)}
_NORMALISED |= {'net.dropout': 0.25, 'optimizer.learning_rate': 0.002}
_SOURCES = {'net.name': 'masked_cnn', 'net.widths': (6, 8), 'optimizer.learning_rate': 0.05}
_PAIR = {'net.name': 'dcgan', 'net.latent': 3, 'net.widths': (4, 8), 'net.trunk_norm': 'batch'}
_PAIR |= {'optimizer.learning_rate': 0.01}
_FLOW = {'optimizer.learning_rate': 0.01, 'evaluation.eps': EPS, 'evaluation.steps': 3, 'evaluation.restarts': 2}
_FLOW |= {'evaluation.quick_steps': 2, 'evaluation.curve': (2 / 255, EPS)}
_GLOW = {'net.name': 'glow', 'net.levels': 1, 'net.depth': 2, 'net.hidden': 4, 'evaluation.pictures': 0}
_REALNVP = {'net.name': 'realnvp', 'net.levels': 2, 'net.hidden': 4, 'net.blocks': 1, 'evaluation.ood': ('noise',)}
_REALNVP |= {'evaluation.ood_examples': 20, 'evaluation.pictures': 4}


@dataclasses.dataclass(frozen=True)
class Case:
    """A tiny config of one method, and what the battery expects of it."""

    method: Mapping[str, Any]  # the options of config.method
    config: Mapping[str, Any]  # more keys of the config
    learns: Callable  # see above
    target: bool = False  # whether the config names a second domain, `toy_data`'s other file
    sources: bool = False  # whether it trains on both files of `toy_data`, with the third unseen
    attack_scale: float = 1.0  # by which the radius and the steps of `L2`'s training attack are multiplied
    # How the battery trains, so that the toy is learned by the same run whose first steps are compared: dotted keys.
    training: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {'train.total_steps': 60})
    # Whether it runs among the slow tests: options of a method that another case has, or a step that another case shares.
    slow: bool = False


# Adam's first updates are as large as the learning rate however small the gradient is. The rate rises slowly from zero, so
# that rounding does not grow within the steps that are compared on one and on eight devices.
_ADAM = {'optimizer.name': 'adam', 'optimizer.learning_rate': 0.01, 'optimizer.b1': 0.5, 'train.total_steps': 100}
_ADAM |= {'optimizer.warmup_epochs': 4.0}
# Under batch normalisation some gradients are rounding errors alone, of which Adam would make whole updates.
_SGD = {'optimizer.learning_rate': 0.02, 'optimizer.warmup_epochs': 8.0, 'train.total_steps': 150}


def _classifier(slow=False, attack_scale=1.0, **method):
    return Case(method, _CLASSIFIER, classifies, slow=slow, attack_scale=attack_scale)


def _domains(slow=True, seed=0, **method):
    return Case(method, _DOMAINS | {'seed': seed}, adapts, target=True, training=_SGD, slow=slow)


def _pair(slow=False, learns=rebuilds, config=None, training=None, **method):
    return Case(method, _PAIR | (config or {}), learns, training=training or {'train.total_steps': 60}, slow=slow)


def _sources(slow=False, **method):
    return Case(method, _SOURCES, generalizes, sources=True, slow=slow)


_GAME = _ADAM | {'train.total_steps': 200}

BATTERY = {
    'supervised': _classifier(name='supervised'),
    'mixup': _classifier(slow=True, name='supervised', mixup_alpha=1.0),
    'adversarial_training': _classifier(slow=True, name='adversarial_training', eps_warmup_epochs=1.0, **_ATTACK),
    'adversarial_training_train_update': _classifier(
        slow=True, name='adversarial_training', attack_batch_norm='train_update', **_ATTACK
    ),
    # KL near its minimum has a gradient of rounding errors, which a short l2 step would blow up.
    'trades': _classifier(slow=True, attack_scale=4.0, name='trades', **_ATTACK),
    'interpolated_adversarial_training': _classifier(slow=True, name='interpolated_adversarial_training', **_ATTACK),
    'iaat': _classifier(name='iaat', eps=EPS, attack_steps=2, warmup_epochs=1, beta=0.5),
    'iaat_eval_reuse': _classifier(
        slow=True, name='iaat', eps=EPS, attack_steps=2, warmup_epochs=1, attack_batch_norm='eval', reuse_attack=True
    ),
    'autoencoder': _pair(slow=True, name='autoencoder', variational=False, reconstruction='squared_error'),
    'vae': _pair(slow=True, name='autoencoder', beta=0.1, ema=0.9),
    'gan': _pair(slow=True, learns=generates, config={'net.trunk_norm': 'spectral'}, training=_GAME, name='gan'),
    'wgan_gp': _pair(
        slow=True,
        learns=generates,
        config={'net.trunk_norm': 'none'},
        training=_GAME,
        name='gan',
        loss='wasserstein',
        penalty=1.0,
        critic_steps=2,
    ),
    'lottery_tickets': _pair(
        config={'stage': 'dense'}, name='lottery_tickets', model='vae', beta=0.1, rounds=1, rewind_epochs=0.6
    ),
    # Its masks of epochs take a third epoch of five steps. The battery lets it find its ticket late, after it has learned.
    'early_bird': _pair(
        slow=True,
        config={'stage': 'search', 'train.total_steps': 15},
        training={'train.total_steps': 60, 'method.history': 9},
        name='early_bird',
        model='vae',
        beta=0.1,
        history=1,
        distance=1e-9,
    ),
    'source_only': _domains(name='source_only'),
    'target_only': _domains(name='target_only'),
    'adabn': Case({'name': 'adabn'}, _NORMALISED, adapts, target=True, training=_SGD, slow=True),
    'dann': _domains(name='dann', weight=0.1, ema=0.5),
    'adda': _domains(name='adda'),
    'dan': _domains(name='dan'),
    'coral': _domains(name='coral'),
    'mcd': _domains(name='mcd', generator_steps=2),
    # With seed 0 an activation of step 2 lies so near to a kink that the order of a sum decides on its side: gradients then
    # differ by 1e-4 between numbers of devices, on which other seeds agree to 4e-6; seed 1 takes longer to learn.
    'generate_to_adapt': _domains(slow=False, seed=2, name='generate_to_adapt'),
    'dmg': _sources(name='dmg', mask_learning_rate=0.5),
    'dmg_elements': _sources(
        slow=True, name='dmg', mode='element', overlap='sum', mask_schedule='network', sparsity_weight=1e-4
    ),
    'aggregate': _sources(slow=True, name='aggregate'),
    'multi_head': _sources(slow=True, name='multi_head'),
    'flow_robustness': Case(
        {'name': 'flow_robustness', 'clean_epochs': 0.6} | _ATTACK, _FLOW | _GLOW, compresses, training=_ADAM
    ),
    'flow_adversarial': Case(
        {'name': 'flow_robustness', 'adversarial_weight': 1.0, 'eps_warmup_epochs': 1.0} | _ATTACK,
        _FLOW | _REALNVP,
        compresses,
        training=_ADAM | {'net.levels': 1},  # a quarter of the compilation; tests/nets has levels
        slow=True,
    ),
}
CASES = {name: case.method for name, case in BATTERY.items()}  # name -> the options of config.method

# One case for each kind of state and feed. What belongs to the engine alone (processes, signals, numbers of devices,
# streaming) is tested with these: a per-example memory; two players in a game; a stage of a chain that remembers weights;
# two domains, of which one has no labels; a density.
KINDS = ('iaat', 'gan', 'lottery_tickets', 'generate_to_adapt', 'flow_robustness')
REMEMBERING = ('iaat',)  # what the default suite kills; of the other kinds, the slow one
ONE_ROLE_AND_TWO = ('iaat', 'generate_to_adapt')  # a feed of one batch a step, and a feed of two

# Overrides that put every attack into an l2 ball, where its path is a continuous function of the gradient. An linf attack
# takes signs, and a gradient of pure rounding noise then moves a pixel by a whole step.
L2 = {
    'method__attack_norm': 'l2',
    'method__eps': 0.5,
    'method__step_size': 0.25,
    'method__gamma': 0.1,
    'method__min_step': 0.1,
    'evaluation__norm': 'l2',
    'evaluation__eps': 0.5,
    'evaluation__step_size': 0.2,
    'evaluation__curve': (0.1, 0.5),
}


def tiny_config(case: str, data_name: str, **overrides) -> ml_collections.ConfigDict:
    """A locked config of seconds: a few steps on `data_name`; overrides are dotted keys with __ for the dot."""
    own, config = BATTERY[case], configs.base_config()
    config.experiment = 'contract'
    config.data.name = data_name
    config.data.validation = 0.0
    config.data.padding = 1  # the augmented path
    config.train.update(batch_size=16, eval_every_steps=5, checkpoint_every_steps=4, steps_per_call=3, eval_batch_size=24)
    config.train.total_steps = 10
    config.optimizer.update(name='sgd', momentum=0.9)
    if own.target:
        config.data.target = data_name.replace('toy.npz', 'toy_target.npz')
    if own.sources:
        config.data.sources = (data_name, data_name.replace('toy.npz', 'toy_target.npz'))
        config.data.unseen = (data_name.replace('toy.npz', 'toy_unseen.npz'),)
    if (net := own.config['net.name']) != config.net.name:
        config.net = ml_collections.ConfigDict({'name': net})
    config.method.update(own.method)
    for key, value in own.config.items():
        section, _, name = key.rpartition('.')
        (config[section] if section else config)[name] = value
    configs.complete(config)
    config.lock()
    for key, value in overrides.items():
        section, _, name = key.partition('__')
        if key in ('method__eps', 'method__step_size'):
            value *= own.attack_scale
        if key not in L2 or name in config[section]:  # a method without attack has none of its options
            configs.override(config, {key.replace('__', '.'): value})
    if overrides.keys() >= L2.keys() and 'attack_steps' in config.method:
        assert config.method.attack_norm == 'l2'
    return config


def chain_config(data_name: str) -> ml_collections.ConfigDict:
    """The tiny run of a pipeline: a dense network, and a ticket that begins from its weights."""
    return tiny_config('lottery_tickets', data_name, stage='', **L2)


def battery_config(case: str, data_name: str) -> ml_collections.ConfigDict:
    """The config under which the battery trains a case: attacks in the l2 ball, and steps enough to learn the toy."""
    config = tiny_config(case, data_name, **L2)
    configs.override(config, BATTERY[case].training)
    return config
