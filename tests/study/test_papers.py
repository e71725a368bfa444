"""What the shipped studies conclude and draw from run directories; these are synthetic, with the files that runs leave."""

import json

import numpy as np
import pytest

from gjax import masks
from gjax.study.reproduce import load_study

RNG = np.random.default_rng(0)


def _write(folder, metrics, step=100, lines=(), seconds=10.0, **arrays):
    """A finished run directory; arrays: of images.npz."""
    folder.mkdir(parents=True)
    (folder / 'results.json').write_text(json.dumps({'step': step, 'metrics': metrics, 'protocol': 'last step, test split'}))
    (folder / 'run.json').write_text(json.dumps({'seconds': seconds, 'train_seconds': seconds}))
    (folder / 'metrics.jsonl').write_text(''.join(json.dumps({'step': 1} | line) + '\n' for line in lines))
    if arrays:
        np.savez(folder / 'images.npz', **arrays)
    return folder


def _names(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def _chain(folder, losses, sparsity=0.5):
    """An autoencoder's dense model, two rounds, and the controls of the second, with these test losses in that order."""
    stages = ('dense', 'round01', 'round02', *(f'round02_{c}' for c in ('random', 'reinit', 'no_rewind', 'one_shot')))
    shares = (0.0, sparsity / 2, *[sparsity] * 5)
    metrics = {f'{stage}/loss': loss for stage, loss in zip(stages, losses, strict=True)}
    metrics |= {f'{stage}/sparsity': share for stage, share in zip(stages, shares, strict=True)}
    _write(folder, metrics)
    images = RNG.integers(0, 256, (20, 4, 4, 1), np.uint8)
    for stage in stages:
        _write(folder / stage, {}, reconstructions=images)
    kept = {'encoder': {'Conv_0': {'kernel': np.arange(8) >= 8 * sparsity}}}
    weights = {'params': {'encoder': {'Conv_0': {'kernel': np.ones(8, np.float32)}}}}
    np.savez(folder / 'round02' / 'ticket.npz', **masks.pack({'params': kept}, weights))
    return folder


def test_lottery_tickets(tmp_path):
    study = load_study('lottery_tickets')
    losses = {0: (100, 98, 101, 150, 130, 120, 300), 1: (200, 204, 230, 320, 250, 260, 500)}
    directories = {'ae': {seed: _chain(tmp_path / f'ae{seed}', own) for seed, own in losses.items()}}
    metrics = {f'{stage}/frechet_distance': value for stage, value in (('dense', 10.0), ('early_bird', 11.0))}
    controls = {'early_bird_random': 22.0, 'early_bird_reinit': 33.0, 'snip': 44.0, 'grasp': 55.0}
    metrics |= {f'{stage}/frechet_distance': value for stage, value in controls.items()}
    metrics |= {'dense/step_flops': 10.0, 'search/step_flops': 10.0, 'early_bird/step_flops': 1.0}
    metrics |= {'dense/parameters': 100.0, 'early_bird/parameters': 20.0}
    folder = _write(tmp_path / 'early_bird', metrics)
    distances = RNG.random((5, 5)).tolist()
    for stage, step, seconds in (('dense', 100, 10.0), ('search', 20, 2.0), ('early_bird', 100, 1.0)):
        _write(folder / stage, {}, step, [{'epoch': 3.0, 'test/mask_distance': distances}], seconds)
    directories['early_bird'] = {0: folder}
    rows = study.derive(directories)
    assert rows['ae'][0]['ticket'] == 1.01
    assert rows['ae'][0]['no_rewind_over_ticket'] == pytest.approx(120 / 101)
    assert [rows['ae'][seed]['sparsest_good'] for seed in (0, 1)] == [0.5, 0.25]  # of seed 1 the second round has lost
    bird = rows['early_bird'][0]
    assert bird['flops_share'] == pytest.approx((20 * 10 + 80 * 1) / (100 * 10))
    assert (bird['seconds_share'], bird['sparsity'], bird['snip_over_ticket']) == pytest.approx((0.3, 0.8, 4.0))
    drawn = study.figures(directories)
    assert set(drawn) == {'ae_loss.png', 'ae_layers.png', 'ae_images.png', 'early_bird_search.png'}
    assert _names(drawn['ae_loss.png'].axes[0]) == ['ticket', 'random mask', 'other weights', 'no rewinding', 'one shot']
    (axis,) = drawn['ae_layers.png'].axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ['encoder/Conv_0', 'total']
    assert axis.patches[0].get_width() == 50
    assert drawn['early_bird_search.png'].axes[0].images[0].get_array().shape == (3, 3)


def _flow(folder, clean, attacked):
    images = RNG.integers(0, 256, (12, 4, 4, 1), np.uint8)
    shown = {'images': images, 'attacked': images, 'samples': images, 'bits': np.ones(12), 'attacked_bits': np.ones(12)}
    metrics = {'bits_per_dim': clean, 'attacked_bits_per_dim': attacked, 'attacked_bits_per_dim_at_0.0314': attacked}
    metrics |= {'attacked_adds': attacked - clean, 'noise_adds': 1.0, 'attacked_ood_below_median': 0.9}
    lines = [{'epoch': 1.0, 'test/bits_per_dim': clean, 'test/attacked_bits_per_dim': attacked}]
    return _write(folder, metrics, lines=lines, histogram_test=np.linspace(1, 3, 12), **shown)


def test_flow_robustness(tmp_path):
    study = load_study('flow_robustness')
    values = {
        'glow_clean': (2.0, 12.0),
        'glow_hybrid': (2.1, 4.1),
        'realnvp_clean': (2.0, 9.0),
        'glow_adversarial': (4.0, 5.0),
    }
    directories = {run: {seed: _flow(tmp_path / f'{run}{seed}', *own) for seed in (0, 1)} for run, own in values.items()}
    rows = study.derive(directories)
    expected = {'attack_minus_5_noise': -3.0, 'clean_cost': 0.05, 'increase_left': 0.2}
    assert rows['glow_hybrid'][1] == pytest.approx(expected)
    drawn = study.figures(directories)
    pictures = {
        f'{run}_{kind}.png' for run in ('glow_clean', 'glow_hybrid', 'realnvp_clean') for kind in ('images', 'histogram')
    }
    assert set(drawn) == pictures | {'bits_against_eps.png', 'training_curves.png'}
    names = ['GLOW, clean', 'GLOW, hybrid', 'RealNVP, clean', 'GLOW, adversarial']
    assert _names(drawn['bits_against_eps.png'].axes[0]) == names
    assert _names(drawn['training_curves.png'].axes[0]) == names
    claim = next(claim for claim in study.claims if claim.name == 'glow_adversarial')
    metrics = {run: {seed: {'bits_per_dim': own[0]} for seed in (0, 1)} for run, own in values.items()}
    assert claim.judge(metrics)['mean'] == pytest.approx(1.9)


def test_iaat(tmp_path):
    study = load_study('iaat')
    directories = {run: {0: tmp_path / run} for run in ('supervised', 'iaat', 'iaat_capped')}
    metrics = {'clean_accuracy': 0.9, 'robust_accuracy': 0.5, 'accuracy_at_0.1000': 0.6}
    lines = [{'epoch': 1.0, 'test/clean_accuracy': 0.9, 'test/robust_accuracy': 0.5}]
    lines[0] |= {'test/radius_histogram': [3, 2, 1], 'test/radius_bin_width': 0.1}
    radius = np.linspace(0.0, 0.3, 1437)
    data = {'name': 'digits', 'dir': '', 'image_size': 0, 'validation': 0.0}
    for run, by in directories.items():
        folder = _write(by[0], metrics, lines=lines)
        (folder / 'config.json').write_text(json.dumps({'data': data, 'seed': 0, 'evaluation': {'eps': 0.2}}))
        np.savez(folder / 'examples.npz', margin=radius**2, radius=radius if run != 'iaat_capped' else -radius)
    rows = study.derive(directories)
    assert rows['iaat'][0]['radius_supervised_margin'] == pytest.approx(1)
    assert rows['iaat_capped'][0]['radius_supervised_margin'] == pytest.approx(-1)
    drawn = study.figures(directories)
    assert _names(drawn['frontier.png'].axes[0]) == ['supervised', 'IAAT', 'IAAT capped']
    assert _names(drawn['training_curves.png'].axes[0]) == ['supervised', 'IAAT']
    assert drawn['radius_contact_sheet.png'].axes[0].get_title() == '0: 0.0'
