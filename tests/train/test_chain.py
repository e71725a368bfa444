"""Methods in several stages: one run after the other, each resumable alone, from what its parent left."""

import json
import shutil

import jax
import numpy as np
import pytest

from gjax import masks
from gjax.train import config as configs
from gjax.train import loop
from gjax.train.chain import Chain
from gjax.train.errors import RunError
from gjax.train.loop import evaluate_run, train_and_evaluate
from gjax.train.store.checkpoint import Checkpointer, to_arrays
from gjax.train.store.tickets import load_ticket
from tests.contract.cases import tiny_config

STAGES = ('dense', 'round01', 'round01_random', 'gan_dense', 'gan_ticket', 'gan_reinit', 'gan_random')


def _config(data, **changes):
    options = {'method__controls': ('random',), 'method__transfer_to': 'gan'}
    options['method__transfer_settings'] = ('optimizer.learning_rate=0.02',)
    return tiny_config('lottery_tickets', data, stage='', **options, **changes)


@pytest.fixture(scope='module')
def toy():
    rng = np.random.default_rng(0)
    images = {split: rng.integers(0, 256, (48, 8, 8, 1)).astype(np.uint8) for split in ('train', 'test')}
    labels = np.arange(48, dtype=np.int32) % 2
    return {f'{split}_images': x for split, x in images.items()} | {f'{split}_labels': labels for split in images}


def _own(results, name):
    """The metrics of one stage in the results of all."""
    return {key.removeprefix(f'{name}/'): v for key, v in results['metrics'].items() if key.startswith(f'{name}/')}


@pytest.fixture(scope='module')
def whole(toy, tmp_path_factory):
    """(config, results, folder) of a chain."""
    folder = tmp_path_factory.mktemp('chain')
    np.savez(folder / 'toy.npz', **toy)
    config = _config(f'npz:{folder}/toy.npz')
    return config, train_and_evaluate(config, folder / 'whole'), folder / 'whole'


def _last_state(config, name, folder):
    run = Chain(config).run(Chain(config).stage_config(name, folder / name))
    with Checkpointer(folder / name / 'checkpoints', read_only=True) as checkpoints:
        return checkpoints.restore_latest(run.init())[0]


def _kernels(tree, params):
    """(mask, weights) of every layer that is pruned."""
    pairs = jax.tree.map(lambda m, p: None if m is None else (m, p), tree, params, is_leaf=lambda leaf: leaf is None)
    return jax.tree.leaves(pairs, is_leaf=lambda leaf: isinstance(leaf, tuple))


def test_every_stage_is_a_run_directory_and_all_results_come_together(whole):
    config, results, folder = whole
    assert {p.name for p in folder.iterdir() if p.is_dir()} == set(STAGES)
    assert {name.split('/')[0] for name in results['metrics']} == set(STAGES)
    for name in STAGES:
        own = json.loads((folder / name / 'results.json').read_text())['metrics']
        assert own == _own(results, name)
        assert json.loads((folder / name / 'config.json').read_text())['stage'] == name
    assert json.loads((folder / 'round01/run.json').read_text())['parent'] == str(folder / 'dense')
    assert 'discriminator_loss' in json.loads((folder / 'gan_dense/results.json').read_text())['metrics']
    assert json.loads((folder / 'gan_dense/config.json').read_text())['optimizer']['learning_rate'] == 0.02
    np.testing.assert_allclose(results['metrics']['round01/sparsity'], 0.2, atol=2e-3)
    assert results['metrics']['round01_random/sparsity'] == results['metrics']['round01/sparsity']
    assert train_and_evaluate(config, folder) == results


def test_a_ticket_goes_to_another_model_layer_for_layer(whole):
    config, _, folder = whole
    source, gan = _last_state(config, 'round01', folder), _last_state(config, 'gan_ticket', folder)
    reinit = _last_state(config, 'gan_reinit', folder)
    pairs = (('decoder', 'generator'), ('encoder', 'discriminator'))
    for theirs, ours in pairs:
        expected, found = (masks.sparsity_report(state.masks[player]) for state, player in ((source, theirs), (gan, ours)))
        shared = {name: value for name, value in found.items() if name not in ('head/kernel', 'total')}
        assert shared == {name: expected[name] for name in shared}
        assert masks.sparsity_report(reinit.masks[ours]) == found
    assert masks.sparsity_report(gan.masks['discriminator'])['head/kernel'] == 0
    chain = Chain(config)
    run = chain.run(chain.stage_config('gan_ticket', folder / 'gan_ticket'))
    start = chain.begin('gan_ticket', run, folder / 'gan_ticket')
    kept = source.memory['rewind']['params']
    for theirs, ours, layer in (('decoder', 'generator', 'Dense_0'), ('encoder', 'discriminator', 'trunk')):
        ticket = to_arrays(masks.apply(source.masks[theirs][layer], kept[theirs][layer]))
        for name, value in to_arrays(start.params[ours][layer]).items():
            np.testing.assert_array_equal(value, ticket[name], err_msg=name)


