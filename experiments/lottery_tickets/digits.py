"""Lottery tickets at mini scale: pruning an autoencoder, a VAE and a GAN of handwritten digits.

  gjax reproduce lottery_tickets --seeds=0,1,2      all of them, with claims and figures
  gjax train --config=experiments/lottery_tickets/digits.py:vae --workdir=runs/vae

ae, vae, gan: iterative magnitude pruning; the VAE's ticket goes to a GAN too. gan_to_vae, ae_to_vae: the other transfers,
without controls of the first model. early_bird: structured tickets of a VAE.

Chosen by runs with seeds 10 and 11: codes of 64 (AE) and 32 numbers; a net wide enough for the dense model to spare what
the rounds take; as many epochs as the dense model needs to level off; Adam's b2 0.95 (README.md says why); for the GAN
spectral normalisation (README.md says what happens without), and an average of the generator's weights.
"""

from gjax.train.config import base_config

METHODS = ('vae', 'ae', 'gan', 'early_bird', 'gan_to_vae', 'ae_to_vae')
# 0.8^n of the weights are left. The controls, and the transfer, are those of the round that the paper's claim asks for; the
# rounds go on until tickets break.
ROUNDS = {'ae': 20, 'vae': 16, 'gan': 11}
CONTROL_ROUNDS = {'ae': 14, 'vae': 10, 'gan': 7}  # 95.6, 89.3 and 79.0 % sparsity
EXTRACTOR = 'lottery_tickets/extractor.py:mnist5k'
VAE = {
    'train.total_epochs': 12,
    'train.checkpoint_every_epochs': 12,
    'net.latent': 32,
    'net.trunk_norm': 'batch',
    'optimizer.learning_rate': 5e-3,
    'optimizer.b1': 0.9,
    'optimizer.schedule': 'cosine',
    'method.ema': 0.0,
}
GAN = {
    'train.total_epochs': 24,
    'train.checkpoint_every_epochs': 24,
    'net.trunk_norm': 'spectral',
    'optimizer.learning_rate': 2e-3,
    'optimizer.b1': 0.5,
    'optimizer.schedule': 'constant',
    'method.ema': 0.99,
}


def get_config(arg='vae'):
    if arg not in METHODS:
        raise ValueError(f'the argument is {arg!r}; allowed: {", ".join(METHODS)}')
    if arg in ('gan_to_vae', 'ae_to_vae'):
        return to_vae(arg)
    config = base_config()
    config.data.validation = 0.0  # the tables' splits: train and test alone
    config.experiment = f'lottery_tickets/digits {arg}'
    config.data.name = 'mnist5k'
    config.train.update(batch_size=100, eval_batch_size=500, steps_per_call=40, total_epochs=12, checkpoint_every_epochs=12)
    config.net = {'name': 'dcgan', 'latent': 64 if arg == 'ae' else 32, 'widths': (16, 64)}
    config.optimizer.update(name='adam', learning_rate=5e-3, b2=0.95, schedule='cosine')
    config.evaluation.update(extractor=EXTRACTOR, samples=4000)
    if arg == 'early_bird':
        return early_bird(config)
    config.method.update(name='lottery_tickets', model=arg, rewind_epochs=1.0)
    config.method.update(rounds=ROUNDS[arg], control_rounds=(CONTROL_ROUNDS[arg],))
    config.method.update(controls=('random', 'reinit', 'no_rewind', 'one_shot'))
    if arg == 'vae':
        settings = tuple(f'{key}={value}' for key, value in GAN.items())
        config.method.update(transfer_to='gan', transfer_round=CONTROL_ROUNDS[arg], transfer_settings=settings)
    if arg == 'gan':
        for key, value in GAN.items():
            section, name = key.split('.')
            config[section][name] = value
    return config


def to_vae(arg):
    """The chain of a GAN or an autoencoder up to its controls, whose ticket goes to the VAE of these minis."""
    config, model = get_config(arg.removesuffix('_to_vae')), arg.removesuffix('_to_vae')
    config.experiment = f'lottery_tickets/digits {arg}'
    settings = VAE if model == 'gan' else {}  # the autoencoder's are the VAE's but for longer codes, which stay
    config.method.update(rounds=CONTROL_ROUNDS[model], controls=(), control_rounds=(), transfer_to='vae')
    config.method.transfer_settings = tuple(f'{key}={value}' for key, value in settings.items())
    return config


def early_bird(config):
    """A VAE of the smaller, smoother digits at 32 pixels, wide enough to have channels to spare and trained for long enough
    that a search of some epochs is short. Ranked together, the decoder's channels would all go first: its scales shrink
    faster than the encoder's (mnist5k, widths 32 and 128, seed 10, 85 % of the channels: its first layer kept one)."""
    config.data.name = 'digits'
    config.evaluation.extractor = 'lottery_tickets/extractor.py:digits'
    config.net.widths = (40, 80, 160)
    config.train.update(total_epochs=200, checkpoint_every_epochs=200, eval_every_epochs=200, eval_batch_size=360)
    config.method.update(name='early_bird', model='vae', channels=0.75, scope='layer', gamma_l1=1.0)
    config.method.update(controls=('random', 'reinit', 'snip', 'grasp'))
    return config
