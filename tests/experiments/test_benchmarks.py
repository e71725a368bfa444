"""The benchmarks (experiments/benchmarks) at tiny sizes: all lines are there, and both sides read the same pixels."""

import dataclasses
import importlib.util
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import __main__ as command
from experiments.benchmarks import attacks, autoattack, content, data, growth, masks, measure, start, steps
from experiments.benchmarks.peer import Peer
from experiments.benchmarks.works import CPU_BATCH, Program, step_flops
from gjax.train import config
from gjax.train.devices import data_mesh
from gjax.train.errors import RunError

TINY = content.Scale(digits=80, small=8, small_batch=16, photos=80, large=16, large_batch=8)
needs_torch = pytest.mark.skipif(importlib.util.find_spec('torch') is None, reason='needs torch, an optional peer')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sets')
    content.make(folder, TINY)
    return folder


@pytest.fixture(scope='module')
def peer():
    with Peer('torch', data.LOADER) as other:
        yield other


@pytest.fixture(scope='module')
def results():
    def without_attack(root, scale):
        return {title: task for title, task in tasks(root, scale).items() if 'attack' not in title}

    with pytest.MonkeyPatch.context() as patch:
        tasks = data.tasks
        patch.setattr(data, 'tasks', without_attack)  # which compiles as long as all the rest
        return data.results((0,), '', 0.01, 2, TINY)


def _positive(values, count=2):
    assert len(values) == count
    assert all(np.isfinite(value) and value > 0 for value in values)


@pytest.mark.slow
def test_every_line_is_measured(results):
    assert [(row['reader'], row['workers']) for row in results['reading']] == [('in memory', None), ('streamed', 0)] * 3
    assert [row['workers'] for row in results['training']] == [None, 0] * 2
    for row in results['reading']:
        _positive(row['images_per_second'])
    for row in results['training']:
        _positive(row['examples_per_second'])
        assert all(0 <= share <= 1 for share in row['data_wait_share'])
    assert results['machine']['cores'] > 0
    assert results['machine']['versions']['grain']


def test_every_task_is_a_config(root):
    for spec, overrides in data.tasks(root, TINY).values():
        assert config.load(spec, overrides).train.total_steps == data.ENDLESS


@pytest.mark.slow
def test_a_readme_gets_the_tables(results, tmp_path):
    text = data.text(results)
    assert text.count('| in memory |') == 5
    readme = tmp_path / 'README.md'
    shutil.copy(command.README, readme)
    before = readme.read_text()
    command.publish('data', results, text, tmp_path / 'out', readme)
    head, _, rest = before.partition('<!-- benchmark data -->\n')
    tail = rest[rest.index('<!-- /benchmark data -->') :]
    assert readme.read_text() == f'{head}<!-- benchmark data -->\n{text}{tail}'
    assert (tmp_path / 'out/data.md').read_text() == text
    assert (tmp_path / 'out/data.json').stat().st_size > 1000


@pytest.mark.slow
def test_workers_deliver_global_arrays(root):
    case = data.cases(root, TINY)[2]
    with data.streamed(case, data_mesh(), 1) as (items, images):
        chunk = next(items)
        assert images == 16
        chunk = chunk['']  # of the only role
        assert chunk['image'].shape == (2, 8, 16, 16, 3)
        assert len(chunk['image'].sharding.device_set) == len(jax.devices())
        _positive([measure.rate(items, images, 0, 0.01)], 1)


@needs_torch
@pytest.mark.slow
def test_both_sides_read_the_same_pixels(root, peer):
    for case in data.cases(root, TINY):
        data.check_same_pixels(case, peer)
    broken = data.Case('x', case.dataset, 8, 2, ('folder', (str(root / 'photos' / 'train'), 15)))
    with pytest.raises(RunError, match='x: gjax and the DataLoader do not read the same pixels'):
        data.check_same_pixels(broken, peer)


@needs_torch
@pytest.mark.slow
def test_the_loader_is_measured_beside_ours(root, peer):
    case = data.cases(root, TINY)[1]
    rows = data.reading([case], (0,), peer, 0.01, 2)
    assert [row['reader'] for row in rows] == ['in memory', 'streamed', 'torch']
    for row in rows:
        _positive(row['images_per_second'])
    stream, seconds = peer.call('start', *case.peer, case.batch_size, 1)
    _positive([seconds, peer.call('images_per_second', stream, case.batch_size, 3, 0.01)])
    peer.call('stop')
    settings = {'seconds': 0.01, 'repetitions': 2}
    text = data.text({'machine': measure.machine(), 'settings': settings, 'reading': rows, 'training': []})
    assert '| torch DataLoader | first batch (s) | gjax / torch |' in text


