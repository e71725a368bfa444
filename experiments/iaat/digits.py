"""IAAT and its baselines at mini scale: real handwriting on real photos, minutes on two CPU cores."""

from gjax.train.config import base_config

METHODS = ('supervised', 'mixup', 'adversarial_training', 'trades', 'interpolated_adversarial_training', 'iaat')
EPS = 28 / 255


def get_config(arg='iaat'):
    if arg not in METHODS:
        raise ValueError(f'the argument is {arg!r}; allowed: {", ".join(METHODS)}')
    config = base_config()
    config.experiment = 'iaat/digits'
    config.data.name = 'mnistm5k'
    config.train.update(batch_size=80, total_epochs=20, eval_every_epochs=2, checkpoint_every_epochs=5, steps_per_call=40)
    config.net.update(name='small_cnn', widths=(16, 32, 64), hidden=64)
    config.optimizer.update(name='sgd', learning_rate=0.05, momentum=0.9, weight_decay=5e-4, schedule='cosine')
    config.evaluation.update(eps=EPS, steps=50, restarts=5, step_size=EPS / 10, quick_steps=5)
    config.evaluation.curve = tuple(n / 255 for n in (4, 8, 12, 16, 20, 24, 28, 36, 44))
    config.method.name = 'supervised' if arg == 'mixup' else arg
    if arg == 'mixup':
        config.method.mixup_alpha = 1.0
    elif arg == 'iaat':
        config.method.update(eps=EPS, gamma=4 / 255, beta=0.3, warmup_epochs=10, attack_steps=5, min_step=2 / 255)
    elif arg != 'supervised':
        config.method.update(eps=EPS, step_size=EPS / 2.5, attack_steps=5, eps_warmup_epochs=8)
    return config
