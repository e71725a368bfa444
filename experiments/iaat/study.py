"""The study of instance-adaptive adversarial training: IAAT against its baselines, and ablations of its own."""

from gjax import data
from gjax.metrics import spearman
from gjax.study import plots
from gjax.study.claims import Claim, Column, Study, Variant
from gjax.study.reproduce import collect
from gjax.train.config import load_module, sibling
from gjax.train.store.files import read_arrays, read_json
from gjax.train.store.records import read_metrics

paper_plots = load_module(sibling(__file__, 'figures.py'))

METHODS = ('supervised', 'adversarial_training', 'trades', 'interpolated_adversarial_training', 'iaat')


def named(run):
    """How figures call a run: 'adversarial training', 'IAAT capped'."""
    return ' '.join(word.upper() if word in ('iaat', 'trades') else word for word in run.split('_'))


def derive(directories):
    """The rank correlation of IAAT's radii with the margins of another network: the supervised run of the same seed."""
    derived = {}
    for seed, directory in directories.get('supervised', {}).items():
        margin = read_arrays(directory / 'examples.npz')['margin']
        for run in directories:
            other = directories[run].get(seed)
            if run.startswith('iaat') and other is not None:
                radius = read_arrays(other / 'examples.npz')['radius']
                value = {'radius_supervised_margin': spearman(radius, margin)}
                derived.setdefault(run, {})[seed] = value
    return derived


def figures(directories):
    """Curves and accuracy against eps of the methods, the frontier of all runs, radii of the first IAAT run."""
    results = {named(run): list(seeds.values()) for run, seeds in collect(directories).items()}
    methods = {run: named(run) for run in directories if run in METHODS}
    lines = {name: [read_metrics(d / 'metrics.jsonl') for d in directories[run].values()] for run, name in methods.items()}
    first = next(iter(directories['iaat'].values()))
    config = read_json(first / 'config.json')
    eps = config['evaluation']['eps']
    radius = read_arrays(first / 'examples.npz')['radius']
    chosen = paper_plots.extremes(radius, 24)
    shown = data.from_config(config['data'], config['seed']).train.read(chosen)
    return {
        'training_curves.png': plots.training_curves(lines),
        'accuracy_against_eps.png': paper_plots.accuracy_against_eps(
            {name: results[name] for name in methods.values()}, eps
        ),
        'frontier.png': plots.frontier(results),
        'radius_histogram.png': paper_plots.radius_histogram(lines[named('iaat')][0], eps),
        'radius_contact_sheet.png': paper_plots.radius_contact_sheet(shown.images, shown.labels, radius[chosen]),
    }


def note(config):
    """How the table's numbers were measured."""
    test = config['evaluation']
    starts = 'one random start' if test['restarts'] == 1 else f'{test["restarts"]} restarts'
    radius = f'{255 * test["eps"]:g}/255' if test['norm'] == 'linf' else f'{test["eps"]:g}'
    steps, used = test['steps'], test.get('attacks', ('pgd',))
    names = {'pgd': f'PGD-{steps}', 'margin_pgd': f'PGD-{steps} on the margin'}
    words = ' and '.join(names[name] for name in used if name in names) + f' with {starts}'
    others = [name for name in used if name not in names]
    if 'multi_targeted' in others:
        words += f', and {test["target_steps"]} steps towards each of {test["targets"]} classes'
    words += ''.join(f', and {name}' for name in others if name != 'multi_targeted')
    words += ',' if others else ''
    return f'Test split, last step, no selection. Robust: worst of {words} at {test["norm"]} {radius}.'


def _variants(file, ablations, uniform):
    extras = [Variant('mixup', f'{file}:mixup', extra=True)]
    extras += [Variant(name, f'{file}:adversarial_training', overrides, extra=True) for name, overrides in uniform.items()]
    extras += [Variant(f'iaat_{name}', f'{file}:iaat', overrides, extra=True) for name, overrides in ablations.items()]
    return [*(Variant(method, f'{file}:{method}') for method in METHODS), *extras]


