"""Run directories of an older gjax (commit 2ed225c; their configs have no format number) resume, evaluate and report.

old_runs.tar.gz holds runs of the contract battery's tiny configs with attacks in the l2 ball, on the data of `tests.toy`:
  iaat, dann: finished.
  stopped: the run of iaat, ended by kill -9 after step 6, with a checkpoint of step 4.
  early_bird/search: a finished stage of a pipeline, whose config names it among the method's options, as `method.phase`.
    early_bird/expected.json is the results.json of the stage that began from it.
  generate_to_adapt: finished, of commit 1fe4fb1 (format 2), whose generator's last layer has a bias; without its images.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from gjax.study.report import report
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.loop import evaluate_run, train_and_evaluate
from gjax.train.store.records import read_metrics
from gjax.train.store.workdir import check_same_config
from tests.contract.cases import L2, tiny_config
from tests.toy import write_toy

ARCHIVE = Path(__file__).parent / 'old_runs.tar.gz'
DATA = 'npz:toy.npz'


# Today's options by another name or default, as the early bird's old configs mean them.
EARLY_BIRD = {'method__distance': 1.0, 'method__channels': 0.5, 'method__rule': 'any_two', 'method__history': 2}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A fresh copy of the old run directories. Their data, named relative to the working directory, lies there."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / 'runs', filter='data')
    write_toy(tmp_path)
    monkeypatch.chdir(tmp_path)
    return Path('runs')


def _results(directory, name='results.json') -> dict:
    return json.loads((directory / name).read_text())


# Which embeddings count is drawn now; in the old runs it was every k-th of the larger domain.
DRAWN = ('domain_accuracy', 'proxy_a_distance')


def _measured(results: dict) -> dict:
    return {name: value for name, value in results['metrics'].items() if name not in DRAWN}


def _assert_as_before(found: dict, before: dict) -> None:
    """The old results, to 1e-4: another processor rounds differently. Only protocols may be told beside them."""
    assert found['metrics'].keys() == before['metrics'].keys()
    assert _measured(found) == pytest.approx(_measured(before), rel=1e-4, abs=1e-4)
    new = {key: value for key, value in found.items() if key not in ('metrics', 'protocol', 'protocols')}
    assert new == {key: value for key, value in before.items() if key not in ('metrics', 'protocol', 'protocols')}


@pytest.mark.parametrize(
    'name', ['iaat', *(pytest.param(name, marks=pytest.mark.slow) for name in ('dann', 'early_bird/search'))]
)
def test_a_finished_run_is_complete_and_is_evaluated_as_before(runs, name):
    before = _results(runs / name)
    assert 'format' not in _results(runs / name, 'config.json')
    assert train_and_evaluate(configs.read(runs / name / 'config.json'), runs / name) == before
    # A new option, whose warnings would cost a program more.
    found = evaluate_run(runs / name, {'evaluation.warnings': 'False'} if name == 'iaat' else None)
    assert found['protocol']
    _assert_as_before(found, before)


def test_a_stopped_run_resumes_and_ends_as_the_undisturbed_one(runs):
    _assert_as_before(
        train_and_evaluate(configs.read(runs / 'stopped/config.json'), runs / 'stopped'), _results(runs / 'iaat')
    )
    assert _results(runs / 'stopped', 'run.json')['resumed_at'] == 4
    logs = [read_metrics(runs / name / 'metrics.jsonl') for name in ('stopped', 'iaat')]
    assert [line['step'] for line in logs[0]] == [line['step'] for line in logs[1]]
    for line, before in zip(*logs, strict=True):
        assert line.keys() == before.keys()
        for key, value in before.items():
            np.testing.assert_allclose(line[key], value, rtol=1e-4, atol=1e-4, err_msg=key)


@pytest.mark.slow
def test_a_stage_begins_from_an_old_one(runs):
    config, workdir = tiny_config('early_bird', DATA, **L2, **EARLY_BIRD, stage='early_bird'), runs / 'early_bird/early_bird'
    _assert_as_before(train_and_evaluate(config, workdir), _results(runs / 'early_bird', 'expected.json'))


def test_todays_config_is_the_old_one(runs):
    for name, case, overrides in (
        ('iaat', 'iaat', {'evaluation__warnings': True}),
        ('stopped', 'iaat', {'evaluation__warnings': True}),
        ('dann', 'dann', {}),
        ('early_bird/search', 'early_bird', EARLY_BIRD),
    ):
        config = tiny_config(case, DATA, **L2, **overrides)
        check_same_config(config, runs / name)
        config.unlock()
        config.optimizer.learning_rate = 7.0
        with pytest.raises(RunError, match=r'holds a run with config\.optimizer\.learning_rate'):
            check_same_config(config, runs / name)


def test_defaults_that_have_changed_are_what_they_were_in_old_configs(runs):
    """The bias of a generator means nothing to methods without one, how GraSP is taken nothing to runs without GraSP."""
    read = {name: configs.read(runs / name / 'config.json') for name in ('generate_to_adapt', 'dann', 'early_bird/search')}
    assert read['generate_to_adapt'].net.final_bias
    assert not read['dann'].net.final_bias
    assert read['early_bird/search'].method.rule == 'any_two'
    assert read['early_bird/search'].method.grasp_weights_only
    values = _results(runs / 'early_bird/search', 'config.json')
    values['method']['controls'] = ['random', 'grasp']
    assert not configs.from_json(json.dumps(values)).method.grasp_weights_only
    again = json.loads(configs.to_json(tiny_config('generate_to_adapt', DATA)))
    assert not configs.from_json(json.dumps(again)).net.final_bias  # said by the file
    today = read['generate_to_adapt'].copy_and_resolve_references().unlock()
    today.net.final_bias = False
    with pytest.raises(RunError, match=r'holds a run with config\.net\.final_bias=True, not False'):
        check_same_config(today, runs / 'generate_to_adapt')


@pytest.mark.slow
def test_a_generator_with_a_bias_is_evaluated_as_before(runs):
    before = _results(runs / 'generate_to_adapt')
    assert 'final_bias' not in _results(runs / 'generate_to_adapt', 'config.json')['net']
    _assert_as_before(evaluate_run(runs / 'generate_to_adapt'), before)


def test_old_runs_are_reported(runs):
    text = report([str(runs / 'iaat'), str(runs / 'dann')], 'out')
    assert '| iaat | 1 |' in text
    assert '| dann | 1 |' in text
