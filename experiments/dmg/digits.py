"""Domain-specific masks and their baselines at mini scale: digits of three kinds, one of which is unseen.

  gjax reproduce dmg --seeds=0,1,2,3,4                the table of README.md
  gjax train --config=experiments/dmg/digits.py:dmg --workdir=runs/dmg
  gjax train --config=experiments/dmg/digits.py:aggregate,digits --workdir=runs/aggregate

The argument is METHOD or METHOD,UNSEEN: training sees the other two. All methods share the network, the optimiser, batches
and steps. `mnistm5k` is left out because it is made of the digits of `mnist5k`.

Two options of masks are not the released ones, which were made for networks that know ImageNet. Masks learn at five times
the network's first rate, and begin with logits in [2, 3), so that a unit is first kept with probability 0.88 to 0.95: where
only 0.62 are kept on average, a new network of this size learns slowly (README.md). The network's rate falls to zero, the
masks' stays.
"""

from gjax.train.config import base_config, load_module, sibling

ARGUMENTS = load_module(sibling(__file__, 'arguments.py'))
METHODS = ARGUMENTS.METHODS
DOMAINS = {'mnist5k': 'mnist5k', 'digits': 'digits', 'syndigits': 'syndigits'}


def get_config(arg='dmg'):
    method, unseen = ARGUMENTS.parse(arg, DOMAINS)
    config = base_config()
    config.experiment = f'dmg/digits {unseen} unseen'
    config.data.update(image_size=16, channels=3, **ARGUMENTS.leave_out(DOMAINS, unseen))
    config.train.update(batch_size=64, eval_batch_size=250, total_steps=3000, eval_every_steps=500, steps_per_call=50)
    config.train.checkpoint_every_steps = 1000
    config.net = {'name': 'masked_cnn', 'widths': (16, 32, 96, 128)}
    config.optimizer.update(name='adam', learning_rate=1e-3, schedule='cosine')
    config.method = ARGUMENTS.options(method, mask_learning_rate=0.005, mask_start=(2.0, 3.0))
    return config
