"""IAAT and its baselines on ImageNet with ResNet-50. All of it from memory: the released code has no ImageNet.

The paper reports ImageNet with ResNets; network, schedule, radius and augmentation below are common practice for
adversarial training at that scale (radius 4/255, 90 epochs) and must not be read as the authors' values.

Data: a folder tree train/CLASS/*.jpg, val/CLASS/*.jpg, or the TFDS set imagenet2012, resized to 224 pixels and streamed:
eight processes of every host decode its share of the batches while the accelerators train.

  gjax train --config=experiments/iaat/imagenet.py --workdir=runs/imagenet-iaat --config.data.name=folder:/data/imagenet
"""

from gjax.train.config import load_module, sibling

EPS = 4 / 255  # from memory


def get_config(arg='iaat'):
    config = load_module(sibling(__file__, 'cifar10.py')).get_config(arg)
    config.experiment = 'iaat/imagenet'
    config.data.update(name='folder:imagenet', image_size=224, padding=28, padding_mode='reflect', flip=True)
    config.data.update(streaming=True, workers=8)
    config.net = {'name': 'resnet50', 'dtype': 'bfloat16'}
    config.train.update(batch_size=256, eval_batch_size=128, total_epochs=90)  # from memory
    config.optimizer.update(milestones=(30, 60, 80), factor=0.1, weight_decay=1e-4)  # from memory
    config.evaluation.update(eps=EPS, step_size=1 / 255, curve=tuple(n / 255 for n in (1, 2, 4, 6, 8)))
    if config.method.name == 'iaat':
        config.method.update(eps=EPS, gamma=0.95 / 255, min_step=1 / 255)  # CIFAR's, halved with the radius
    elif 'eps' in config.method:
        config.method.update(eps=EPS, step_size=1 / 255)
    return config
