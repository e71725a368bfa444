"""Stages of a method of a few numbers: keys by name, several parents, stages that only evaluate or take derived settings."""

import dataclasses
import json
import shutil
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import data, methods, nets
from gjax.evaluators import END, LOG, Evaluator, Findings, Memory
from gjax.methods.core.contract import Method, Role, Stage
from gjax.methods.core.state import new_state
from gjax.train import config as configs
from gjax.train.chain import Chain, stage_key
from gjax.train.errors import RunError
from gjax.train.feeds import placement
from gjax.train.loop import evaluate_run, train_and_evaluate
from tests.toy import write_toy


@dataclasses.dataclass(frozen=True)
class Options:
    """No options."""


@dataclasses.dataclass(frozen=True)
class Adding(Method):
    """A number that grows by `by` at every step; without data. `sum` begins at the sum of its parents, `judged` as `sum`
    ends, and only evaluates; `more` takes its `by` from where `two` ended.
    """

    NETS: ClassVar[dict] = nets.CLASSIFIERS
    EVALUATION: ClassVar[type] = Options
    GIVEN: ClassVar[tuple] = ('stage',)

    net: Any
    optimizer: Any
    info: Any
    evaluation: Any
    by: float = 1.0
    extra: bool = False  # whether there is one stage more, before the others
    stage: str = ''

    @classmethod
    def roles(cls, sets):
        return {}

    def stages(self):
        first = (Stage('extra'),) if self.extra else ()
        return (
            *first,
            Stage('one', key=7),
            Stage('two', overrides={'method.by': 2.0}),
            Stage('sum', ('one', 'two')),
            Stage('judged', ('sum',), trains=False),
            Stage('more', ('two',), derived=True),
        )

    def at(self, stage):
        return dataclasses.replace(self, stage=stage)

    def init(self, rng, batch):
        assert batch is None
        return new_state(rng, {'number': jnp.zeros(())}, {}, {}, {'noise': jnp.zeros(())})

    def step(self, state, batch):
        assert batch is None
        number = state.params['number'] + self.by
        return state.replace(step=state.step + 1, params={'number': number}), {'loss/number': number}

    def begin(self, stage, state, parents, batch, *, rng):
        assert batch is None
        memory = {'noise': jax.random.uniform(rng)}
        number = sum((parent.params['number'] for parent in parents.values()), jnp.zeros(()))
        if stage == 'sum':
            assert list(parents) == ['one', 'two']
            number = number + 100 * parents['two'].params['number']
        return state.replace(params={'number': number}, memory=memory)

    def derive(self, stage, parents):
        return {'method.by': float(parents['two'].params['number'])}

    def evaluators(self):
        found = [Memory(lambda state: {'number': state.params['number'], 'noise': state.memory['noise']})]
        if self.stage == 'judged':
            found += [Memory(lambda state: {'final': 2 * state.params['number']}, END)]
            found += [Memory(lambda state: {'logged': state.params['number']}, LOG)]
        return tuple(found)


@pytest.fixture(scope='module', autouse=True)
def registered():
    methods.register('adding', Adding)
    yield
    methods._registered.pop('adding')


def _config(name='adding', **method):
    config = configs.base_config()
    config.method = {'name': name, **method}
    config.train.update(total_steps=3, total_epochs=0, batch_size=8, eval_every_epochs=0, eval_every_steps=3)
    config.train.update(checkpoint_every_epochs=0, checkpoint_every_steps=3)
    configs.complete(config)
    config.lock()
    return config


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """(results, folder) of the plain chain."""
    folder = tmp_path_factory.mktemp('stages') / 'run'
    return train_and_evaluate(_config(), folder), folder


def test_a_stage_begins_from_all_its_parents(whole):
    metrics = whole[0]['metrics']
    numbers = {name: metrics[f'{name}/number'] for name in ('one', 'two', 'sum', 'judged', 'more')}
    # Three steps of 1, three of 2; 3 + 6 + 100 * 6 and three steps of 1; the same; 6 and three steps of 6.
    assert numbers == {'one': 3, 'two': 6, 'sum': 612, 'judged': 612, 'more': 24}
    record = json.loads((whole[1] / 'sum/run.json').read_text())
    assert record['parent'] == f'{whole[1] / "one"}, {whole[1] / "two"}'
    assert json.loads((whole[1] / 'more/config.json').read_text())['method']['by'] == 6


class Doubtful(Evaluator):
    """Finds nothing, and says why."""

    when = END

    def __call__(self, state, look):
        return Findings({}, warnings=(f'the number is {state.params["number"]:g}',))


def test_warnings_of_evaluators_are_printed_and_kept(tmp_path, monkeypatch):
    stages = Stage('one'), Stage('judged', ('one',), trains=False)
    monkeypatch.setattr(Adding, 'stages', lambda self: stages)
    monkeypatch.setattr(Adding, 'evaluators', lambda self: (Doubtful(),))
    with pytest.warns(UserWarning, match='^adding is hard to judge: the number is') as caught:
        results = train_and_evaluate(_config(), tmp_path / 'run')
    assert len(caught) == 2
    assert results['warnings'] == ['one: the number is 3', 'judged: the number is 3']
    assert json.loads((tmp_path / 'run/judged/results.json').read_text())['warnings'] == ['the number is 3']


