"""The study of lottery tickets: how sparse an autoencoder, a VAE and a GAN can be, against the controls; what a structured
early-bird ticket of a VAE saves."""

import itertools
import re

import numpy as np

from gjax import masks
from gjax.study import plots
from gjax.study.claims import Claim, Column, Study, Variant
from gjax.study.reproduce import collect
from gjax.train.config import load_module, sibling
from gjax.train.store.files import read_arrays, read_json
from gjax.train.store.records import read_metrics
from gjax.train.store.tickets import load_ticket

paper_plots = load_module(sibling(__file__, 'figures.py'))

# What must stay as the dense model's: a test loss, or the distance of samples to the data.
SCORES = {'ae': 'loss', 'vae': 'loss', 'gan': 'frechet_distance'}
CONTROLS = {'random': 'random mask', 'reinit': 'other weights', 'no_rewind': 'no rewinding', 'one_shot': 'one shot'}
LOST = {'loss': 1.05, 'frechet_distance': 1.15}  # times the dense model's: above, a ticket has broken


def _rounds(metrics):
    """The names of the pruning rounds, in order."""
    return sorted({name.split('/')[0] for name in metrics if re.match(r'round\d+/', name)})


def _controlled(metrics):
    """The round from which the controls branch off."""
    return next(name.partition('_')[0] for name in metrics if re.match(r'round\d+_random/', name))


def _relative(metrics, model):
    """A chain's scores as multiples of its dense model's, the lower the better, and the sparsity at which tickets break."""
    score, last = SCORES[model], _controlled(metrics)
    dense = metrics[f'dense/{score}']
    found = {'sparsity': metrics[f'{last}/sparsity'], 'ticket': metrics[f'{last}/{score}'] / dense}
    found |= _against({c: metrics[f'{last}_{c}/{score}'] / dense for c in CONTROLS}, found['ticket'])
    good = itertools.takewhile(lambda name: metrics[f'{name}/{score}'] <= LOST[score] * dense, _rounds(metrics))
    found['sparsest_good'] = max((metrics[f'{name}/sparsity'] for name in good), default=0.0)
    return found | (_transferred(metrics, 'gan', 'frechet_distance') if 'gan_ticket/frechet_distance' in metrics else {})


def _transferred(metrics, to, score):
    """The score of another model with the ticket, as a multiple of the dense one's, and of its controls as one of that."""
    ticket = metrics[f'{to}_ticket/{score}']
    found = {f'transferred_{c}': metrics[f'{to}_{c}/{score}'] / ticket for c in ('reinit', 'random')}
    return {'transferred': ticket / metrics[f'{to}_dense/{score}'], **found}


def _against(controls, ticket):
    """The controls, and each as a multiple of the ticket."""
    return controls | {f'{name}_over_ticket': value / ticket for name, value in controls.items()}


def _early_bird(folder, metrics):
    """An early bird's costs, its search included, and scores, as multiples of its dense model's."""
    score = 'frechet_distance'
    steps = {name: read_json(folder / name / 'results.json')['step'] for name in ('dense', 'search')}
    steps['early_bird'] = steps['dense'] - steps['search']
    flops = {name: metrics[f'{name}/step_flops'] * count for name, count in steps.items()}
    seconds = {name: read_json(folder / name / 'run.json')['train_seconds'] for name in steps}
    total = {name: each['search'] + each['early_bird'] for name, each in (('flops', flops), ('seconds', seconds))}
    dense = metrics[f'dense/{score}']
    ticket = metrics[f'early_bird/{score}'] / dense
    stages = {'random': 'early_bird_random', 'reinit': 'early_bird_reinit', 'snip': 'snip', 'grasp': 'grasp'}
    return {
        'train_flops': total['flops'],
        'train_seconds': total['seconds'],
        'flops_share': total['flops'] / flops['dense'],
        'seconds_share': total['seconds'] / seconds['dense'],
        'search_share': steps['search'] / steps['dense'],
        'parameters_share': metrics['early_bird/parameters'] / metrics['dense/parameters'],
        'sparsity': 1 - metrics['early_bird/parameters'] / metrics['dense/parameters'],
        'ticket': ticket,
        **_against({c: metrics[f'{stage}/{score}'] / dense for c, stage in stages.items()}, ticket),
    }


