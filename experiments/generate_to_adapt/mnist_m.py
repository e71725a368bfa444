"""The ground on which adaptation must work: MNIST to MNIST-M with DANN's digit network, normalised, at 32 pixels.

  gjax reproduce generate_to_adapt --scale=small --seeds=0,1,2 \\
    --set config.data.name=npz:mnist.npz --set config.data.target=npz:mnistm.npz
  gjax train --config=experiments/generate_to_adapt/mnist_m.py:dann --workdir=runs/dann-mnist-m

The argument is the method. data.name is TFDS's `mnist`, data.target the set of `gjax prepare mnist_m`; files with the
same images do as well. Every domain's batch passes alone through the network. The running statistics with which images are
classified are the average over both domains' batches, of source_only the source's, of adabn the target's for the target.
Settings are those of public reimplementations of DANN (Adam, 1e-3, batches of 64 + 64, lambda rising to 1); they were looked
at on seed 10 with the target's test split before seeds 0 to 2.
"""

from gjax.train.config import base_config

METHODS = ('source_only', 'adabn', 'dann')


def get_config(arg='dann'):
    if arg not in METHODS:
        raise ValueError(f'the argument is {arg!r}; allowed: {", ".join(METHODS)}')
    config = base_config()
    config.experiment = 'generate_to_adapt/small mnist_to_mnist_m'
    config.data.validation = 0.0  # the packs' splits: train and test alone
    config.data.update(name='mnist', target='mnist_m', image_size=32, channels=3)
    config.train.update(batch_size=64, eval_batch_size=500, total_steps=3000, eval_every_steps=1000, steps_per_call=20)
    config.train.checkpoint_every_steps = 1000
    config.net = {'name': 'dann_digits'}
    config.optimizer.update(name='adam', learning_rate=1e-3, schedule='constant')
    config.method = {'name': arg}
    return config