@needs_torch
@pytest.mark.slow
def test_what_the_other_process_raises_is_one_line(peer):
    with pytest.raises(RunError, match=r'torch\.loader\.start: KeyError') as caught:
        peer.call('start', 'nothing', (), 8, 0)
    assert '\n' not in str(caught.value)


def test_a_peer_that_is_not_installed_is_refused():
    with pytest.raises(RunError, match='--peer=tensorlight needs tensorlight, which is not installed; run: pip install'):
        Peer('tensorlight', data.LOADER)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--suite=speed'], "--suite is 'speed'; known: data, masks, steps, attacks, start, growth"),
        ([], "--suite is ''; known: data, masks, steps, attacks, start, growth"),
        (['--suite=data', '--peer=jux'], "--peer is 'jux'; allowed: torch"),
        (['--suite=data', '--workers=0,x'], "--workers is '0,x'; allowed: comma-separated numbers 0..128"),
        (['--suite=data', '--seconds=0'], '--seconds is 0.0; allowed: > 0'),
        (['--suite=steps', '--works=lenet,vgg'], f"--works has 'vgg'; known: {', '.join(steps.WORKS)}"),
        (['--suite=steps', '--modes=fast'], "--modes has 'fast'; known: eager, channels_last, compile"),
        (['--suite=steps', '--dtype=int8'], "--dtype is 'int8'; allowed: float32, bfloat16"),
        (
            ['--suite=steps', '--update_readme', '--works=lenet'],
            '--update_readme is for the whole table; allowed: with --peer=torch, all --works, --dtype=float32, on a CPU',
        ),
        (['--suite=steps', '--peer=tf'], "--peer is 'tf'; known: torch"),
        (['--suite=attacks', '--steps=0'], '--steps is 0; allowed: at least 1'),
        (['--suite=attacks', '--autoattack=-1'], '--autoattack is -1; allowed: at least 0'),
        (['--suite=start', '--repetitions=0'], '--repetitions is 0; allowed: at least 1'),
    ],
)
def test_bad_options_are_refused_in_one_line(options, message, capsys):
    assert command.main(options) == 1
    assert capsys.readouterr().err.strip() == f'benchmarks: error: {message}'


def test_rates_do_not_count_what_lay_ready():
    seen = []
    assert measure.rate((seen.append(i) for i in range(100)), 5, 7, 0.0) > 0
    assert len(seen) == 7 + measure.LEAST


def test_every_repetition_visits_all():
    order = []
    values = measure.interleaved([lambda k=k: order.append(k) or k for k in 'ab'], 3, 'x')
    assert order == list('ababab')
    assert values == [['a'] * 3, ['b'] * 3]


@pytest.mark.slow
def test_masked_steps_are_measured_beside_dense_ones():
    small = {'net.widths': (2, 4), 'train.batch_size': 16, 'train.eval_batch_size': 16, 'evaluation.extractor': ''}
    found = masks.results(('vae',), 0.01, 2, small)
    (row,) = found['steps']
    _positive(row['masked'], 4)
    _positive(row['dense'], 4)
    _positive(row['sliced'], 4)
    assert '| vae, batch 16 |' in masks.text(found)
    runs = masks.runs_of('vae', small)
    states = {name: run.init() for name, run in runs.items()}
    assert jax.tree.leaves(states['masked'].masks)
    assert not jax.tree.leaves(states['dense'].masks)
    widths = {name: run.method.net.channel_sizes() for name, run in runs.items()}
    assert {name: sum(map(sum, own.values())) for name, own in widths.items()} == {'masked': 12, 'dense': 12, 'sliced': 6}
    for own, other in zip(*(jax.tree.leaves(states[name].params) for name in ('masked', 'dense')), strict=True):
        np.testing.assert_array_equal(own, other)


@pytest.fixture(scope='module')
def torch_peer():
    with Peer('torch', 'experiments.benchmarks.torch.steps') as other:
        yield other


# A large work is compared in a small form below. The benchmark compares every work and mode, too, before it measures one.
PEERS = [name for name, work in steps.WORKS.items() if work.kind and not work.large]


def _difference(peer, modes, work, **sizes):
    """The largest difference between the two sides' first losses, in any of the peer's modes."""
    work = steps.compared(work)
    run = steps.build(work, {'train.batch_size': 8})
    variables, *first = steps.first_steps(run, work)
    found = []
    for mode in modes:
        steps.prepare(peer, run, dataclasses.replace(work, sizes=work.sizes | sizes), variables, 1)
        found.append(steps.difference(peer, mode, work, *first))
    return max(found)


@needs_torch
@pytest.mark.parametrize('name', PEERS)
@pytest.mark.slow
def test_both_sides_train_with_the_same_losses(name, torch_peer):
    modes = ('eager', 'channels_last') if name == 'lenet' else ('eager',)
    assert _difference(torch_peer, modes, steps.WORKS[name]) < steps.TOLERANCE