def derive(directories):
    results, found = collect(directories), {}
    for run, by in results.items():
        if run in SCORES:
            found[run] = {seed: _relative(r['metrics'], run) for seed, r in by.items()}
        elif run.endswith('_to_vae'):
            found[run] = {seed: _transferred(r['metrics'], 'vae', 'loss') for seed, r in by.items()}
        elif run == 'early_bird':
            found[run] = {seed: _early_bird(directories[run][seed], r['metrics']) for seed, r in by.items()}
    return found


def figures(directories):
    """Scores against the remaining weights, with all controls and their spread; what is left of each layer; samples at each
    sparsity; the distances between the masks of an early bird's search."""
    results, drawn = collect(directories), {}
    for run in (run for run in results if run in SCORES):
        score, chains = SCORES[run], [r['metrics'] for r in results[run].values()]
        names, last = ['dense', *_rounds(chains[0])], _controlled(chains[0])
        lines = {'ticket': [{1 - m[f'{name}/sparsity']: m[f'{name}/{score}'] for name in names} for m in chains]}
        for control, name in CONTROLS.items():
            stage = f'{last}_{control}'
            lines[name] = [{1 - m[f'{stage}/sparsity']: m[f'{stage}/{score}']} for m in chains]
        drawn[f'{run}_{score}.png'] = paper_plots.against_remaining(lines, score.replace('_', ' '))
        layers = {}
        for folder in directories[run].values():
            for name, value in masks.sparsity_report(load_ticket(folder / last / 'ticket.npz')[0]['params']).items():
                layers.setdefault(name.removesuffix('/kernel'), []).append(value)
        drawn[f'{run}_layers.png'] = paper_plots.layer_sparsity(layers)
        folder = next(iter(directories[run].values()))
        kind = 'reconstructions' if run == 'ae' else 'generated'
        images = {name: read_arrays(folder / name / 'images.npz')[kind][:16] for name in names}
        drawn[f'{run}_images.png'] = plots.image_rows(images)
    for folder in list(directories.get('early_bird', {}).values())[:1]:
        lines = [line for line in read_metrics(folder / 'search' / 'metrics.jsonl') if 'test/mask_distance' in line]
        epochs = round(lines[-1]['epoch'])
        drawn['early_bird_search.png'] = paper_plots.mask_distances(
            np.asarray(lines[-1]['test/mask_distance'])[:epochs, :epochs]
        )
    return drawn


def note(config):
    """How the table's numbers were measured."""
    test = config['evaluation']
    return (
        'Test split, last step, no selection. AE and VAE: test loss; GAN and early bird: Fréchet distance of '
        f'{test["samples"]} samples to the training images by the features of the extractors that their configs name. '
        'All as percentages of the dense model of the same seed, the lower the better. A ticket and its controls '
        'have the same sparsity; the sparsest good ticket is the sparsest of the chain within 5 % '
        '(loss) or 15 % (distance). Early bird: a VAE with three quarters of the normalised channels cut out of every '
        'layer; its FLOPs (counted by the compiler) and its measured time of training include the search. Tickets that '
        'went to another model: the distance of the GAN, the test loss of the VAE.'
    )


_PAPER = {
    'ae': 'abstract: up to 99 % sparsity at matched quality, CIFAR-10 and CelebA',
    'vae': 'abstract: up to 93 %',
    'gan': 'abstract: up to 89 %',
}
_DEVIATION = {'mini': 'digits of 28 pixels, a pair of two convolutions each, 12 epochs (GAN: 24)'}
_SMALL = {'mini': 'a VAE of digits of 32 pixels, a pair of three convolutions each, 200 epochs'}


