"""The study of flows under attack: clean, adversarial and hybrid training of GLOW and RealNVP."""

import jax
import jax.numpy as jnp
import numpy as np

from gjax import data
from gjax.attacks import linear_flow
from gjax.losses import bits_per_dim
from gjax.study import plots
from gjax.study.claims import Claim, Column, Study, Variant
from gjax.study.reproduce import collect
from gjax.train.config import load_module, sibling
from gjax.train.store.files import read_arrays, read_json
from gjax.train.store.records import read_metrics

paper_plots = load_module(sibling(__file__, 'figures.py'))

TRAININGS = ('clean', 'adversarial', 'hybrid')
NETS = ('glow', 'realnvp')
TEXTURES = 'textures'  # rows of digits on photographs, whose other sets an attack can make likely
LINEAR_EPS = 0.5  # l2, about that of 8/255 in every pixel of 16 x 16
LINEAR = {
    'linear_clean': {'method.adversarial_weight': 0.0},
    **{f'linear_adversarial_{eps}': {'method.eps': eps} for eps in (0.1, 0.25, 0.5)},
}
ROWS = tuple(f'{net}_{training}' for net in NETS for training in TRAININGS)
ON_TEXTURES = tuple(
    f'{net}_{training}_{TEXTURES}' for net, training in (('glow', 'clean'), ('glow', 'hybrid'), ('realnvp', 'clean'))
)


def named(run):
    """How figures call a run: 'GLOW, hybrid', 'linear flow, adversarial 0.1'."""
    net, _, training = run.partition('_')
    known = {'glow': 'GLOW', 'realnvp': 'RealNVP', 'linear': 'linear flow'}
    return f'{known[net]}, {training.replace("_", " ")}'


def derive(directories):
    """How much more an attack adds to the bits per dimension than noise does, and what a training costs and saves beside
    clean training of the same seed.
    """
    metrics = {run: {seed: result['metrics'] for seed, result in by.items()} for run, by in collect(directories).items()}
    found, textures = {}, any(run.endswith(TEXTURES) for run in metrics)  # the paper's scale has no such rows
    for run, seeds in metrics.items():
        for seed, own in seeds.items():
            row = found.setdefault(run, {}).setdefault(seed, {})
            attack, noise = own.get('attacked_adds'), own.get('noise_adds')
            if attack is not None and noise is not None:
                row['attack_minus_5_noise'] = attack - 5 * noise
            net, training = run.split('_')[:2]
            data_set = [TEXTURES] if run.endswith(f'_{TEXTURES}') else []
            foreign = metrics.get(f'{run}_{TEXTURES}', {} if textures else seeds).get(seed, {})
            if training == 'clean' and not data_set and 'attacked_ood_below_median' in foreign:
                row['others_made_likely'] = foreign['attacked_ood_below_median']
            other = metrics.get('_'.join([net, 'clean', *data_set]), {}).get(seed, {})
            if training == 'clean' or 'bits_per_dim' not in other or 'bits_per_dim' not in own:
                continue
            row['clean_cost'] = own['bits_per_dim'] / other['bits_per_dim'] - 1
            if attack is not None and other.get('attacked_adds', 0) > 0:
                row['increase_left'] = attack / other['attacked_adds']
    return found


def theory(train, test, train_radii, eps: float) -> list[tuple[float, float]]:
    """(clean, attacked) bits per dimension of test images under the linear flows that are robust at these radii, in closed
    form: `robust_covariance` of the training images' moments, attacked by `sample_perturbation` of length eps.

    Args:
      train, test: uint8 images [N, H, W, C], taken at the middle of their dequantisation noise, whose variance is added.
    """
    size = train[0].size
    train, test = (jnp.asarray((images.reshape(-1, size) + 0.5) / 256, jnp.float32) for images in (train, test))
    noise = jnp.eye(size) / 12 / 256**2
    mean, covariance = linear_flow.maximum_likelihood(train)
    eps = eps * 255 / 256  # of dequantised images

    @jax.jit
    def point(radius):
        fitted = linear_flow.robust_covariance(covariance + noise, radius)
        blur = 0.5 * jnp.trace(jnp.linalg.solve(fitted, noise))  # what the noise adds to the mean NLL
        moved = test + linear_flow.sample_perturbation(test, mean, fitted, eps)
        return [bits_per_dim(linear_flow.gaussian_nll(x, mean, fitted).mean() + blur, size) for x in (test, moved)]

    return [tuple(float(value) for value in point(radius)) for radius in train_radii]


