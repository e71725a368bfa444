"""The study of domain-specific masks: against one network for all domains, heads of domains and random masks, leaving out
one domain after the other.
"""

from gjax.study import plots
from gjax.study.claims import Claim, Column, Study, Variant
from gjax.study.reproduce import averaged, by_suffix
from gjax.train.config import load_module, sibling
from gjax.train.store.files import read_arrays, read_json
from gjax.train.store.records import read_metrics

paper_plots = load_module(sibling(__file__, 'figures.py'))

METHODS = load_module(sibling(__file__, 'arguments.py')).METHODS
NAMES = {'random_masks': 'random masks', 'multi_head': 'heads', 'dmg': 'DMG'}
MINI = ('mnist5k', 'digits', 'syndigits')
PACS = ('photo', 'art_painting', 'cartoon', 'sketch')
DIGITS = ('mnist', 'usps', 'svhn', 'syn_digits')
DOMAINNET = ('clipart', 'infograph', 'painting', 'quickdraw', 'real', 'sketch_of_domainnet')
EVERY = tuple(dict.fromkeys((*MINI, *PACS, *DIGITS, *DOMAINNET)))
FIRST = {'digits.py': 'mnist5k', 'small.py': 'sketch', 'paper.py': 'sketch'}  # which is left out where options are compared
OPTIONS = {
    'as_released': {'method.mask_learning_rate': 0.0, 'method.mask_start': (0.0, 1.0)},
    'sum_over_pairs': {'method.overlap': 'sum'},
    'no_overlap': {'method.overlap_weight': 0.0},
    'softscale': {'evaluation.in_domain': 'softscale'},
    'average_mask': {'evaluation.unseen': 'average'},
}
# The same network with dropout where the masks stand, at their first rate: what masks are worth beside it.
DROPOUT = {'method.fixed_masks': 'start', 'method.mask_start': (2.5, 2.5)}
MEASURES = ('in_domain_accuracy', 'out_of_domain_accuracy', 'wrong_mask_accuracy', 'mask_iou', 'domain_specific_units')
MEASURES += ('mask_on', 'mask_movement', 'empty_masks', 'out_of_domain_accuracy_selected_by_source')


def derive(directories):
    """A row a method: the means over all unseen domains, where it has all, and the accuracy on each unseen domain."""
    return averaged(directories, 'out_of_domain_accuracy', MEASURES)


def figures(directories):
    """Accuracies over training, and, of the first seed's masks for every unseen domain: what domains share, the accuracy
    under each mask, and whom units serve."""
    drawn = {}
    for unseen, rows in by_suffix(directories).items():
        runs = {row: list(seeds.values()) for row, seeds in rows.items()}
        shown = {NAMES.get(name, name): runs[name] for name in METHODS if name in runs}
        lines = {name: [read_metrics(d / 'metrics.jsonl') for d in own] for name, own in shown.items()}
        drawn[f'{unseen}_accuracy.png'] = plots.training_curves(lines, ('in_domain_accuracy', 'out_of_domain_accuracy'))
        if 'dmg' not in runs:
            continue
        first = runs['dmg'][0]
        masks, metrics = read_arrays(first / 'masks.npz'), read_json(first / 'results.json')['metrics']
        own = [name.partition('_accuracy_with_') for name in metrics if '_accuracy_with_' in name]
        domains = tuple(dict.fromkeys(source for _, _, source in own))
        sets = (*domains, *dict.fromkeys(name for name, _, _ in own if name not in domains))
        drawn[f'{unseen}_overlap.png'] = paper_plots.overlap_of_masks(masks, domains)
        drawn[f'{unseen}_by_mask.png'] = paper_plots.accuracy_by_mask(metrics, sets, domains)
        drawn[f'{unseen}_units.png'] = paper_plots.units_by_domains(masks)
    return drawn


def note(config):
    """How the table's numbers were measured."""
    return (
        "Last step, no selection. In domain: the sources' test splits, each under its own domain's hard mask (or head). Out "
        'of domain: all images of the domain that training did not see, the logits averaged over the expected masks of all '
        "sources (or over heads). Wrong mask: the sources' test splits under the other sources' masks. Averages are over "
        'the domains left out. Claims pair runs by seed and by the domain left out.'
    )