def test_a_stage_that_does_not_train_evaluates_what_begin_made(whole):
    results, folder = whole
    own = json.loads((folder / 'judged/results.json').read_text())
    assert own['step'] == 0
    assert own['metrics']['final'] == results['metrics']['judged/final'] == 1224
    assert 'logged' not in own['metrics']
    assert not (folder / 'judged/metrics.jsonl').read_text()  # it took no step
    assert evaluate_run(folder / 'judged')['metrics'] == own['metrics']


def test_a_stage_that_does_not_train_goes_on_where_it_was_interrupted(whole, tmp_path):
    """Its state was saved, its results were not."""
    results, folder = whole
    shutil.copytree(folder, tmp_path / 'run')
    for file in ('results.json', 'judged/results.json', 'more/results.json'):
        (tmp_path / 'run' / file).unlink()
    assert train_and_evaluate(_config(), tmp_path / 'run') == results


def test_an_added_stage_leaves_the_others_as_they_were(whole, tmp_path):
    """Keys are of names, or given: the numbers that `begin` draws in a stage stay, wherever it stands."""
    more = train_and_evaluate(_config(extra=True), tmp_path / 'run')['metrics']
    names = ('one', 'two', 'sum', 'judged', 'more')
    assert {name: more[f'{name}/noise'] for name in names} == {name: whole[0]['metrics'][f'{name}/noise'] for name in names}
    assert len({more[f'{name}/noise'] for name in ('extra', *names)}) == 6


def test_keys_of_stages():
    assert stage_key(Stage('round01', key=3)) == 3
    assert stage_key(Stage('round01', key=0)) == 0
    by_name = [stage_key(Stage(name)) for name in ('round01', 'round02', 'inverter')]
    assert len(set(by_name)) == 3
    assert stage_key(Stage('round01', ('dense',), {'seed': 1}, True, False, False)) == by_name[0]
    assert all(0 <= key < 2**31 for key in by_name)
    noise = jax.random.uniform(jax.random.fold_in(jax.random.key(0), by_name[0]))
    assert np.isfinite(noise)  # a key that fold_in takes


def test_a_stage_waits_for_every_parent(whole, tmp_path):
    config = _config()
    chain = Chain(config)
    own = chain.stage_config('one', tmp_path / 'one')
    configs.override(own, {'stage': 'one'})
    train_and_evaluate(own, tmp_path / 'one')
    configs.override(own, {'stage': 'sum'})
    with pytest.raises(RunError, match=r'/two, where stage sum begins, is not finished'):
        train_and_evaluate(own, tmp_path / 'sum')
    assert chain.parents('sum', tmp_path / 'sum') == {name: tmp_path / name for name in ('one', 'two')}


def test_stages_of_one_config_and_method_share_a_run(whole):
    chain = Chain(_config())
    runs = {name: chain.run(chain.stage_config(name, whole[1] / name)) for name in chain.stages}
    assert len({id(run) for run in runs.values()}) == 5  # each has a method of its own here
    assert chain.run(chain.stage_config('sum', whole[1] / 'sum')) is runs['sum']


def test_a_step_without_data(whole, tmp_path):
    """No roles, so no sets are opened, and durations cannot be in epochs."""
    config = _config()
    chain = Chain(config)
    assert chain.main.datasets == chain.main.pools == {}
    assert chain.main.info == methods.DataInfo(0, 0, 3, 3)
    bad = configs.copy(config)
    configs.override(bad, {'train.total_steps': 0, 'train.total_epochs': 2})
    with pytest.raises(RunError, match=r'train.total_epochs is 2.*; allowed: 0, for adding sees no data; set steps'):
        train_and_evaluate(bad, tmp_path / 'bad')


@dataclasses.dataclass(frozen=True)
class Seeing(Adding):
    """The same numbers beside images that no step looks at; its stage `fewer` has other data."""

    @classmethod
    def roles(cls, sets):
        return {'': Role(sets.sources, fields=('image',))}

    def stages(self):
        return (*super().stages(), Stage('fewer', overrides={'data.examples': 8, 'train.batch_size': 8}))

    def init(self, rng, batch):
        return new_state(rng, {'number': jnp.zeros(())}, {}, {}, {'noise': jnp.zeros(())})


def test_the_runs_of_a_chain_share_their_sets(tmp_path, monkeypatch):
    """One stage has other options, so that it is a run of its own, but the data of the first; another has other data."""
    opened, placed = [], []
    open_sets, place = data.open_sets, placement.Replicated.__init__

    def counted(section, seed):
        opened.append(section.examples)
        return open_sets(section, seed)

    def placed_once(self, records, *arguments):
        placed.append(len(records))
        place(self, records, *arguments)

    monkeypatch.setattr(data, 'open_sets', counted)
    monkeypatch.setattr(placement.Replicated, '__init__', placed_once)
    monkeypatch.setitem(methods._registered, 'seeing', Seeing)
    write_toy(tmp_path)
    config = _config(name='seeing')
    with config.unlocked():
        config.data.update(name=f'npz:{tmp_path}/toy.npz', validation=0.0)
    chain = Chain(config)
    runs = {name: chain.run(chain.stage_config(name, tmp_path / name)) for name in ('one', 'two', 'fewer')}
    assert len(set(map(id, runs.values()))) == 3
    assert opened == [0, 8]
    assert sorted(placed) == [8, 40, 40, 80]  # training and test examples of both
    assert runs['one'].datasets['source'] is runs['two'].datasets['source']
    assert runs['one'].feed.source_shapes() == runs['two'].feed.source_shapes() != runs['fewer'].feed.source_shapes()
