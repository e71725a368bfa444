"""IAAT and its baselines on CIFAR-10 at the paper's radius, at a size for CPUs. Tried for 60 steps, never run whole here.

  gjax reproduce iaat --scale=small --seeds=0,1,2          every run that is there already is kept
  gjax train --config=experiments/iaat/small.py:iaat --workdir=runs/iaat-small

data.name is TFDS's cifar10; a subset in one file does as well: --config.data.name=npz:cifar10.npz. Radius, augmentation and
the discretisation of the radii are those of cifar10.py, the paper's own scale. Smaller are the network, the number of epochs
and that of the attacks' steps in training. Only 12 epochs adapt the radii, so that these move by whole steps (beta 1). The
mode of BatchNorm is that of digits.py, for every method.
"""

from gjax.train.config import load_module, sibling

CIFAR10 = load_module(sibling(__file__, 'cifar10.py'))
METHODS, EPS = CIFAR10.METHODS, CIFAR10.EPS
ATTACK_STEPS = 5


def get_config(arg='iaat'):
    config = CIFAR10.get_config(arg)
    config.experiment = 'iaat/small'
    config.net = {'name': 'small_cnn', 'widths': (32, 64, 128), 'hidden': 128}
    config.train.update(batch_size=128, eval_batch_size=128, total_epochs=20, eval_every_epochs=2, checkpoint_every_epochs=2)
    config.train.steps_per_call = 20
    config.optimizer.update(learning_rate=0.05, schedule='cosine', milestones=())
    config.evaluation.update(steps=50, restarts=5, quick_steps=5, curve_steps=10)
    if arg == 'iaat':
        config.method.update(warmup_epochs=8, beta=1.0)
    if arg in ('adversarial_training', 'trades', 'interpolated_adversarial_training', 'iaat'):
        config.method.update(attack_steps=ATTACK_STEPS, attack_batch_norm='eval')
    if arg in ('adversarial_training', 'trades', 'interpolated_adversarial_training'):
        config.method.step_size = EPS / (0.5 * ATTACK_STEPS)
    return config
