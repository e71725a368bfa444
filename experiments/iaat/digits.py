"""IAAT and its baselines at mini scale: real handwriting blended with real photos, a minute or two a run on two CPU cores.

  gjax reproduce iaat --seeds=0,1,2           the table of README.md
  gjax train --config=experiments/iaat/digits.py:iaat --workdir=runs/iaat

The set is `mnistm5k`: where the photo is mid-grey the digit nearly vanishes, so margins differ by nature.
Network and radius are such that one radius for all costs clean accuracy. Every method has the same network, optimiser and
number of epochs. Found on seeds 0 and 1:

- eps 32/255: smaller radii (16 to 28) cost a well-trained network of this kind little on this set.
- Uniform attacks ramp up over 15 of 20 epochs: from the start at full radius the network stays at the constant predictor,
  and a ramp of 8 or 10 epochs gives worse clean *and* robust accuracy.
- IAAT's warm-up (on correctly classified images only, so it needs no ramp) is at a smaller radius than the test's, and its
  radii move faster than the paper's 0.19/255 an epoch (gamma 1.9, beta 0.1, 110 epochs), because there are 20 epochs.
"""

from gjax.train.config import base_config

METHODS = ('supervised', 'mixup', 'adversarial_training', 'trades', 'interpolated_adversarial_training', 'iaat')
EPS = 32 / 255
ATTACK_STEPS = 5


def get_config(arg='iaat'):
    if arg not in METHODS:
        raise ValueError(f'the argument is {arg!r}; allowed: {", ".join(METHODS)}')
    config = base_config()
    config.experiment = 'iaat/digits'
    config.data.name = 'mnistm5k'
    config.train.update(batch_size=80, total_epochs=20, eval_every_epochs=2, checkpoint_every_epochs=5, steps_per_call=50)
    config.net.update(name='small_cnn', widths=(8, 16, 32), hidden=64)
    config.optimizer.update(name='sgd', learning_rate=0.05, momentum=0.9, weight_decay=5e-4, schedule='cosine')
    config.evaluation.update(eps=EPS, steps=50, restarts=5, step_size=EPS / 10, quick_steps=5, curve_steps=10)
    config.evaluation.curve = tuple(n / 255 for n in (4, 8, 12, 16, 24, 32, 40, 48))
    config.method.name = 'supervised' if arg == 'mixup' else arg
    if arg == 'mixup':
        config.method.mixup_alpha = 1.0
    elif arg == 'iaat':
        config.method.update(eps=24 / 255, gamma=4 / 255, beta=0.3, warmup_epochs=6, min_step=2 / 255)
        config.method.attack_steps = ATTACK_STEPS
    elif arg != 'supervised':
        config.method.update(eps=EPS, step_size=EPS / (0.5 * ATTACK_STEPS), attack_steps=ATTACK_STEPS)
        config.method.update(eps_warmup_epochs=15, attack_batch_norm='train')
    return config
