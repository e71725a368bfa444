"""Generate To Adapt and its baselines with ResNet-50: Office-31, VISDA-17 and faces from frontal to profile (CFP).

  gjax prepare office31
  gjax train --config=experiments/generate_to_adapt/large.py:generate_to_adapt,amazon_to_webcam --workdir=runs/a-w \\
      --config.net.weights=resnet50-11ad3fa6.pth           torchvision's ImageNet weights (.pth takes torch to read)
  gjax train --config=experiments/generate_to_adapt/large.py:generate_to_adapt,visda --workdir=runs/visda

visda: the folders train (synthetic) and validation (real) of the published set, class/image in each, under folder:visda.
cfp: folder:cfp/frontal and folder:cfp/profile, person/image in each. The authors' code for these was never released: batch,
steps and rates are those of common practice with ResNet-50, the weights of the losses the digits'.
"""

from gjax.train.config import base_config, load_module, sibling

ARGUMENTS = load_module(sibling(__file__, 'arguments.py'))
METHODS = ARGUMENTS.METHODS
OFFICE = ('amazon', 'dslr', 'webcam')
TRANSFERS = {'amazon_to_webcam': ('office31/amazon', 'office31/webcam')}  # the default comes first
TRANSFERS |= {f'{s}_to_{t}': (f'office31/{s}', f'office31/{t}') for s in OFFICE for t in OFFICE if s != t}
TRANSFERS |= {
    'visda': ('folder:visda/train', 'folder:visda/validation'),
    'cfp': ('folder:cfp/frontal', 'folder:cfp/profile'),
}


def get_config(arg='generate_to_adapt'):
    method, transfer = ARGUMENTS.parse(arg, TRANSFERS)
    config = base_config()
    config.data.validation = 0.0  # the tables' splits: train and test alone
    config.experiment = f'generate_to_adapt/large {transfer}'
    config.data.name, config.data.target = TRANSFERS[transfer]
    config.data.update(
        image_size=224, padding=16, flip=True, streaming=transfer == 'visda', workers=8 * (transfer == 'visda')
    )
    config.train.update(batch_size=32, eval_batch_size=64, steps_per_call=50, total_steps=10_000, eval_every_steps=500)
    config.train.checkpoint_every_steps = 1000
    config.net = {'name': 'gta_resnet50'}
    config.optimizer.update(name='adam', learning_rate=1e-4, b1=0.8, b2=0.999, schedule='inverse', decay=1e-4)
    config.method = {'name': method}
    return config
