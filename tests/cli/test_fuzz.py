"""Malformed overrides, data files and run directories thrown at the command line: one line, never a traceback, and no
changed file outside the workdir."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from experiments.reliability.bench import CODES, launched
from experiments.reliability.outside import special
from gjax import signals
from gjax.train import config as configs
from gjax.train import loop
from gjax.train.run import Measured, Run
from tests.cli import runner
from tests.cli.test_signals import until_it_watches

QUICK = {'train.total_steps': 2, 'train.batch_size': 8, 'train.eval_batch_size': 8, 'net.widths': (2,), 'net.hidden': 2}
QUICK |= {'evaluation.steps': 1, 'evaluation.restarts': 1, 'evaluation.curve': (0.1,), 'evaluation.curve_steps': 1}
QUICK |= {'evaluation.attacks': ('pgd',), 'evaluation.warnings': False}
QUICK |= {'method.attack_steps': 1, 'train.checkpoint_every_steps': 1}
KEYS = sorted(configs.flatten(configs.load('iaat/digits.py').to_dict()))
SPECIAL = ('pipe', 'socket', 'folder')
COMMON = {'deadline': None, 'derandomize': True, 'database': None}
COMMON['suppress_health_check'] = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@contextlib.contextmanager
def _within(seconds: int):
    """A context that ends by a failure when it takes so long; what waits for a pipe would wait for ever."""

    def late(number, frame):
        raise AssertionError(f'it takes more than {seconds} s')

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


class Sandbox:
    """A folder to stand in, with a file beside it that nothing may touch, a data set and a run.

    Where one stands are pipes and the like, called as in SPECIAL, and folders of images, called so with an s, that have one.
    """

    def __init__(self, root):
        self.root, self.work = root, root / 'inside' / 'work'
        self.work.parent.mkdir(parents=True)
        (root / 'precious.txt').write_text('precious')
        (root / 'elsewhere').mkdir()
        images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1)).astype(np.uint8)
        labels = np.arange(24) % 2
        for kind in SPECIAL:
            special(root / 'inside' / kind, kind)
            special(root / 'inside' / f'{kind}s' / 'train' / 'a' / '0.png', kind)
        np.savez(root / 'toy.npz', train_images=images, train_labels=labels, test_images=images, test_labels=labels)
        self.data = f'npz:{root}/toy.npz'

    def files(self):
        """Every file outside the workdir with its content, every folder and link."""
        found = {}
        for folder, folders, files in os.walk(self.root):
            if f'{os.path.realpath(folder)}{os.sep}'.startswith(f'{self.work}{os.sep}'):
                continue
            for name in (*folders, *files):
                path = os.path.join(folder, name)
                if os.path.islink(path):
                    found[path] = os.readlink(path)
                elif os.path.isfile(path):
                    with open(path, 'rb') as file:
                        found[path] = file.read()
                elif path != str(self.work):
                    found[path] = 'folder'
        return found

    def gjax(self, *arguments, outside=()):
        """Runs a command inside this process, checks what must hold of any, and returns (exit code, stderr)."""
        before, hooks = self.files(), {n: signal.getsignal(n) for n in signals.STOPS}
        with _within(300):
            code, out, text = runner.gjax(*arguments)
        assert 'Traceback' not in text + out, text
        assert code in (0, 1, 2), text
        if code == 1:
            lines = text.strip().splitlines()
            assert len(lines) == 1, text
            assert lines[0].startswith('gjax: error: ')
        after = self.files()
        changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        assert not {path for path in changed if not path.startswith(tuple(map(str, outside)) or '\0')}
        assert {n: signal.getsignal(n) for n in hooks} == hooks
        return code, text


@pytest.fixture(scope='module')
def sandbox(tmp_path_factory):
    box = Sandbox(tmp_path_factory.mktemp('fuzz'))
    old = os.getcwd()
    os.chdir(box.work.parent)
    yield box
    os.chdir(old)


@pytest.fixture(scope='module')
def template(sandbox):
    """A finished run's directory."""
    flags = [f'--config.{key}={value}' for key, value in (QUICK | {'data.name': sandbox.data}).items()]
    flags = ['train', '--config=iaat/digits.py:iaat', *flags]
    assert sandbox.gjax(*flags, f'--workdir={sandbox.work}')[0] == 0
    kept = sandbox.work.rename(sandbox.root / 'template')
    return kept, flags


@pytest.fixture
def nothing_trains(monkeypatch):
    """Commands go as far as a run that is about to start."""
    monkeypatch.setattr(loop, '_train_and_evaluate', lambda run, *rest: {'metrics': {}})


