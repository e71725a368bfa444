"""Lottery tickets at the paper's scale: CelebA at 64 pixels; the models of cifar10.py with one more halving.

  gjax train --config=experiments/lottery_tickets/celeba.py:dcgan --workdir=runs/dcgan --config.data.dir=DATA

Data: TFDS celeb_a in array_record format (without labels), its 178 x 218 pixels squeezed to 64 x 64. Without classes there
is no classifier to train for distances and no linear probe: give Inception-v3's weights (README.md) by
--config.evaluation.extractor=inception:FILE.npz, or see losses and samples alone.
"""

from gjax.train.config import load_module, sibling

_cifar10 = load_module(sibling(__file__, 'cifar10.py'))
METHODS = _cifar10.METHODS
WIDTHS = {'dcgan': (64, 128, 256, 512), 'resnet_gan': (64, 128, 256, 512)}
EPOCHS = {'gan': 50, 'ae': 30, 'vae': 30}


def get_config(arg='vae'):
    config = _cifar10.get_config(arg)
    config.experiment = f'lottery_tickets/celeba {arg}'
    config.data.update(name='celeb_a', image_size=64)
    config.evaluation.update(extractor='', probe=False)
    config.train.total_epochs = EPOCHS[config.method.model]
    if other := config.method.get('transfer_to'):
        kept = [setting for setting in config.method.transfer_settings if not setting.startswith('train.total_epochs=')]
        config.method.transfer_settings = (*kept, f'train.total_epochs={EPOCHS[other]}')
    if arg == 'early_bird':
        config.train.eval_every_epochs = config.train.total_epochs
    if config.net['name'] in WIDTHS:
        config.net['widths'] = WIDTHS[config.net['name']]
    if config.net['name'] == 'resnet_gan':
        config.net['trunk_widths'] = (64, 128, 256, 512)
        config.net['plain'] = 1
    return config
