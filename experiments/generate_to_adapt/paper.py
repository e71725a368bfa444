"""Generate To Adapt and its baselines on digits as in the paper: SVHN to MNIST, MNIST to USPS and back.

  gjax prepare usps                                            TFDS has the other two
  gjax train --config=experiments/generate_to_adapt/paper.py --workdir=runs/svhn-mnist
  gjax train --config=experiments/generate_to_adapt/paper.py:dann,usps_to_mnist --workdir=runs/usps-mnist-dann

The argument is METHOD or METHOD,TRANSFER. 'mnist_to_usps' has all training images, 'mnist_to_usps_p' 2,000 of MNIST and
1,800 of USPS (the protocol of CoGAN and ADDA). MNIST and USPS have a smaller F, whose 1,200 numbers and C's first 100 are
the authors'; the other layers are our guess.
"""

from gjax.train.config import base_config, load_module, sibling

ARGUMENTS = load_module(sibling(__file__, 'arguments.py'))
METHODS = ARGUMENTS.METHODS
SETS = {'svhn': 'svhn_cropped', 'mnist': 'mnist', 'usps': 'usps'}
PROTOCOL_P = {'mnist': 2000, 'usps': 1800}
TRANSFERS = ('svhn_to_mnist', 'mnist_to_usps', 'usps_to_mnist', 'mnist_to_usps_p', 'usps_to_mnist_p')


def get_config(arg='generate_to_adapt'):
    method, transfer = ARGUMENTS.parse(arg, TRANSFERS)
    config = base_config()
    config.data.validation = 0.0  # the tables' splits: train and test alone
    config.experiment = f'generate_to_adapt/paper {transfer}'
    source, target = transfer.removesuffix('_p').split('_to_')
    config.data.update(name=SETS[source], target=SETS[target], image_size=32, channels=3)
    if transfer.endswith('_p'):
        config.data.update(examples=PROTOCOL_P[source], target_examples=PROTOCOL_P[target])
    config.train.update(batch_size=100, eval_batch_size=500, steps_per_call=100, checkpoint_every_epochs=5)
    config.train.total_epochs = 100
    config.train.eval_every_epochs = 1
    config.net = {'name': 'gta_digits'}
    if source != 'svhn':
        config.net.update(widths=(32, 48), pool_last=True, hidden=(100, 100))
    config.optimizer.update(name='adam', learning_rate=5e-4, b1=0.8, b2=0.999, schedule='inverse', decay=1e-4)
    config.method = {'name': method}
    return config
