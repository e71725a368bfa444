"""IAAT and its baselines on CIFAR-100: the CIFAR-10 setting with 100 classes (the authors' last layer becomes 100 wide).

From memory, all of it: the authors' trainers are wired to CIFAR-10, so schedule and radii are assumed to be the same.

  gjax train --config=experiments/iaat/cifar100.py:iaat --workdir=runs/cifar100-iaat
"""

from gjax.train.config import load_module, sibling


def get_config(arg='iaat'):
    config = load_module(sibling(__file__, 'cifar10.py')).get_config(arg)
    config.experiment = 'iaat/cifar100'
    config.data.name = 'cifar100'
    return config