_numbers = st.one_of(
    st.integers(-3, 9).map(str),
    st.sampled_from(
        ['1e999', 'nan', '-inf', '2147483648', '9' * 30, '1' * 5000, '0x10', '1_0', '-0.0', '1e-320', '1e30', 'True']
    ),
    st.floats().map(repr),
)
_values = st.one_of(
    _numbers,
    st.lists(_numbers, max_size=4).map(lambda items: f'({",".join(items)},)'),
    st.text(max_size=20),
    st.sampled_from(
        [
            '',
            '()',
            '(' * 300,
            '[' * 3000 + ']' * 3000,
            '{}',
            "('a',)",
            'None',
            '..',
            '../../precious.txt',
            '/',
            '\0',
            '\x1b[31m',
            '--x',
        ]
    ),
    st.sampled_from(
        [form.format(path) for path in (*SPECIAL, '/dev/zero') for form in ('npz:{}', 'folder:{}', 'folder:{}s', '{}')]
    ),
    st.sampled_from(
        ['npz:../precious.txt', 'npz:\0', 'folder:.', 'folder:..', 'npz:', 'cifar10', 'a/b', 'adam', 'iaat', 'wide_resnet']
    ),
)
_odd_keys = st.one_of(st.sampled_from(['', '.', 'net', 'net.', 'seed.x', '__class__', 'data.name.x']), st.text(max_size=12))
_keys = st.integers(0, 9).flatmap(lambda n: st.sampled_from(KEYS) if n else _odd_keys)


def _overrides(sandbox, changes, joined):
    assume(changes.get('data.workers', '0') in ('0', '-1'))
    settings = {'data.name': sandbox.data} | {k: v for k, v in QUICK.items() if k != 'method.attack_steps'} | changes
    words = [[f'--config.{k}={v}'] if joined else [f'--config.{k}', f'{v}'] for k, v in settings.items()]
    shutil.rmtree(sandbox.work, ignore_errors=True)
    sandbox.gjax('train', '--config=iaat/digits.py:iaat', f'--workdir={sandbox.work}', *itertools.chain(*words))


_changes = st.dictionaries(_keys, _values, min_size=1, max_size=3)


@settings(max_examples=40, **COMMON)
@given(_changes, st.booleans())
@example({'net.hidden': '9' * 30}, True)
@example({'data.name': 'folder:/dev/null'}, True)
@example({'data.name': 'folder:pipes'}, True)
@example({'data.name': 'npz:socket'}, True)
@example({'seed': '9' * 30}, True)
@example({'seed': '-1'}, True)
def test_overrides(sandbox, nothing_trains, changes, joined):
    _overrides(sandbox, changes, joined)


@pytest.mark.slow
@settings(max_examples=300, **COMMON)  # of another name, so others than above
@given(_changes, st.booleans())
def test_many_overrides(sandbox, nothing_trains, changes, joined):
    _overrides(sandbox, changes, joined)


@settings(max_examples=30, **COMMON)
@given(st.lists(st.tuples(_keys, st.lists(_values, min_size=1, max_size=3)), max_size=2))
@example([('seed', ['..', '../../x', '/etc'])])
@example([('data.name', ['folder:..', 'npz:../../precious.txt'])])
def test_sweeps_stay_in_their_folder(sandbox, over):
    shutil.rmtree(sandbox.work, ignore_errors=True)
    words = [f'--over={key}={",".join(values)}' for key, values in over]
    code, _ = sandbox.gjax('sweep', '--config=iaat/digits.py', f'--workdir={sandbox.work}', *words, '--print')
    if code == 0 and over:
        from gjax.study import sweep

        jobs = sweep.plan(
            'iaat/digits.py', {}, sweep.parse_over([word.removeprefix('--over=') for word in words]), sandbox.work
        )
        for job in jobs:
            assert os.path.normpath(job.directory).startswith(f'{sandbox.work}{os.sep}')
        assert len({job.directory for job in jobs}) == len(jobs)


@st.composite
def _damaged(draw, content: bytes):
    """The bytes of a file, cut, overwritten or replaced."""
    kind = draw(st.sampled_from(['cut', 'overwrite', 'random', 'insert']))
    at = draw(st.integers(0, len(content)))
    if kind == 'cut':
        return content[:at]
    noise = draw(st.binary(min_size=1, max_size=40))
    return {
        'overwrite': content[:at] + noise + content[at + len(noise) :],
        'insert': content[:at] + noise + content[at:],
    }.get(kind, noise)


_arrays = st.dictionaries(
    st.sampled_from(['train_images', 'train_labels', 'test_images', 'test_labels', '../x', '']),
    st.sampled_from(
        [
            np.zeros((24, 8, 8, 1), np.uint8),
            np.zeros((24, 8, 8, 3), np.uint8),
            np.zeros((0, 8, 8, 1), np.uint8),
            np.zeros((24, 0, 8, 1), np.uint8),
            np.zeros((24, 2, 2), np.uint8),
            np.zeros((24,), np.int64),
            np.full((24,), -(2**62)),
            np.full((24,), 2**40),
            np.zeros((), np.int32),
            np.zeros((24,), np.bool_),
            np.zeros((24,), 'U3'),
            np.zeros((24, 8, 8, 1), np.float64),
            np.zeros((24,), [('a', 'i4')]),
            np.asarray([{}] * 24),
        ]
    ),
)


