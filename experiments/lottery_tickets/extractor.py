"""The classifiers whose features the Fréchet distances of lottery_tickets compare; each is trained once and kept.

gjax train --config=experiments/lottery_tickets/extractor.py:mnist5k --workdir=runs/extractor
"""

from gjax.train.config import base_config

METHODS = ('mnist5k', 'digits', 'mnistm5k', 'cifar10')


def get_config(arg='mnist5k'):
    if arg not in METHODS:
        raise ValueError(f'the argument is {arg!r}; allowed: {", ".join(METHODS)}')
    config = base_config()
    config.data.validation = 0.0  # the tables' splits: train and test alone
    config.experiment = f'extractor {arg}'
    config.data.name = arg
    config.data.padding = 2
    config.data.padding_mode = 'constant'
    config.train.update(
        batch_size=100, eval_batch_size=200, total_epochs=15, checkpoint_every_epochs=15, eval_every_epochs=5
    )
    config.net.update(name='small_cnn', widths=(16, 32, 64), hidden=64)
    config.optimizer.update(name='adam', learning_rate=2e-3, schedule='cosine')
    config.evaluation.update(attacks=('pgd',), steps=1, restarts=1, quick_steps=1)  # its features count, not its robustness
    if arg == 'cifar10':
        config.data.update(padding=4, flip=True)
        config.train.update(batch_size=128, total_epochs=30, checkpoint_every_epochs=30)
        config.net = {'name': 'preact_resnet18'}
        config.optimizer.update(name='sgd', learning_rate=0.1, momentum=0.9, weight_decay=5e-4)
    return config
