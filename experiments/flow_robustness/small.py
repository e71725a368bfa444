"""CIFAR-10 at a size for CPUs: 16 pixels, small networks. Tried for 200 steps on a subset, never run whole here.

  gjax train --config=experiments/flow_robustness/small.py:clean --workdir=runs/flow-cifar --config.data.name=npz:cifar10.npz

The argument is TRAINING or TRAINING,NET. data.name: cifar10 of TFDS by default, or a subset in an npz file.
"""

from gjax.train.config import load_module, sibling

DIGITS = load_module(sibling(__file__, 'digits.py'))
METHODS = DIGITS.METHODS
NETS = {
    'glow': {'levels': 2, 'depth': 8, 'hidden': 64},
    'realnvp': {'levels': 2, 'hidden': 16, 'blocks': 1},
}


def get_config(arg='hybrid'):
    training, net = DIGITS.ARGUMENTS.parse(arg, NETS)
    config = DIGITS.get_config(f'{training},{net}')
    config.experiment = f'flow_robustness/small cifar10 {net}'
    config.data.update(name='cifar10', channels=3, flip=True)
    config.train.update(total_steps=6000, eval_every_steps=1000, checkpoint_every_steps=1000)
    config.train.update(total_epochs=0, eval_every_epochs=0, checkpoint_every_epochs=0)
    config.net = {'name': net, **NETS[net]}
    config.evaluation.ood = ('syndigits', 'mnistm5k', 'noise')
    return config
