"""A run whose data has changed since it began says so, whatever is done with it next."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from gjax import methods
from gjax.evaluators.base import Evaluator, Findings
from gjax.methods.core.contract import Role, Stage
from gjax.methods.core.state import new_state
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.loop import evaluate_run, train_and_evaluate
from gjax.train.store.checkpoint import Checkpointer
from gjax.train.store.workdir import check_same_data, record_data
from tests.toy import write_toy
from tests.train.test_stages import Adding

FOREIGN = ''  # the name of a set that evaluators measure on


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """(config, run directory, the set's file, its arrays) of a run that stopped before its last evaluation."""
    folder = tmp_path_factory.mktemp('changed')
    write_toy(folder)
    changes = {'data.name': f'npz:{folder / "toy.npz"}', 'train.batch_size': 16, 'train.eval_batch_size': 40}
    changes |= {'net.widths': (4,), 'net.hidden': 4, 'train.total_epochs': 0, 'train.total_steps': 2}
    changes |= {'evaluation.steps': 1, 'evaluation.restarts': 1, 'train.eval_every_epochs': 0}
    changes |= {'evaluation.attacks': ('pgd',), 'evaluation.warnings': False}
    config = configs.load('iaat/digits.py:supervised', changes)
    train_and_evaluate(config, folder / 'run')
    (folder / 'run/results.json').unlink()
    return config, folder / 'run', folder / 'toy.npz', dict(np.load(folder / 'toy.npz'))


def _refused(config, workdir):
    lines = set()
    for again in (lambda: train_and_evaluate(config, workdir), lambda: evaluate_run(workdir)):
        with pytest.raises(RunError) as error:
            again()
        lines.add(str(error.value))
    return lines.pop() if len(lines) == 1 else lines


def test_a_config_that_names_other_sets_than_it_did_is_refused(tmp_path):
    """As where a `*` stands for one domain more."""
    record_data({'art': {}, 'photo': {}, 'evaluation.ood noise': {}}, ('art', 'photo'), tmp_path)
    check_same_data({}, tmp_path, names=('art', 'photo'))
    check_same_data({}, tmp_path)  # of another stage's run
    for names in (('art', 'photo', 'sketch'), ('photo', 'art'), ('art',)):
        line = f'began with the sets art, photo; its config now names {", ".join(names)}: bring back'
        with pytest.raises(RunError, match=line):
            check_same_data({}, tmp_path, names=names, accept=True)


def test_changed_data_is_refused_or_accepted_on_demand(trained):
    config, workdir, file, arrays = trained
    before = (workdir / 'data.json').read_bytes()
    assert json.loads(before)['sets']['source']['splits']['train']['count'] == 80
    order = np.random.default_rng(0).permutation(80)
    np.savez(file, **arrays | {f'train_{what}': arrays[f'train_{what}'][order] for what in ('images', 'labels')})
    line = _refused(config, workdir)
    assert 'began with other data: of source, examples of train have other contents or another order' in line
    assert '--accept_changed_data' in line
    with pytest.warns(UserWarning, match='began with other data'):
        measured = evaluate_run(workdir, accept_changed_data=True)
    assert (workdir / 'data.json').read_bytes() == before
    np.savez(file, **arrays)
    assert evaluate_run(workdir)['metrics'] == measured['metrics']  # the test split was the same
    few = {name: array[:-2] if name.startswith('train') else array for name, array in arrays.items()}
    np.savez(file, **few)
    assert 'of source, train has 78 examples; it had 80' in _refused(config, workdir)
    with pytest.warns(UserWarning, match='train has 78'):
        results = train_and_evaluate(config, workdir, accept_changed_data=True)
    assert results['step'] == 2
    assert json.loads((workdir / 'data.json').read_text())['sets']['source']['splits']['train']['count'] == 78


def test_a_damaged_record_is_named(trained):
    config, workdir, *_ = trained
    (workdir / 'results.json').unlink(missing_ok=True)
    (workdir / 'data.json').write_text('{"sets": {"source": 3}}')
    assert _refused(config, workdir) == f"{workdir / 'data.json'} is damaged: its entry of 'source' is no fingerprint"


class Elsewhere(Evaluator):
    """Measures the mean pixel of a set that is none of the run's."""

    def prepare(self, look):
        self.mean = look.other_set(FOREIGN, 'evaluation.ood').test.read(np.arange(4)).images.mean()

    def __call__(self, state, look):
        return Findings({'mean': self.mean})


class Seeing(Adding):
    """Two stages of a number that sees images."""

    @classmethod
    def roles(cls, sets):
        return {'': Role(sets.sources, fields=('image',))}

    def stages(self):
        return (Stage('one'), Stage('two', ('one',)))

    def init(self, rng, batch):
        return new_state(rng, {'number': jnp.zeros(())}, {}, {}, {'noise': jnp.zeros(())})

    def step(self, state, batch):
        return super().step(state, None)

    def begin(self, stage, state, parents, batch, *, rng):
        return super().begin(stage, state, parents, None, rng=rng)


class Measuring(Seeing):
    """One run that measures on another set."""

    def stages(self):
        return ()

    def evaluators(self):
        return (Elsewhere(),)


def test_sets_that_only_evaluators_open_are_watched_too(tmp_path, monkeypatch):
    write_toy(tmp_path)
    own, foreign = (str(tmp_path / name) for name in ('toy.npz', 'foreign.npz'))
    arrays = dict(np.load(own))
    np.savez(foreign, **arrays)
    monkeypatch.setitem(globals(), 'FOREIGN', f'npz:{foreign}')
    monkeypatch.setitem(methods._registered, 'measuring', Measuring)
    config = configs.base_config()
    config.data.name = f'npz:{own}'
    config.method = {'name': 'measuring'}
    config.train.update(total_steps=2, batch_size=8)
    configs.complete(config)
    workdir = tmp_path / 'run'
    train_and_evaluate(config, workdir)
    recorded = json.loads((workdir / 'data.json').read_text(encoding='utf-8'))['sets']
    assert list(recorded) == [f'evaluation.ood npz:{foreign}', 'source']
    np.savez(foreign, **arrays | {'test_images': arrays['test_images'][::-1]})
    (workdir / 'results.json').unlink()
    line = _refused(config, workdir)
    assert f'began with other data: of evaluation.ood npz:{foreign}, examples of test have other contents' in line
    # A run of an older gjax recorded its own sets alone: it goes on, and records the others now.
    (workdir / 'data.json').write_text(json.dumps({'sets': {'source': recorded['source']}}), encoding='utf-8')
    evaluate_run(workdir)
    train_and_evaluate(config, workdir)
    now = json.loads((workdir / 'data.json').read_text(encoding='utf-8'))['sets']
    assert now['source'] == recorded['source']
    assert now.keys() == recorded.keys()
    assert now != recorded


def test_a_stage_does_not_begin_from_a_parent_of_other_data(tmp_path, monkeypatch, capsys):
    methods.register('seeing', Seeing)
    try:
        write_toy(tmp_path)
        config = configs.base_config()
        config.data.name = f'npz:{tmp_path / "toy.npz"}'
        config.method = {'name': 'seeing'}
        config.train.update(total_steps=2, batch_size=8)
        configs.complete(config)

        def stage(name, **options):
            config.stage = name
            return train_and_evaluate(config, tmp_path / 'run' / name, **options)

        with monkeypatch.context() as shown:
            shown.delenv('GJAX_PROGRESS')
            stage('one')
        first = capsys.readouterr().err.splitlines()[0]
        held = '8 validation (0.1 of the training examples, drawn by the seed)'
        assert first == f'source: {config.data.name}: 72 train / {held} / 40 test, 2 classes (0 60, 1 60)'
        arrays = dict(np.load(tmp_path / 'toy.npz'))
        np.savez(tmp_path / 'toy.npz', **arrays | {'train_images': arrays['train_images'][::-1]})
        with pytest.raises(RunError, match='run/one began with other data: of source, examples of train'):
            stage('two')
        with pytest.warns(UserWarning, match='run/one began with other data'):
            assert stage('two', accept_changed_data=True)['step'] == 2
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Checkpointer, 'restore_latest', lambda *_: pytest.fail('it does not fit'))
            before = (tmp_path / 'run/one/data.json').read_bytes()
            (tmp_path / 'run/one/results.json').unlink()
            with pytest.warns(UserWarning, match='began with'), pytest.raises(pytest.fail.Exception):
                stage('one', accept_changed_data=True)
            assert (tmp_path / 'run/one/data.json').read_bytes() == before  # nothing has been accepted
    finally:
        methods._registered.pop('seeing')