@needs_torch
@pytest.mark.slow
def test_small_networks_of_the_large_works_form_are_attacked_alike(torch_peer):
    large = steps.WORKS['wrn_pgd10']
    config = large.config | {'net.depth': 8, 'net.width': 1}
    small = large.sizes | {'blocks': (1, 1, 1), 'width': 16, 'stem': 16}
    work = dataclasses.replace(large, large=False, config=config, sizes=small)
    assert _difference(torch_peer, ('eager',), work) < steps.TOLERANCE


def test_a_large_work_has_a_smaller_batch_on_a_cpu():
    large, small = steps.WORKS['wrn_pgd10'], {'net.depth': 8, 'net.width': 1}
    assert steps.build(large, small).config.train.batch_size == CPU_BATCH < large.config['train.batch_size']
    assert steps.build(large, small | {'train.batch_size': 16}).config.train.batch_size == 16


@needs_torch
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('c++'), reason='torch.compile needs a compiler')
def test_the_compiled_sngan_has_the_same_losses(torch_peer):
    assert _difference(torch_peer, ('compile',), steps.WORKS['sngan']) < steps.TOLERANCE


@needs_torch
@pytest.mark.slow
def test_other_losses_are_refused(torch_peer):
    wrong = {'rate': 0.1, 'b1': 0.5, 'b2': 0.999}
    with pytest.raises(RunError, match='the losses of the two sides differ'):
        _difference(torch_peer, ('eager',), steps.WORKS['lenet'], optimizer=wrong)


@needs_torch
@pytest.mark.slow
def test_a_mode_that_fails_leaves_its_column_empty(torch_peer, monkeypatch, capsys):
    monkeypatch.setattr(steps, 'TOLERANCE', -1.0)
    row = steps.measured('lenet', torch_peer, ['eager'], 0.01, 1, {'train.batch_size': 8})
    assert list(row['milliseconds']) == ['gjax']
    assert 'the losses of the two sides differ' in capsys.readouterr().err


@pytest.mark.slow
def test_iaat_selects_radii_in_its_work():
    """It is not measured while it warms up, when images that are right have the radius eps."""
    run = steps.build(steps.WORKS['iaat'], {'train.batch_size': 8, 'net.width': 1})
    state, images = run.init(), jnp.full((8, 32, 32, 3), 0.5)
    labels = run.method.logits(state, images).argmax(1)
    state, _ = jax.jit(run.method.step)(state, {'image': images, 'label': labels, 'index': jnp.arange(8)})
    (radii,) = jax.tree.leaves(state.memory)
    assert not np.isclose(radii[:8], run.method.eps).any()


@needs_torch
@pytest.mark.slow
def test_steps_are_measured_beside_torchs(torch_peer):
    row = steps.measured('lenet', torch_peer, ['eager', 'channels_last'], 0.01, 2, {'train.batch_size': 8})
    assert set(row['milliseconds']) == {'gjax', 'eager', 'channels_last'}
    for values in row['milliseconds'].values():
        _positive(values)
    _positive(row['memory'].values(), 3)
    _positive([row['cold_seconds'], row['warm_seconds']], 2)
    alone = {**row, 'work': 'iaat', 'milliseconds': {'gjax': [4.0, 4.0]}, 'flops': 1e9}
    alone['against'] = {'title': 'PGD', 'milliseconds': [2.0, 1.0]}
    row['milliseconds'] = {'gjax': [1.0, 3.0], 'eager': [8.0, 8.0], 'channels_last': [4.0, 4.0]}
    assert steps.best_mode(row) == 'channels_last'
    shown = steps.text({'machine': measure.machine(), 'dtype': 'float32', 'peak_gflops': 500.0, 'steps': [row, alone]})
    assert '| 2.0 (1.0 - 3.0) | 4,000 | 8.0 (8.0 - 8.0) | 4.0 (4.0 - 4.0) | 0.50 (0.25 - 0.75) |' in shown
    front = steps.summary({'machine': measure.machine(), 'dtype': 'float32', 'steps': [row, alone]})
    assert '| 2.0 (1.0 - 3.0) | 4.0 (4.0 - 4.0), channels_last | 0.50 (0.25 - 0.75) |' in front
    assert front.count('\n|') == 3
    assert '|  |  |  | 50 |' in shown  # no peer; 250 of 500 GFLOP/s
    assert '28 px: 3.00 (2.00 - 4.00) times the step of PGD, which took in turns with this one 1.5 (1.0 - 2.0) ms.' in shown


@needs_torch
@pytest.mark.slow
def test_bfloat16_is_measured(torch_peer):
    row = steps.measured('pgd10', torch_peer, ['eager'], 0.01, 1, {'train.batch_size': 8}, 'bfloat16')
    for values in row['milliseconds'].values():
        _positive(values, 1)
    assert set(row['milliseconds']) == {'gjax', 'eager'}


