"""Domain-specific masks and their baselines on PACS and DomainNet, with the released code's hyperparameters.

  gjax prepare pacs                                   and gjax prepare domainnet, 0.6 million images
  gjax train --config=experiments/dmg/paper.py:dmg,sketch --workdir=runs/dmg-sketch --config.net.weights=resnet18.pth
  gjax train --config=experiments/dmg/paper.py:aggregate,clipart --workdir=runs/aggregate-clipart --config.net.weights=...

The argument is METHOD or METHOD,UNSEEN, UNSEEN a domain of PACS or of DomainNet. Weights are torchvision's of ImageNet, from
a local file. Networks: ResNet-18 by default, --config.net.name=resnet50 or alexnet; for AlexNet on DomainNet also
--config.net.head_std=0.001. Masks' options are the released ones: Adam of the network's rate, whose schedule the masks share
on DomainNet but not on PACS. Masks hardly move so; --config.method.mask_learning_rate=0.01 moves them.

What differs from the released code: images are cropped after padding by 28 pixels instead of a random resized crop of 80 to
100 % of the image, and there is no colour jitter. The checkpoint with the best accuracy on the sources' validation splits is
reported beside the last step, as '..._selected_by_source'.
"""

from gjax.train.config import base_config, load_module, sibling

ARGUMENTS = load_module(sibling(__file__, 'arguments.py'))
METHODS = ARGUMENTS.METHODS
PACS = {domain: f'pacs/{domain}' for domain in ('photo', 'art_painting', 'cartoon', 'sketch')}
NAMES = ('clipart', 'infograph', 'painting', 'quickdraw', 'real')
DOMAINNET = {domain: f'domainnet/{domain}' for domain in NAMES} | {'sketch_of_domainnet': 'domainnet/sketch'}


def get_config(arg='dmg'):
    method, unseen = ARGUMENTS.parse(arg, PACS | DOMAINNET)
    on_pacs = unseen in PACS
    config = base_config()
    config.experiment = f'dmg/paper {unseen} unseen'
    config.data.update(image_size=224, channels=3, flip=True, padding=28, padding_mode='edge')
    config.data.update(validation=0.1, **ARGUMENTS.leave_out(PACS if on_pacs else DOMAINNET, unseen))
    config.train.update(batch_size=64, eval_batch_size=256, eval_every_epochs=1, checkpoint_every_epochs=1)
    config.net = {'name': 'resnet18'}
    config.optimizer.update(name='adam', learning_rate=1e-4)
    config.method = ARGUMENTS.options(method)
    if on_pacs:
        config.train.total_epochs = 150 if method == 'dmg' else 100
        config.optimizer.update(weight_decay=1e-5, schedule='exponential', factor=0.99)
    else:
        config.data.update(streaming=True, workers=16)
        config.train.total_epochs = 50
        config.optimizer.update(schedule='inverse', decay=1e-4, power=0.75)
    if method == 'dmg':
        config.method.update(mask_schedule='constant' if on_pacs else 'network', mask_weight_decay=1e-5 if on_pacs else 0.0)
    return config