_UNIFORM = {
    # Is a smaller radius for all as good? Trained at some half of the test's radius, tested as the others.
    'adversarial_training_at_32': {'method.eps': 32 / 255, 'method.step_size': 12.8 / 255},
    'adversarial_training_batch_statistics': {'method.attack_batch_norm': 'train'},
}
_REUSE = {'reuse_attack': {'method.reuse_attack': True}}
_MINI_ABLATIONS = {
    'capped': {'method.eps_max': 84 / 255},  # 1.5 times the radius of the test
    'authors_batch_norm': {'method.attack_batch_norm': 'train_update'},
    'batch_statistics': {'method.attack_batch_norm': 'train'},
} | _REUSE
_PAPER_ABLATIONS = {
    'batch_statistics': {'method.attack_batch_norm': 'train'},
    'frozen_batch_norm': {'method.attack_batch_norm': 'eval'},
} | _REUSE
_NO_TABLE = 'abstract: holds on CIFAR and ImageNet; no table could be retrieved'
_DEVIATION = {
    'mini': 'digits on photos, small network, 56/255, 30 epochs',
    'small': 'small network, 20 epochs, attacks of 5 steps in training',
}

STUDY = Study(
    name='iaat',
    title='Instance-adaptive adversarial training',
    headline='iaat_gains_clean',
    seeds=(0, 1, 2, 3, 4),  # a run takes a minute or two
    variants={
        'mini': _variants('digits.py', _MINI_ABLATIONS, _UNIFORM),
        'small': [Variant(method, f'small.py:{method}') for method in METHODS],
        'paper': _variants('cifar10.py', _PAPER_ABLATIONS, {}),
    },
    claims=[
        Claim(
            'uniform_costs_clean',
            'One radius for all costs clean accuracy: supervised minus adversarial_training',
            'clean_accuracy',
            'supervised',
            minus='adversarial_training',
            at_least=0.03,
            paper=_NO_TABLE,
            deviation=_DEVIATION,
            id='iaat-1',
        ),
        Claim(
            'iaat_gains_clean',
            'Adapting the radius wins clean accuracy back: iaat minus adversarial_training',
            'clean_accuracy',
            'iaat',
            minus='adversarial_training',
            at_least=0.015,
            paper=_NO_TABLE,
            deviation=_DEVIATION,
            id='iaat-2',
        ),
        Claim(
            'iaat_keeps_robust',
            'with a marginal loss of robustness: iaat minus adversarial_training, robust',
            'robust_accuracy',
            'iaat',
            minus='adversarial_training',
            at_least=-0.02,
            paper=_NO_TABLE,
            deviation=_DEVIATION,
            id='iaat-3',
        ),
        Claim(
            'radii_spread',
            'Radii spread over a range: 90th minus 10th percentile (in [0, 1])',
            'radius_p90',
            'iaat',
            minus_metric='radius_p10',
            at_least=8 / 255,
            paper='in words',
        ),
        Claim(
            'misclassified_low',
            'Misclassified images sit low: mean radius of right minus misclassified ones',
            'mean_radius_correct',
            'iaat',
            minus_metric='mean_radius_misclassified',
            at_least=4 / 255,
            paper='in words',
        ),
        Claim(
            'ambiguous_low',
            'Ambiguous images sit low: rank correlation of radius and margin of the supervised network',
            'radius_supervised_margin',
            'iaat',
            at_least=0.2,
            paper='in words: radii follow visual ambiguity',
        ),
    ],
    tables={
        'How accurate is each method, clean and under attack (%)?': {
            'clean_accuracy': Column('clean accuracy'),
            'robust_accuracy': Column('robust accuracy'),
        },
        'How large are the radii of training images (/255)?': {
            'mean_radius': Column('mean', 255),
            'radius_p10': Column('10th percentile', 255),
            'radius_p90': Column('90th percentile', 255),
        },
    },
    derive=derive,
    figures=figures,
    note=note,
)
