"""Lottery tickets at the paper's scale: CIFAR-10, the paper's models.

  gjax train --config=experiments/lottery_tickets/cifar10.py:sngan --workdir=runs/sngan --config.data.dir=DATA

Data: TFDS cifar10 in array_record format. Each config is a chain of a dense run, twenty-one rounds (99 % sparsity) and the
controls: a pod's job, whose stages can be started one by one (`--config.stage=round03`). Settings from the sheet, which has
them from memory of the paper: pruned by a fifth, Adam 2e-4 with betas 0.5 and 0.999 at batch 64 (GANs), 1e-3 at 128 (AE and
VAE), WGAN-GP's five critic steps and penalty 10 from its own paper. Distances to features of an extractor of ours; for those
that compare with published ones: --config.evaluation.extractor=inception:FILE.npz --config.evaluation.samples=50000.
"""

from gjax.train.config import base_config

AUTOENCODERS = ('ae', 'linear_ae', 'vae', 'beta_vae', 'resnet_vae')
GANS = ('dcgan', 'sngan', 'resnet_dcgan', 'wgan', 'wgan_gp')
TRANSFERS = ('gan_to_vae', 'ae_to_vae')
METHODS = (*AUTOENCODERS, *GANS, 'early_bird', *TRANSFERS)
ROUNDS = 21
# What the VAE's GAN and the GAN's VAE change of the config that the ticket comes from.
DCGAN = {
    'train.batch_size': 64,
    'train.total_epochs': 200,
    'optimizer.learning_rate': 2e-4,
    'optimizer.b1': 0.5,
    'optimizer.schedule': 'constant',
    'method.ema': 0.999,
}
VAE = {
    'train.batch_size': 128,
    'train.total_epochs': 100,
    'optimizer.learning_rate': 1e-3,
    'optimizer.b1': 0.9,
    'optimizer.schedule': 'cosine',
    'method.ema': 0.0,
    'method.reconstruction': 'squared_error',
}
EXTRACTOR = 'lottery_tickets/extractor.py:cifar10'


def get_config(arg='vae'):
    if arg not in METHODS:
        raise ValueError(f'the argument is {arg!r}; allowed: {", ".join(METHODS)}')
    if arg in TRANSFERS:
        return to_vae(arg)
    config = base_config()
    config.data.validation = 0.0  # the tables' splits: train and test alone
    config.experiment = f'lottery_tickets/cifar10 {arg}'
    config.data.update(name='cifar10', flip=True)
    config.net = network(arg)
    config.train.update(batch_size=64, eval_batch_size=500, checkpoint_every_epochs=5, eval_every_epochs=5)
    config.optimizer.update(name='adam', learning_rate=2e-4, b1=0.5, b2=0.999)
    config.evaluation.update(extractor=EXTRACTOR, samples=10_000)
    if arg in GANS:
        config.train.total_epochs = 200
        config.method.update(name='lottery_tickets', model='gan', ema=0.999, **gan(arg))
    else:
        config.train.update(batch_size=128, total_epochs=100)
        config.optimizer.update(learning_rate=1e-3, b1=0.9, schedule='cosine')
        config.method.update(name='lottery_tickets', model='ae' if arg.endswith('ae') and 'vae' not in arg else 'vae')
        config.method.update(beta=4.0 if arg == 'beta_vae' else 1.0, reconstruction='squared_error')
    if arg == 'early_bird':
        return early_bird(config)
    config.method.update(rounds=ROUNDS, rewind_epochs=1.0, controls=('random', 'reinit', 'no_rewind', 'one_shot'))
    # 89, 93 and 99 %: the abstract's GANs, VAEs and autoencoders.
    config.method.control_rounds = (10 if arg in GANS else ROUNDS if config.method.model == 'ae' else 12,)
    if arg == 'vae':
        config.method.update(transfer_to='gan', transfer_round=12, transfer_settings=settings(DCGAN))
    return config


def settings(values: dict) -> tuple[str, ...]:
    return tuple(f'{key}={value}' for key, value in values.items())


def to_vae(arg: str):
    """The chain of the DCGAN or the autoencoder up to its controls' round, whose ticket goes to the VAE."""
    config = get_config('dcgan' if arg == 'gan_to_vae' else 'ae')
    config.experiment = f'lottery_tickets/cifar10 {arg}'
    config.method.update(rounds=config.method.control_rounds[0], controls=(), control_rounds=(), transfer_to='vae')
    config.method.transfer_settings = settings(VAE) if arg == 'gan_to_vae' else ()
    return config


def network(arg: str) -> dict:
    if arg == 'linear_ae':
        return {'name': 'mlp', 'widths': (), 'latent': 128}
    if arg in ('resnet_vae', 'resnet_dcgan', 'sngan'):
        return {'name': 'resnet_gan', 'trunk_norm': 'spectral' if arg == 'sngan' else 'batch'}
    norm = {'wgan': 'none', 'wgan_gp': 'none'}.get(arg, 'batch')
    return {'name': 'dcgan', 'widths': (128, 256, 512), 'latent': 128, 'trunk_norm': norm}


def gan(arg: str) -> dict:
    """The loss and the constraint of each GAN."""
    if arg == 'sngan':
        return {'loss': 'hinge', 'critic_steps': 5}
    if arg == 'wgan':
        return {'loss': 'wasserstein', 'critic_steps': 5, 'clip': 0.01}
    if arg == 'wgan_gp':
        return {'loss': 'wasserstein', 'critic_steps': 5, 'penalty': 10.0}
    return {'loss': 'non_saturating'}


def early_bird(config):
    """The structured ticket of the VAE."""
    options = {'model': 'vae', 'beta': 1.0, 'reconstruction': 'squared_error'}
    config.method = {'name': 'early_bird', **options}
    config.method.update(channels=0.7, scope='layer', gamma_l1=1.0, controls=('random', 'reinit', 'snip', 'grasp'))
    config.train.eval_every_epochs = config.train.total_epochs  # each logs a matrix of all epochs' masks
    return config