def _linear(directories):
    """The trade-off of linear flows: closed form and trained."""
    points = {}
    for run in LINEAR:
        metrics = [result['metrics'] for result in collect({run: directories[run]})[run].values()]
        points[run] = [(own['bits_per_dim'], own['attacked_bits_per_dim']) for own in metrics]
    config = read_json(next(iter(directories['linear_clean'].values())) / 'config.json')
    dataset = data.from_config(config['data'], config['seed'])
    images = [np.asarray(split.read(np.arange(len(split))).images) for split in (dataset.train, dataset.test)]
    line = theory(*images, LINEAR_EPS * np.array([0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1, 1.5, 2]), LINEAR_EPS)
    return paper_plots.trade_off(line, {named(run): values for run, values in points.items()})


def figures(directories):
    """Bits per dimension against eps and over training of all runs; of each network's clean and hybrid flow, and those on
    textures, the images before and after the attacks, samples, and histograms.
    """
    results = {named(run): list(seeds.values()) for run, seeds in collect(directories).items() if run in ROWS}
    lines = {
        named(run): [read_metrics(d / 'metrics.jsonl') for d in seeds.values()]
        for run, seeds in directories.items()
        if run in ROWS
    }
    drawn = {
        'bits_against_eps.png': paper_plots.bits_against_eps(results),
        'training_curves.png': plots.training_curves(lines, ('bits_per_dim', 'attacked_bits_per_dim')),
    }
    if all(run in directories for run in LINEAR):
        drawn['linear_trade_off.png'] = _linear(directories)
    for run in [run for run in ROWS + ON_TEXTURES if run in directories and run.split('_')[1] in ('clean', 'hybrid')]:
        arrays = read_arrays(next(iter(directories[run].values())) / 'images.npz')
        drawn[f'{run}_images.png'] = paper_plots.attacked_images(arrays)
        drawn[f'{run}_histogram.png'] = paper_plots.bits_histogram(arrays)
    return drawn


def note(config):
    """How the table's numbers were measured."""
    own = config['evaluation']
    others = ', '.join(name if name != 'noise' else 'uniform noise' for name in own['ood'])
    line = (
        f'Bits per dimension of test images, last step, no selection; attacked: PGD-{own["steps"]} at {own["norm"]} '
        f'{255 * own["eps"]:g}/255, steps falling to zero; noise: uniform, of the same radius. Other sets: {others}'
    )
    if config['data']['name'] == 'mnist5k':
        line += f'; of the rows on {TEXTURES} (mnistm5k in grey): syndigits, mnist5k'
    steps, eps = own['ood_steps'] or own['steps'], own['ood_eps'] or own['eps']
    line += f'; made likely by PGD-{steps} at {255 * eps:g}/255.'
    if config['data']['name'] == 'mnist5k':
        line += f' The linear flows are attacked in l2, at {LINEAR_EPS:g}.'
    return line


def _nonlinear(file):
    return [Variant(f'{net}_{training}', f'{file}:{training},{net}') for net in NETS for training in TRAININGS]


def _mini(file):
    found = _nonlinear(file)
    for run in ON_TEXTURES:
        net, training, _ = run.split('_')
        found.append(Variant(run, f'{file}:{training},{net},mnistm5k'))
    shared = {'method.attack_norm': 'l2', 'evaluation.norm': 'l2', 'evaluation.eps': LINEAR_EPS}
    shared |= {'evaluation.curve': (), 'evaluation.ood': ()}
    return [*found, *(Variant(run, f'{file}:adversarial,linear_flow', shared | own) for run, own in LINEAR.items())]


