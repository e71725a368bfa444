"""Flows under attack at paper scale: GLOW and RealNVP on CIFAR-10 and LSUN's bedrooms.

  gjax train --config=experiments/flow_robustness/paper.py:clean --workdir=runs/glow-cifar10
  gjax train --config=experiments/flow_robustness/paper.py:hybrid,realnvp,lsun --workdir=runs/realnvp-lsun

The argument is TRAINING or TRAINING,NET or TRAINING,NET,DATA. Networks, batches and rates are those of the papers of the
flows (Kingma & Dhariwal 2018, Dinh et al. 2017) and of the sheet; the duration is ours. Never run whole here.
"""

from gjax.train.config import base_config, load_module, sibling

ARGUMENTS = load_module(sibling(__file__, 'arguments.py'))
METHODS = ARGUMENTS.METHODS
NETS = {
    'glow': {'levels': 3, 'depth': 32, 'hidden': 512},
    'realnvp': {'levels': 2, 'hidden': 64, 'blocks': 8},
}
DATA = {
    'cifar10': {'name': 'cifar10', 'image_size': 32, 'flip': True},
    'lsun': {'name': 'lsun/bedroom', 'image_size': 64, 'flip': True, 'streaming': True},
}


def get_config(arg='hybrid'):
    training, net, name = ARGUMENTS.parse(arg, NETS, DATA)
    config = base_config()
    config.data.validation = 0.0  # the tables' splits: train and test alone
    config.experiment = f'flow_robustness/{name} {net}'
    config.data.update(**DATA[name])
    config.train.update(batch_size=64, eval_batch_size=256, checkpoint_every_steps=5000, eval_every_steps=20000)
    config.train.total_steps = 200000
    config.net = {'name': net, **NETS[net]}
    config.optimizer.update(name='adam', learning_rate=1e-3, schedule='cosine')
    config.optimizer.warmup_epochs = 10.0 if name == 'cifar10' else 0.15  # GLOW's half a million images
    config.method = {'name': 'flow_robustness', 'adversarial_weight': ARGUMENTS.WEIGHTS[training]}
    config.method.update(eps=8 / 255, attack_steps=10)
    config.evaluation.update(eps=8 / 255, steps=40, draws=4, curve=tuple(n / 255 for n in (1, 2, 4, 8)))
    config.evaluation.update(ood=('svhn_cropped', 'noise'), ood_eps=8 / 255)
    return config
