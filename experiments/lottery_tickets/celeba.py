"""Lottery tickets at the paper's scale: CelebA at 64 pixels; the models of cifar10.py with one more halving.

  gjax train --config=experiments/lottery_tickets/celeba.py:dcgan --workdir=runs/dcgan --config.data.dir=DATA

Data: TFDS celeb_a in array_record format (without labels), its 178 x 218 pixels squeezed to 64 x 64. Without classes there
is no classifier to train for distances and no linear probe: give Inception-v3's weights (README.md) by
--config.evaluation.extractor=inception:FILE.npz, or see losses and samples alone.
"""

from gjax.train.config import load_module, sibling

_cifar10 = load_module(sibling(__file__, 'cifar10.py'))
METHODS = _cifar10.METHODS
WIDTHS = {'dcgan': (64, 128, 256, 512), 'resnet_gan': (256, 256, 128, 64)}


def get_config(arg='vae'):
    config = _cifar10.get_config(arg)
    config.experiment = f'lottery_tickets/celeba {arg}'
    config.data.update(name='celeb_a', image_size=64)
    config.evaluation.update(extractor='', probe=False)
    config.train.total_epochs = 50 if arg in _cifar10.GANS else 30
    if arg == 'early_bird':
        config.train.eval_every_epochs = config.train.total_epochs
    if config.net['name'] in WIDTHS:
        config.net['widths'] = WIDTHS[config.net['name']]
    if config.net['name'] == 'resnet_gan':
        config.net['trunk_widths'] = (64, 128, 256, 512)
        config.net['plain'] = 1
    return config
