"""Flows under attack at mini scale: small GLOW or RealNVP on MNIST's digits, trained clean, adversarially, or on both.

  gjax train --config=experiments/flow_robustness/digits.py --workdir=runs/flow              hybrid training of GLOW
  gjax train --config=experiments/flow_robustness/digits.py:clean,realnvp --workdir=runs/realnvp

The argument is TRAINING or TRAINING,NET.
"""

from gjax.train.config import base_config, load_module, sibling

ARGUMENTS = load_module(sibling(__file__, 'arguments.py'))
METHODS = ARGUMENTS.METHODS
NETS = {
    'glow': {'levels': 2, 'depth': 6, 'hidden': 48},
    'realnvp': {'levels': 2, 'hidden': 24, 'blocks': 2},
    'linear_flow': {},
}


def get_config(arg='hybrid'):
    training, net = ARGUMENTS.parse(arg, NETS)
    config = base_config()
    config.experiment = f'flow_robustness/digits {net}'
    config.data.update(name='mnist5k', image_size=16)
    config.train.update(batch_size=64, eval_batch_size=250, total_epochs=24, eval_every_epochs=4, checkpoint_every_epochs=8)
    config.train.steps_per_call = 16
    config.net = {'name': net, **NETS[net]}
    config.optimizer.update(name='adam', learning_rate=1e-3, schedule='cosine', warmup_epochs=1)
    config.method = {'name': 'flow_robustness', 'adversarial_weight': ARGUMENTS.WEIGHTS[training]}
    config.method.update(eps=8 / 255, attack_steps=5)
    config.evaluation.update(eps=8 / 255, steps=20, draws=4, curve=tuple(n / 255 for n in (1, 2, 4, 8, 16)))
    config.evaluation.update(ood=('digits', 'noise'), ood_eps=16 / 255, ood_examples=500)
    return config