def test_a_ticket_file_gives_back_masks_and_weights(whole, tmp_path):
    config, _, folder = whole
    state = _last_state(config, 'round01', folder)
    for player, mask in state.masks.items():  # trained on eight devices
        assert not any(np.asarray(w)[~m].any() for m, w in _kernels(mask, state.params[player]))
    path = folder / 'round01' / 'ticket.npz'
    ticket, values = load_ticket(path)
    params = {p: masks.apply(state.masks[p], state.memory['rewind']['params'][p]) for p in state.params}
    for name, value in to_arrays(params).items():
        np.testing.assert_array_equal(to_arrays(values['params'])[name], value, err_msg=name)
    for name, value in to_arrays(state.masks).items():
        np.testing.assert_array_equal(to_arrays(ticket['params'])[name], value, err_msg=name)
    chain = Chain(config)
    module = chain.main.method.trainer.modules()['decoder']
    variables = {'params': values['params']['decoder'], 'batch_stats': values['batch_stats']['decoder']}
    assert module.apply(variables, np.zeros((2, 3), np.float32), train=False).shape == (2, 8, 8, 1)
    (tmp_path / 'ticket.npz').write_bytes(path.read_bytes()[:300])
    with pytest.raises(RunError, match=r'ticket.npz is damaged'):
        load_ticket(tmp_path / 'ticket.npz')
    np.savez(tmp_path / 'other.npz', values=np.zeros(3))
    with pytest.raises(RunError, match=r'other.npz cannot be read: this is no ticket'):
        load_ticket(tmp_path / 'other.npz')


def _stop_in(config, folder, stage, monkeypatch):
    """Trains the chain until the third call of a stage."""
    begin, train, calls = loop._train_and_evaluate, loop.Run.train, []

    def noted(run, chain, own, *arguments):
        calls.append(own.stage)  # stages that are alike share a run, which does not know which of them it trains
        return begin(run, chain, own, *arguments)

    def stop(run, state, source, count):
        calls.append(calls[-1])
        if calls.count(stage) > 3:
            raise KeyboardInterrupt
        return train(run, state, source, count)

    with monkeypatch.context() as patch:
        patch.setattr(loop, '_train_and_evaluate', noted)
        patch.setattr(loop.Run, 'train', stop)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(config, folder)


@pytest.mark.slow
def test_an_interrupted_chain_goes_on_bit_for_bit(whole, tmp_path, monkeypatch):
    config, results, folder = whole
    _stop_in(config, tmp_path / 'again', 'round01', monkeypatch)
    shutil.rmtree(tmp_path / 'again' / 'round01' / 'checkpoints')  # it began, and saved nothing yet
    assert train_and_evaluate(config, tmp_path / 'again') == results
    for name in STAGES:
        logs = [(path / name / 'metrics.jsonl').read_text() for path in (folder, tmp_path / 'again')]
        assert logs[0] == logs[1], name


@pytest.mark.slow
def test_a_stage_can_be_trained_and_evaluated_alone(whole, tmp_path):
    config, results, folder = whole
    shutil.copytree(folder / 'dense', tmp_path / 'dense')
    own = configs.from_json(configs.to_json(config))
    configs.override(own, {'stage': 'round01'})
    alone = train_and_evaluate(own, tmp_path / 'round01')
    assert alone == json.loads((folder / 'round01/results.json').read_text())
    assert evaluate_run(tmp_path / 'round01')['metrics'] == pytest.approx(alone['metrics'])
    configs.override(own, {'stage': 'round01_random'})
    assert train_and_evaluate(own, tmp_path / 'round01_random')['metrics'] == _own(results, 'round01_random')


