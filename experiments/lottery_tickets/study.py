"""The study of lottery tickets: how sparse an autoencoder, a VAE and a GAN can be, against the controls."""

import re

from gjax.train import plots
from gjax.train.logging import read_arrays
from gjax.train.study import Claim, Run, Study, collect

# What must stay as the dense model's: a test loss, or the distance of samples to the data.
SCORES = {'ae': 'loss', 'vae': 'loss', 'gan': 'frechet_distance'}
CONTROLS = ('random', 'reinit', 'no_rewind', 'one_shot')
LOST = {'loss': 1.05, 'frechet_distance': 1.15}  # times the dense model's: above, a ticket has broken


def _rounds(metrics):
    """The names of the pruning rounds, in order."""
    return sorted({name.split('/')[0] for name in metrics if re.match(r'round\d+/', name)})


def _relative(metrics, model):
    """A chain's scores as multiples of its dense model's, the lower the better, and the sparsity at which tickets break."""
    score, last = SCORES[model], _rounds(metrics)[-1]
    dense = metrics[f'dense/{score}']
    found = {'sparsity': metrics[f'{last}/sparsity'], 'ticket': metrics[f'{last}/{score}'] / dense}
    for control in CONTROLS:
        if f'{last}_{control}/{score}' in metrics:
            found[control] = metrics[f'{last}_{control}/{score}'] / dense
            found[f'{control}_over_ticket'] = found[control] / found['ticket']
    good = [name for name in _rounds(metrics) if metrics[f'{name}/{score}'] <= LOST[score] * dense]
    found['sparsest_good'] = max((metrics[f'{name}/sparsity'] for name in good), default=0.0)
    if 'gan_ticket/frechet_distance' in metrics:
        ticket = metrics['gan_ticket/frechet_distance']
        found['transferred'] = ticket / metrics['gan_dense/frechet_distance']
        found |= {f'transferred_{c}': metrics[f'gan_{c}/frechet_distance'] / ticket for c in ('reinit', 'random')}
    return found


def derive(directories):
    results = collect(directories)
    return {
        run: {seed: _relative(r['metrics'], run) for seed, r in by.items()} for run, by in results.items() if run in SCORES
    }


def figures(directories):
    """Scores against the remaining weights, with all controls and their spread; samples at each sparsity."""
    results, drawn = collect(directories), {}
    for run in (run for run in results if run in SCORES):
        score, chains = SCORES[run], [r['metrics'] for r in results[run].values()]
        names = ['dense', *_rounds(chains[0])]
        lines = {'ticket': [{1 - m[f'{name}/sparsity']: m[f'{name}/{score}'] for name in names} for m in chains]}
        for control in CONTROLS:
            own = f'{names[-1]}_{control}'
            lines[control] = [{1 - m[f'{own}/sparsity']: m[f'{own}/{score}']} for m in chains if f'{own}/{score}' in m]
        drawn[f'{run}_{score}.png'] = plots.against_remaining({k: v for k, v in lines.items() if v}, score.replace('_', ' '))
        folder = next(iter(directories[run].values()))
        kind = 'reconstructions' if run == 'ae' else 'generated'
        images = {name: read_arrays(folder / name / 'images.npz')[kind][:16] for name in names}
        drawn[f'{run}_images.png'] = plots.image_rows(images)
    return drawn


def note(config):
    """How the table's numbers were measured."""
    test = config['evaluation']
    return (
        f'Test split, last step, no selection. AE and VAE: test loss; GAN: Fréchet distance of {test["samples"]} samples to '
        f'the training images by features of `{test["extractor"]}`. All as percentages of the dense model of the same seed, '
        'the lower the better. The ticket and its controls have the sparsity of the first column; the last column is the '
        'highest at which a ticket of the chain is within 5 % (loss) or 15 % (distance).'
    )


_PAPER = {
    'ae': 'abstract: up to 99 % sparsity at matched quality, CIFAR-10 and CelebA',
    'vae': 'abstract: up to 93 %',
    'gan': 'abstract: up to 89 %',
}
_DEVIATION = {'mini': 'digits of 28 pixels, a pair of two convolutions each, 12 epochs'}


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
        )


STUDY = Study(
    name='lottery_tickets',
    runs={'mini': [Run(model, f'digits.py:{model}') for model in ('gan', 'ae', 'vae')]},
    claims=list(_claims()),
    columns={
        'sparsity': 'sparsity (%)',
        'ticket': 'ticket / dense (%)',
        'random': 'random mask',
        'reinit': 'other weights',
        'no_rewind': 'no rewinding',
        'one_shot': 'one shot',
        'transferred': 'in a GAN / dense GAN',
        'sparsest_good': 'sparsest good ticket (%)',
    },
    derive=derive,
    figures=figures,
    note=note,
)