def _claims():
    deviation = {'mini': 'digits of 16 pixels, small networks'}
    textures = {'mini': 'digits on photographs; over plain ones, with black backgrounds, none becomes so likely'}
    claims = []
    for net, title in zip(NETS, ('GLOW', 'RealNVP'), strict=True):
        own = {'deviation': deviation, 'paper': 'abstract: extremely sensitive'}
        claims += [
            Claim(
                name=f'{net}_attack',
                id='flow-3',
                sentence=f'{title}: an attack adds more than five times the bits that noise of its radius adds: by so many',
                metric='attack_minus_5_noise',
                run=f'{net}_clean',
                at_least=0.0,
                **own,
            ),
            Claim(
                name=f'{net}_foreign',
                id='flow-3',
                sentence=f'{title}: images of other sets become likelier than the median test image: share of them',
                metric='others_made_likely',
                run=f'{net}_clean',
                at_least=0.9,
                **own | {'deviation': textures},
            ),
        ]
        own['paper'] = 'abstract: robustness rises significantly'
        claims += [
            Claim(
                name=f'{net}_hybrid',
                id='flow-4',
                sentence=f'{title}: hybrid training cuts what the attack adds: share that is left of it',
                metric='increase_left',
                run=f'{net}_hybrid',
                at_most=0.5,
                **own,
            ),
            Claim(
                name=f'{net}_finite',
                id='flow-4',
                sentence=f'{title}: and no likelihood fails under attack: share that is not finite',
                metric='attacked_bits_per_dim_non_finite',
                run=f'{net}_hybrid',
                at_most=0.0,
                deviation=deviation,
                paper='',
            ),
            Claim(
                name=f'{net}_cost',
                id='flow-4',
                sentence=f'{title}: at a small cost: bits of clean images over those of clean training, minus 1',
                metric='clean_cost',
                run=f'{net}_hybrid',
                at_most=0.1,
                **own,
            ),
            Claim(
                name=f'{net}_adversarial',
                id='flow-4',
                sentence=f'{title}: adversarial training alone costs more than hybrid training: bits per dimension',
                metric='bits_per_dim',
                run=f'{net}_adversarial',
                minus=f'{net}_hybrid',
                at_least=0.0,
                deviation=deviation,
                paper='in words',
            ),
        ]
    return claims


# Rows that were attacked otherwise, or whose other sets are others, have tables of their own.
BITS = 'How many bits per dimension do test images take, clean, under noise and under attack?'
COST = 'What does training against attacks cost, and what does it leave of the attack (%)?'
TOLD = "Are digits and uniform noise told from MNIST's digits (AUROC, %)?"
TOLD_ON_TEXTURES = 'Are syndigits and mnist5k told from digits on textures (AUROC, %)?'
LIKELY = "Which share of digits and uniform noise is likelier than the median of MNIST's digits (%)?"
LIKELY_ON_TEXTURES = 'Which share of other digits is likelier than the median of digits on textures (%)?'
LINEAR_BITS = 'The same bits per dimension of linear flows, attacked in l2'
LINEAR_COST = 'The same cost and rest of linear flows, attacked in l2 (%)'
_BITS = {
    'bits_per_dim': Column('clean', 1, 2),
    'noise_bits_per_dim': Column('under noise', 1, 2),
    'attacked_bits_per_dim': Column('attacked', 1, 2),
}
_COST = {
    'clean_cost': Column('more clean bits'),
    'increase_left': Column('left of what the attack adds'),
    'attacked_bits_per_dim_non_finite': Column('attacked, not finite'),
}
_TOLD = {
    'ood_auroc': Column('by bits'),
    'attacked_ood_auroc': Column('by bits, attacked'),
    'attacked_ood_auroc_typicality': Column('by typicality, attacked'),
    'attacked_ood_auroc_complexity': Column('by complexity, attacked'),
}

STUDY = Study(
    name='flow_robustness',
    title='Adversarial robustness of flows',
    headline='glow_hybrid',
    variants={'mini': _mini('digits.py'), 'paper': _nonlinear('paper.py')},
    rows=(*ROWS, *ON_TEXTURES, *LINEAR),
    claims=_claims(),
    tables={
        BITS: _BITS,
        COST: _COST,
        TOLD: _TOLD,
        TOLD_ON_TEXTURES: _TOLD,
        LIKELY: {
            'ood_below_median': Column('before the attack'),
            'attacked_ood_below_median': Column('attacked'),
        },
        LIKELY_ON_TEXTURES: {
            'attacked_ood_below_median': Column('both, attacked'),
            'ood_below_median_syndigits': Column('syndigits'),
            'attacked_ood_below_median_syndigits': Column('syndigits, attacked'),
            'ood_below_median_mnist5k': Column('mnist5k'),
            'attacked_ood_below_median_mnist5k': Column('mnist5k, attacked'),
        },
        LINEAR_BITS: _BITS,
        LINEAR_COST: _COST,
    },
    only={
        BITS: (*ROWS, *ON_TEXTURES),
        COST: (*ROWS, *ON_TEXTURES),
        TOLD: ROWS,
        TOLD_ON_TEXTURES: ON_TEXTURES,
        LIKELY: ROWS,
        LIKELY_ON_TEXTURES: ON_TEXTURES,
        LINEAR_BITS: tuple(LINEAR),
        LINEAR_COST: tuple(LINEAR),
    },
    derive=derive,
    figures=figures,
    note=note,
)