def _claims():
    for model, bound in (('ae', 1.05), ('vae', 1.05), ('gan', 1.15)):
        score = 'test loss' if bound == 1.05 else 'Fréchet distance'
        yield Claim(
            name=f'{model}_ticket',
            sentence=f'{model.upper()} tickets are as good as the dense model: {score}, a multiple of its',
            metric='ticket',
            run=model,
            at_most=bound,
            paper=_PAPER[model],
            deviation=_DEVIATION,
            id='tickets-1',
        )
        for control, what in (('random', 'a random mask of the same sparsity'), ('reinit', 'the mask on other weights')):
            yield Claim(
                name=f'{model}_{control}',
                sentence=f"{model.upper()}: {what} is worse: {score}, a multiple of the ticket's",
                metric=f'{control}_over_ticket',
                run=model,
                at_least=1.02,
                paper='in words',
                deviation=_DEVIATION,
                id='tickets-1',
            )
    for control, what in (
        ('reinit', "its mask on the GAN's own initialisation"),
        ('random', 'a random mask on its weights'),
    ):
        yield Claim(
            name=f'transfer_{control}',
            sentence=f"A VAE's ticket trains in a GAN better than {what}: Fréchet distance, a multiple of the ticket's",
            metric=f'transferred_{control}',
            run='vae',
            at_least=1.02,
            paper='abstract: tickets transfer between VAEs and GANs',
            deviation=_DEVIATION,
            id='tickets-2',
        )
    of_dense = "its search included: a multiple of the dense model's"
    for source in ('gan', 'ae'):
        yield Claim(
            name=f'{source}_to_vae',
            sentence=f'{source.upper()} tickets train a VAE better than random masks: test loss, a multiple of theirs',
            metric='transferred_random',
            run=f'{source}_to_vae',
            at_least=1.02,
            paper='abstract: tickets transfer between VAEs and GANs' if source == 'gan' else 'in words',
            deviation=_DEVIATION,
            id='tickets-2',
        )
    for name, metric, sentence, bound, paper in (
        ('ticket', 'ticket', 'is as good as the dense model: Fréchet distance, a multiple of its', 1.15, 'in words'),
        ('flops', 'flops_share', f'trains with fewer FLOPs, {of_dense}', 0.2, 'up to 88 % fewer'),
        ('seconds', 'seconds_share', f'trains in less measured time, {of_dense}', 0.46, '54 % less'),
    ):
        yield Claim(
            name=f'early_bird_{name}',
            sentence=f'An early-bird ticket {sentence}',
            metric=metric,
            run='early_bird',
            at_most=bound,
            paper=f'abstract: {paper}',
            deviation=_SMALL,
            id='tickets-3',
        )
    for control, what in (('snip', 'SNIP'), ('grasp', 'GraSP')):
        yield Claim(
            name=f'early_bird_{control}',
            sentence=f"{what} at equal FLOPs is worse than an early bird: Fréchet distance, a multiple of the ticket's",
            metric=f'{control}_over_ticket',
            run='early_bird',
            at_least=1.0,
            paper='abstract: better than SNIP and GraSP',
            deviation=_SMALL,
            id='tickets-4',
        )


QUALITY = "How good are the ticket and its controls (% of the dense model's score, lower is better)?"
TRANSFERS = 'How good is a ticket in another model (%, lower is better for the ticket, higher for what is beside it)?'
EARLY_BIRDS = "How good are an early bird and its controls (% of the dense model's distance, lower is better)?"

STUDY = Study(
    name='lottery_tickets',
    title='Lottery tickets in deep generative models',
    headline='vae_ticket',
    variants={
        'mini': [
            *(Variant(model, f'digits.py:{model}') for model in ('ae', 'vae', 'gan', 'early_bird')),
            *(Variant(transfer, f'digits.py:{transfer}', extra=True) for transfer in ('gan_to_vae', 'ae_to_vae')),
        ],
        'paper': [
            *(Variant(model, f'cifar10.py:{model}') for model in ('ae', 'vae')),
            Variant('gan', 'cifar10.py:sngan'),
            Variant('early_bird', 'cifar10.py:early_bird'),
            *(Variant(transfer, f'cifar10.py:{transfer}', extra=True) for transfer in ('gan_to_vae', 'ae_to_vae')),
        ],
    },
    claims=list(_claims()),
    tables={
        'How sparse is the ticket, and how sparse can one be (%)?': {
            'sparsity': Column('sparsity of the ticket'),
            'sparsest_good': Column('sparsest good ticket'),
        },
        QUALITY: {'ticket': Column('ticket')} | {control: Column(name) for control, name in CONTROLS.items()},
        TRANSFERS: {
            'transferred': Column('ticket / dense'),
            'transferred_reinit': Column('its mask alone / ticket'),
            'transferred_random': Column('random mask / ticket'),
        },
        EARLY_BIRDS: {
            'ticket': Column('early bird'),
            'random': Column('random channels'),
            'reinit': Column('from scratch'),
            'snip': Column('SNIP'),
            'grasp': Column('GraSP'),
        },
        'What does an early bird cost, its search included (% of the dense model)?': {
            'flops_share': Column('FLOPs'),
            'seconds_share': Column('time'),
        },
    },
    only={QUALITY: tuple(SCORES), EARLY_BIRDS: ('early_bird',)},
    derive=derive,
    figures=figures,
    note=note,
)
