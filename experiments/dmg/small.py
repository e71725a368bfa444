"""Domain-specific masks and their baselines on PACS at 64 pixels and on four kinds of digits, at a size for CPUs.

  gjax prepare pacs                                   then gjax prepare usps, syn_digits; TFDS has the other two
  gjax train --config=experiments/dmg/small.py:dmg,sketch --workdir=runs/dmg-sketch
  gjax train --config=experiments/dmg/small.py:aggregate,svhn --workdir=runs/aggregate-svhn

The argument is METHOD or METHOD,UNSEEN, UNSEEN one of PACS's domains or of the digits': training sees the three others. The
network has four convolutions and begins from random weights, so that no number of this file compares with one of a network
that knows ImageNet. Sets from other files, leaving `sketch` out:
  --config.data.sources='("npz:pacs64_photo.npz","npz:pacs64_art_painting.npz","npz:pacs64_cartoon.npz")'
  --config.data.unseen='("npz:pacs64_sketch.npz",)'
"""

from gjax.train.config import load_module, sibling

DIGITS = load_module(sibling(__file__, 'digits.py'))
ARGUMENTS = load_module(sibling(__file__, 'arguments.py'))
METHODS = ARGUMENTS.METHODS
PACS = {domain: f'pacs/{domain}' for domain in ('photo', 'art_painting', 'cartoon', 'sketch')}
NUMBERS = {'mnist': 'mnist', 'usps': 'usps', 'svhn': 'svhn_cropped', 'syn_digits': 'syn_digits'}


def get_config(arg='dmg'):
    method, unseen = ARGUMENTS.parse(arg, PACS | NUMBERS)
    config = DIGITS.get_config(method)
    config.experiment = f'dmg/small {unseen} unseen'
    config.data.update(image_size=64, flip=True, padding=6, padding_mode='edge', **_sets(unseen))
    config.train.update(total_steps=2000, eval_every_steps=500, checkpoint_every_steps=500, steps_per_call=10)
    config.net.widths = (32, 64, 96, 128)
    if unseen in NUMBERS:
        config.data.update(image_size=32, flip=False, padding=0, examples=5000)  # of each source: MNIST alone has 60,000
        config.train.update(total_steps=4000, eval_every_steps=2000, checkpoint_every_steps=1000)
    return config


def _sets(unseen):
    return ARGUMENTS.leave_out(PACS if unseen in PACS else NUMBERS, unseen)
