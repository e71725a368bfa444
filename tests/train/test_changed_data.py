"""A run whose data has changed since it began says so, whatever is done with it next."""

import json

import numpy as np
import pytest

from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.loop import evaluate_run, train_and_evaluate
from tests.toy import write_toy


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """(config, run directory, the set's file, its arrays) of a run that stopped before its last evaluation."""
    folder = tmp_path_factory.mktemp('changed')
    write_toy(folder)
    changes = {'data.name': f'npz:{folder / "toy.npz"}', 'train.batch_size': 16, 'train.eval_batch_size': 40}
    changes |= {'net.widths': (4,), 'net.hidden': 4, 'train.total_epochs': 0, 'train.total_steps': 2}
    changes |= {'evaluation.steps': 1, 'evaluation.restarts': 1, 'train.eval_every_epochs': 0}
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
