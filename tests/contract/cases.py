"""The methods of the contract battery. A new method joins by adding its tiny config here."""

import ml_collections

from gjax.train import config as configs

EPS = 8 / 255
_ATTACK = {'eps': EPS, 'step_size': 4 / 255, 'attack_steps': 2}

# name -> the options of config.method
CASES = {
    'supervised': {'name': 'supervised'},
    'mixup': {'name': 'supervised', 'mixup_alpha': 1.0},
    'adversarial_training': {'name': 'adversarial_training', 'eps_warmup_epochs': 1.0} | _ATTACK,
    'adversarial_training_train_update': {'name': 'adversarial_training', 'attack_batch_norm': 'train_update'} | _ATTACK,
    'trades': {'name': 'trades'} | _ATTACK,
    'interpolated_adversarial_training': {'name': 'interpolated_adversarial_training'} | _ATTACK,
    'iaat': {'name': 'iaat', 'eps': EPS, 'attack_steps': 2, 'warmup_epochs': 1, 'beta': 0.5},
    'iaat_eval_reuse': {
        'name': 'iaat',
        'eps': EPS,
        'attack_steps': 2,
        'warmup_epochs': 1,
        'attack_batch_norm': 'eval',
        'reuse_attack': True,
    },
    'autoencoder': {'name': 'autoencoder', 'variational': False, 'reconstruction': 'squared_error'},
    'vae': {'name': 'autoencoder', 'beta': 0.1, 'ema': 0.9},
    'gan': {'name': 'gan'},
    'wgan_gp': {'name': 'gan', 'loss': 'wasserstein', 'penalty': 1.0, 'critic_steps': 2},
    'lottery_tickets': {'name': 'lottery_tickets', 'model': 'vae', 'beta': 0.1, 'rounds': 1, 'rewind_epochs': 0.6},
    'early_bird': {'name': 'early_bird', 'model': 'vae', 'beta': 0.1, 'history': 2, 'distance': 1e-9},
    'source_only': {'name': 'source_only'},
    'target_only': {'name': 'target_only'},
    'dann': {'name': 'dann', 'weight': 0.1, 'ema': 0.5},
    'adda': {'name': 'adda'},
    'dan': {'name': 'dan'},
    'coral': {'name': 'coral'},
    'mcd': {'name': 'mcd', 'generator_steps': 2},
    'generate_to_adapt': {'name': 'generate_to_adapt'},
    'flow_robustness': {'name': 'flow_robustness', 'clean_epochs': 0.6} | _ATTACK,
    'flow_adversarial': {'name': 'flow_robustness', 'adversarial_weight': 1.0, 'eps_warmup_epochs': 1.0} | _ATTACK,
}
STAGES = {'lottery_tickets': 'dense', 'early_bird': 'search'}  # of these, which one the battery runs
# Those that know two domains; the target is that of `toy_data`'s other file.
ADAPTATION = ('source_only', 'target_only', 'dann', 'adda', 'dan', 'coral', 'mcd', 'generate_to_adapt')
# Other options of methods that another case has, and what shares its step with another: among the slow tests.
VARIANTS = ('mixup', 'adversarial_training_train_update', 'interpolated_adversarial_training', 'iaat_eval_reuse')
VARIANTS += ('autoencoder', 'wgan_gp', 'early_bird')
VARIANTS += ('source_only', 'target_only', 'dann', 'adda', 'dan', 'coral', 'mcd', 'flow_adversarial')
# Flows, and their networks.
FLOWS = {
    'flow_robustness': {'name': 'glow', 'levels': 1, 'depth': 2, 'hidden': 4},
    'flow_adversarial': {'name': 'realnvp', 'levels': 2, 'hidden': 4, 'blocks': 1},
}
# Cases that do not classify: their networks are pairs.
GENERATIVE = {'gan': 'spectral', 'wgan_gp': 'none'}
GENERATIVE |= dict.fromkeys(('autoencoder', 'vae', 'lottery_tickets', 'early_bird'), 'batch')

# Overrides that put every attack into an l2 ball, where its path is a continuous function of the gradient.
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
    config = configs.base_config()
    config.experiment = 'contract'
    config.data.name = data_name
    config.data.validation = 0.0
    config.data.padding = 1  # the augmented path
    config.train.update(batch_size=16, eval_every_steps=5, checkpoint_every_steps=4, steps_per_call=3, eval_batch_size=24)
    config.train.total_steps = 15 if case == 'early_bird' else 10  # its masks of epochs take a third epoch
    config.optimizer.update(name='sgd', learning_rate=0.05, momentum=0.9)
    if case in ADAPTATION:
        config.data.target = data_name.replace('toy.npz', 'toy_target.npz')
        config.net = ml_collections.ConfigDict({'name': 'gta_digits', 'widths': (6,), 'pool_last': True, 'hidden': (8,)})
        config.net.update(noise=3, generator_width=4, discriminator_width=4, domain_widths=(8,))
        config.optimizer.learning_rate = 0.002  # a game of four players: rounding grows fast
    elif case in GENERATIVE:
        config.net = ml_collections.ConfigDict({'name': 'dcgan', 'latent': 3, 'widths': (4, 8)})
        config.net.trunk_norm = GENERATIVE[case]
        config.optimizer.learning_rate = 0.01
    elif case in FLOWS:
        config.net = ml_collections.ConfigDict(FLOWS[case])
        config.optimizer.learning_rate = 0.01
        config.evaluation.update(eps=EPS, steps=3, restarts=2, quick_steps=2, curve=(2 / 255, EPS))
        if case == 'flow_robustness':
            config.evaluation.pictures = 0
        else:
            config.evaluation.update(ood=('noise',), ood_examples=20, pictures=4)
    else:
        config.net.update(name='small_cnn', widths=(4, 8), hidden=8)
        config.evaluation.update(eps=EPS, steps=3, restarts=2, quick_steps=2, curve=(2 / 255, EPS), curve_steps=2)
    config.method.update(CASES[case])
    config.stage = STAGES.get(case, '')
    configs.complete(config)
    config.lock()
    for key, value in overrides.items():
        section, _, name = key.partition('__')
        if case == 'trades' and key in ('method__eps', 'method__step_size'):
            value *= 4  # KL near its minimum has a gradient of rounding errors, which an l2 step would blow up
        if key not in L2 or name in config[section]:  # a method without attack has none of its options
            configs.override(config, {key.replace('__', '.'): value})
    if overrides.keys() >= L2.keys() and 'attack_steps' in config.method:
        assert config.method.attack_norm == 'l2'
    return config
