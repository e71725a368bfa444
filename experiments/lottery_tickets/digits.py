"""Lottery tickets at mini scale: iterative magnitude pruning of an autoencoder, a VAE and a GAN of handwritten digits.

  gjax reproduce lottery_tickets --seeds=0,1,2      all three, with claims and figures
  gjax train --config=experiments/lottery_tickets/digits.py:vae --workdir=runs/vae

Chosen by runs with seed 10: codes of 64 (AE) and 32 numbers, wide enough for the dense model to spare what the rounds take;
twelve epochs, where it has levelled off; Adam's b2 0.95 (README.md says why). The GAN's settings are a first guess.
"""

from gjax.train.config import base_config

METHODS = ('vae', 'ae', 'gan')
ROUNDS = {'ae': 14, 'vae': 10, 'gan': 7}  # 0.8^n of the weights are left: 4.4, 10.7 and 21 %
EXTRACTOR = 'lottery_tickets/extractor.py:mnist5k'


def get_config(arg='vae'):
    if arg not in METHODS:
        raise ValueError(f'the argument is {arg!r}; allowed: {", ".join(METHODS)}')
    config = base_config()
    config.experiment = f'lottery_tickets/digits {arg}'
    config.data.name = 'mnist5k'
    config.train.update(batch_size=100, eval_batch_size=500, steps_per_call=40, total_epochs=12, checkpoint_every_epochs=12)
    config.net = {'name': 'dcgan', 'latent': 64 if arg == 'ae' else 32, 'widths': (16, 64)}
    config.optimizer.update(name='adam', learning_rate=5e-3, b2=0.95, schedule='cosine')
    config.evaluation.update(extractor=EXTRACTOR, samples=4000)
    config.method.update(name='lottery_tickets', model=arg, rewind_epochs=1.0)
    config.method.update(rounds=ROUNDS[arg], controls=('random', 'reinit', 'no_rewind', 'one_shot'))
    if arg == 'vae':
        config.method.update(transfer_to='gan', transfer_learning_rate=1e-3, transfer_b1=0.5)
    if arg == 'gan':
        config.optimizer.update(learning_rate=1e-3, b1=0.5, schedule='constant')
    return config
