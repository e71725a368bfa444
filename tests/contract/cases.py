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
}


def tiny_config(case: str, data_name: str, **overrides) -> ml_collections.ConfigDict:
    """A locked config of seconds: 10 steps on `data_name`; overrides are dotted keys with __ for the dot."""
    config = configs.base_config()
    config.experiment = 'contract'
    config.data.name = data_name
    config.data.padding = 1  # the augmented path
    config.train.update(
        batch_size=16, total_steps=10, eval_every_steps=5, checkpoint_every_steps=4, steps_per_call=3, eval_batch_size=24
    )
    config.net.update(name='small_cnn', widths=(4, 8), hidden=8)
    config.optimizer.update(name='sgd', learning_rate=0.05, momentum=0.9)
    config.evaluation.update(eps=EPS, steps=3, restarts=2, quick_steps=2, curve=(2 / 255, EPS), curve_steps=2)
    config.method.update(CASES[case])
    configs.complete(config)
    config.lock()
    configs.override(config, {key.replace('__', '.'): value for key, value in overrides.items()})
    return config