@settings(max_examples=50, **COMMON)
@given(st.data(), st.booleans())
def test_npz_files(sandbox, nothing_trains, data, made):
    file = sandbox.root / 'fuzzed.npz'
    if made:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            np.savez(file, **data.draw(_arrays))
    else:
        file.write_bytes(data.draw(_damaged((sandbox.root / 'toy.npz').read_bytes())))
    shutil.rmtree(sandbox.work, ignore_errors=True)
    words = [f'--config.{k}={v}' for k, v in QUICK.items()]
    sandbox.gjax(
        'train', '--config=iaat/digits.py:iaat', f'--workdir={sandbox.work}', f'--config.data.name=npz:{file}', *words
    )


_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _edited(data, values):
    """A JSON object with one value, at any depth, replaced."""
    place = values
    while isinstance(place, dict) and place:
        key = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(_json)
            break
        place = place[key]
    return values


def _mutate(data, folder):
    """Damages one file of a run directory, or puts a folder, a link or JSON of another form in its place."""
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file())
    file = folder / data.draw(st.sampled_from(['config.json', 'run.json', 'metrics.jsonl', 'results.json', *files]))
    kind = data.draw(st.sampled_from(['damage', 'json', 'edit', 'delete', *SPECIAL, 'link', 'link_folder']))
    content = file.read_bytes() if file.is_file() else b''
    if kind == 'edit' and file.suffix == '.json':
        with contextlib.suppress(ValueError):  # already damaged
            file.write_text(json.dumps(_edited(data, json.loads(content))))
        return
    _remove(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    if kind == 'damage':
        file.write_bytes(data.draw(_damaged(content)))
    elif kind in ('json', 'edit'):
        file.write_text(json.dumps(data.draw(_json)))
    elif kind in SPECIAL:
        special(file, kind)
    elif kind == 'link':
        file.symlink_to('../../precious.txt')
    elif kind == 'link_folder':
        place = folder / data.draw(st.sampled_from(['checkpoints', 'tensorboard', 'figures', 'lock']))
        _remove(place)
        place.symlink_to('../../elsewhere')


def _run_directory(sandbox, template, data, command):
    kept, train = template
    shutil.rmtree(sandbox.work, ignore_errors=True)
    shutil.copytree(kept, sandbox.work)
    if data.draw(st.booleans()):
        (sandbox.work / 'results.json').unlink()
    for _ in range(data.draw(st.integers(1, 2))):
        _mutate(data, sandbox.work)
    if command == 'report':
        out = sandbox.work / 'out'
        sandbox.gjax('report', sandbox.work, f'--out={out}')
    elif command == 'eval':
        sandbox.gjax('eval', f'--workdir={sandbox.work}')
    else:
        sandbox.gjax(*train, f'--workdir={sandbox.work}')


@pytest.fixture
def nothing_is_evaluated(monkeypatch):
    """States are restored and logs repaired for real; the compiled work on them is left out."""

    def findings(run, look):
        return Measured({'clean_accuracy': 1.0}, {'examples': {'margin': np.zeros(1)}} if look.when == 'end' else {}, {})

    monkeypatch.setattr(Run, 'findings', findings)

    def advance(run, state, step, cuts=()):
        if step < run.num_steps:
            yield state, run.num_steps, {'loss/classifier': np.ones(run.num_steps - step)}

    monkeypatch.setattr(Run, 'advance', advance)


@pytest.mark.parametrize('command', ['train', 'eval', 'report'])
@settings(max_examples=10, **COMMON)
@given(data=st.data())
def test_run_directories(sandbox, template, nothing_is_evaluated, command, data):
    _run_directory(sandbox, template, data, command)


@pytest.mark.slow
@pytest.mark.parametrize('command', ['train', 'eval', 'report'])
@settings(max_examples=40, **COMMON)  # of another name, so others than above
@given(data=st.data())
def test_many_run_directories(sandbox, template, nothing_is_evaluated, command, data):
    _run_directory(sandbox, template, data, command)


@pytest.mark.slow
@settings(max_examples=6, **COMMON)
@given(st.sampled_from(sorted(CODES)), st.floats(0, 6), st.sampled_from(('train', 'eval', 'report')))
def test_signals_at_any_time(sandbox, template, number, seconds, command):
    """A real process ends by a signal, or before it comes: no traceback, nothing outside changed."""
    kept, train = template
    shutil.rmtree(sandbox.work, ignore_errors=True)
    shutil.copytree(kept, sandbox.work)
    (sandbox.work / 'results.json').unlink()
    words = {'train': train, 'eval': ['eval'], 'report': ['report', str(sandbox.work), f'--out={sandbox.work}/out']}[command]
    words += [] if command == 'report' else [f'--workdir={sandbox.work}']
    before = sandbox.files()
    options = {'env': runner.tiny_environment(), 'text': True, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
    with subprocess.Popen(launched([sys.executable, '-m', 'gjax', *map(str, words)]), **options) as process:
        until_it_watches(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
    lines = err.strip().splitlines()
    assert process.returncode in (0, 1, CODES[number])
    assert 'Traceback' not in err
    assert len(lines) == 1 if process.returncode else True, err
    assert sandbox.files() == before