def _variants(file, domains):
    found = [Variant(f'{method}/{unseen}', f'{file}:{method},{unseen}') for method in METHODS for unseen in domains]
    found += [Variant(f'dropout/{unseen}', f'{file}:dmg,{unseen}', DROPOUT, extra=True) for unseen in domains]
    if FIRST[file] in domains:
        config = f'{file}:dmg,{FIRST[file]}'
        found += [Variant(f'{name}/{FIRST[file]}', config, own, extra=True) for name, own in OPTIONS.items()]
    return found


_DEVIATION = {
    'mini': 'digits of three kinds, two sources, images of 16 pixels, a network of four convolutions from random weights, '
    'masks that begin nearer to one and learn faster than as released',
    'small': 'images of 64 or 32 pixels, a network of four convolutions from random weights, fewer steps',
}


def _claim(name, sentence, metric, **options):
    return Claim(name=name, sentence=sentence, metric=metric, run='dmg', over=EVERY, deviation=_DEVIATION, **options)


STUDY = Study(
    name='dmg',
    title='Domain-specific Masks',
    headline='above_aggregate_in_domain',
    variants={
        'mini': _variants('digits.py', MINI),
        'small': _variants('small.py', (*PACS, *DIGITS)),
        'paper': _variants('paper.py', (*PACS, *DOMAINNET)),
    },
    rows=(*METHODS, 'dropout', *OPTIONS),
    claims=[
        _claim(
            'above_aggregate_in_domain',
            'Masks help on the sources: in-domain accuracy, dmg minus aggregate',
            'in_domain_accuracy',
            minus='aggregate',
            at_least=0.0,
            paper='in words',
            id='dmg-1',
        ),
        _claim(
            'not_below_aggregate_out_of_domain',
            'They cost nothing on unseen domains: out-of-domain accuracy, dmg minus aggregate',
            'out_of_domain_accuracy',
            minus='aggregate',
            at_least=-0.015,
            paper='in words',
            id='dmg-2',
        ),
        _claim(
            'not_below_multi_head_out_of_domain',
            'nor beside heads of domains: out-of-domain accuracy, dmg minus multi_head',
            'out_of_domain_accuracy',
            minus='multi_head',
            at_least=-0.015,
            paper='in words',
            id='dmg-2',
        ),
        _claim(
            'masks_are_specific',
            "A domain needs its own mask: accuracy under the own domain's mask minus that under the others'",
            'in_domain_accuracy',
            minus_metric='wrong_mask_accuracy',
            at_least=0.02,
            id='dmg-3',
        ),
        _claim(
            'some_units_are_specific',
            'Some units serve some domains alone: the share of units that are on for some domains but not for all',
            'domain_specific_units',
            at_least=0.1,
            id='dmg-3',
        ),
        _claim(
            'no_mask_is_empty',
            'and every domain keeps units in every layer: the number of masks without any',
            'empty_masks',
            at_most=0.0,
            id='dmg-3',
        ),
    ],
    tables={
        'How accurate is each method on the sources and on unseen domains (%)?': {
            'in_domain_accuracy': Column('sources'),
            'out_of_domain_accuracy': Column('unseen'),
            'wrong_mask_accuracy': Column("sources, others' masks"),
            'out_of_domain_accuracy_selected_by_source': Column('unseen, chosen by sources'),
        },
        'How accurate is each method on each unseen domain (%)?': {name: Column(name) for name in MINI},
        'On each unseen domain of PACS (%)?': {name: Column(name.replace('_', ' ')) for name in PACS},
        'What do the masks look like (%)?': {
            'mask_on': Column('units on'),
            'mask_iou': Column('shared by two domains'),
            'domain_specific_units': Column('specific units'),
        },
    },
    derive=derive,
    figures=figures,
    note=note,
    seeds=(0, 1, 2, 3, 4),
)