@pytest.mark.slow
def test_operations_of_attacks_are_those_of_their_rounds():
    """Of a step of PGD-10: 10 rounds forward and back to the image, and a step that is a round and a half. Of IAAT: three
    attacks, the clean and two attacked images judged, the step. The stem's gradient and what is not a convolution differ."""
    small = {'train.batch_size': 8}
    flops = {}
    for name in ('pgd10', 'iaat'):
        work = steps.WORKS[name]
        flops[name] = step_flops(steps.build(work, small), work, small)
    assert flops['iaat'] / flops['pgd10'] == pytest.approx(66 / 23, rel=0.03)


@pytest.mark.parametrize(
    'dtype', [name if name == 'float32' else pytest.param(name, marks=pytest.mark.slow) for name in steps.DTYPES]
)
@pytest.mark.slow
def test_iaat_is_measured_in_turns_with_pgd10_in_the_same_arithmetic(monkeypatch, dtype):
    asked = []

    def timer(run, seconds):
        name = run.config.method.name
        asked.append((name, run.config.net.dtype))
        return (lambda: 6.0 if name == 'iaat' else 2.0), Program(None, None, 2.0, 1.0, 1.0)

    monkeypatch.setattr(steps, 'timer', timer)
    row = steps.measured('iaat', None, (), 0.01, 2, {'train.batch_size': 8, 'net.width': 1}, dtype)
    assert asked == [('iaat', dtype), ('adversarial_training', dtype)]
    assert row['milliseconds'] == {'gjax': [6.0, 6.0]}
    assert row['against'] == {'title': steps.WORKS['pgd10'].title, 'milliseconds': [2.0, 2.0]}


@pytest.mark.slow
def test_starts_are_measured():
    found = start.results(1)
    assert set(found['seconds']) == {'help', 'cold', 'warm'}
    for values in found['seconds'].values():
        _positive(values, 1)
    assert '| the same again |' in start.text(found)


@pytest.mark.slow
def test_a_job_that_cannot_start_is_told(tmp_path):
    with pytest.raises(RunError, match=r'made no first step: .*nosuchmethod'):
        start.first_step_seconds(tmp_path, 'iaat/digits.py:nosuchmethod')


@needs_torch
@pytest.mark.slow
def test_attacks_are_measured_beside_torchs(torch_peer):
    found = attacks.results(torch_peer, ['eager'], 2, 8, 2)
    for values in found['milliseconds'].values():
        _positive(values)
    found['milliseconds'] = {'gjax': [8.0, 8.0], 'eager': [16.0, 16.0]}
    assert '| torch eager | 16.0 (16.0 - 16.0) | 20 | 0.50 (0.50 - 0.50) |' in attacks.text(found)


def test_autoattacks_table_needs_no_torch():
    gjax = {'square': [1.0, 2.0], 'apgd_ce': [1.0, 1.0]}
    found = {'images': 4, 'compiling': 5.0, 'seconds': {'gjax': gjax}, 'standing': {}}
    assert '| square | 1.5 (1.0 - 2.0) |  |  |' in autoattack.text(found)
    found['seconds']['torch'] = {name: [4.0, 4.0] for name in gjax}
    text = autoattack.text(found)
    assert '| square | 1.5 (1.0 - 2.0) | 4.0 (4.0 - 4.0) | 0.38 (0.25 - 0.50) |' in text
    assert '| together: the standard version | 2.5 (2.0 - 3.0) | 8.0 (8.0 - 8.0) | 0.31 (0.25 - 0.38) |' in text
    assert 'took about 2 s more, to compile' in text


@needs_torch
@pytest.mark.slow
def test_autoattack_is_measured_beside_the_authors(torch_peer):
    pytest.importorskip('pyautoattack', reason='pip install --no-deps pyautoattack')
    found = autoattack.results(torch_peer, 4, 1)
    for side in found['seconds'].values():
        for values in side.values():
            _positive(values, 1)
    assert min(found['standing'].values()) >= 3


@pytest.mark.slow
def test_growth_is_measured():
    found = growth.results(0.01, 2, (8, 16), (1,), (1, 2), (1, 2), (2, 3))
    assert {name: list(own) for name, own in found['milliseconds'].items()} == {
        'batch': ['8', '16'],
        'attack_steps': ['1'],
        'domains': ['2', '3'],
        'loop_32': ['1', '2', 'dispatched'],
        'loop_8': ['1', '2', 'dispatched'],
        'devices': ['1', '2'],
    }
    for own in found['milliseconds'].values():
        for values in own.values():
            _positive(values)
    assert growth.text(found).count('From Python / 2 steps in a call: ') == 2