@pytest.fixture(scope='module')
def early(toy, tmp_path_factory):
    """(config, results, folder) of a chain whose search ends early and whose next stage is smaller."""
    folder = tmp_path_factory.mktemp('early')
    np.savez(folder / 'toy.npz', **toy)
    options = {
        'method__history': 1,
        'method__distance': 1.0,
        'method__channels': 0.5,
        'method__controls': ('random', 'snip'),
    }
    config = tiny_config('early_bird', f'npz:{folder}/toy.npz', stage='', **options)
    return config, train_and_evaluate(config, folder / 'whole'), folder / 'whole'


@pytest.mark.slow
def test_a_search_ends_early_and_the_next_stage_is_smaller(early):
    _, results, folder = early
    read = {name: json.loads((folder / name / 'results.json').read_text()) for name in ('dense', 'search', 'early_bird')}
    assert [read[name]['step'] for name in read] == [15, 6, 15]  # epochs of three steps
    nets = {name: json.loads((folder / name / 'config.json').read_text())['net'] for name in read}
    assert nets['search'] == nets['dense']
    assert sum(nets['early_bird']['widths']) < sum(nets['dense']['widths'])
    costs = {name: results['metrics'][f'{name}/step_flops'] for name in (*read, 'early_bird_random', 'snip')}
    assert costs['early_bird'] == costs['early_bird_random'] < costs['dense'] == pytest.approx(costs['snip'], rel=0.05)
    last = json.loads((folder / 'search/metrics.jsonl').read_text().splitlines()[-1])
    assert last['step'] == 6
    assert np.shape(last['test/mask_distance']) == (5, 5)
    steps = [json.loads(line)['step'] for line in (folder / 'early_bird/metrics.jsonl').read_text().splitlines()]
    assert min(steps) > 6
    record = json.loads((folder / 'early_bird/run.json').read_text())
    assert 0 < record['train_seconds'] <= record['seconds']


@pytest.mark.slow
def test_a_search_that_was_interrupted_ends_where_it_would_have(early, tmp_path, monkeypatch):
    config, results, folder = early
    _stop_in(config, tmp_path / 'again', 'search', monkeypatch)  # after step 4, which is saved
    assert train_and_evaluate(config, tmp_path / 'again') == results
    logs = [(path / 'search/metrics.jsonl').read_text() for path in (folder, tmp_path / 'again')]
    assert logs[0] == logs[1]
    for name in ('search', 'early_bird'):  # ended, but not yet evaluated
        (tmp_path / 'again' / name / 'results.json').unlink()
    (tmp_path / 'again' / 'results.json').unlink()
    assert train_and_evaluate(config, tmp_path / 'again') == results


@pytest.mark.slow
def test_a_search_without_ticket_is_refused_in_one_line(early, tmp_path):
    config, _, folder = early
    own = configs.from_json(configs.to_json(config))
    configs.override(own, {'method.distance': 1e-9})
    shutil.copytree(folder / 'dense', tmp_path / 'early' / 'dense')
    path = tmp_path / 'early/dense/config.json'
    path.write_text(path.read_text().replace('"distance": 1.0', '"distance": 1e-09'))
    with pytest.raises(ValueError, match='the search drew no early-bird ticket in 5 epochs; allowed: a larger'):
        train_and_evaluate(own, tmp_path / 'early')


def test_mistakes_are_refused_in_one_line(whole, tmp_path):
    config, _, folder = whole
    own = configs.from_json(configs.to_json(config))
    configs.override(own, {'stage': 'round09'})
    with pytest.raises(RunError, match=r"stage is 'round09'; allowed: dense, round01, round01_random, gan_dense"):
        train_and_evaluate(own, tmp_path / 'round09')
    configs.override(own, {'stage': 'round01'})
    with pytest.raises(RunError, match='where stage round01 begins, is not finished'):
        train_and_evaluate(own, tmp_path / 'round01')
    with pytest.raises(RunError, match='holds a run for each stage; --workdir must be one of them: dense, round01'):
        evaluate_run(folder)
    with pytest.raises(RunError, match=r'--profile is for one run; allowed with --config.stage=dense'):
        train_and_evaluate(config, tmp_path / 'chain', profile=(1, 2))
    plain = tiny_config('vae', config.data.name, stage='dense')
    with pytest.raises(RunError, match="stage is 'dense'; allowed: '' "):
        train_and_evaluate(plain, tmp_path / 'plain')
