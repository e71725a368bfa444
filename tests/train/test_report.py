"""Runs are grouped by what they are, and the figures take runs of any number and length."""

import json

import pytest

from gjax.train import plots
from gjax.train.errors import RunError
from gjax.train.report import find_runs, group_runs


def _run(directory, **config):
    directory.mkdir(parents=True)
    (directory / 'config.json').write_text(json.dumps(config))
    (directory / 'results.json').write_text('{}')
    return directory


def test_runs_that_differ_in_the_seed_share_a_row_and_others_do_not(tmp_path):
    for study, eps in (('a', 0.1), ('b', 0.2)):
        for seed in (0, 1):
            _run(tmp_path / study / 'trades' / f'seed{seed}', seed=seed, method={'name': 'trades', 'eps': eps})
    _run(tmp_path / 'copy', seed=0, method={'name': 'trades', 'eps': 0.1})
    groups = group_runs(find_runs([tmp_path]))
    assert {name: len(members) for name, members in groups.items()} == {'trades': 3, 'trades (method.eps=0.2)': 2}
    with pytest.raises(RunError, match='holds no finished run'):
        find_runs([tmp_path / 'a' / 'trades', tmp_path / 'nowhere'])


def test_figures_of_ten_runs_with_curves_of_different_length():
    lines, results = {}, {}
    for i in range(10):
        lines[f'run{i}'] = [[{'epoch': e, 'test/clean_accuracy': 0.5} for e in range(3 + s)] for s in range(2)]
        metrics = {'clean_accuracy': 0.9, 'robust_accuracy': 0.5, 'accuracy_at_0.0314': 0.6}
        results[f'run{i}'] = [{'metrics': metrics}, {'metrics': metrics | {'accuracy_at_0.0627': 0.4}}]
    figure = plots.training_curves(lines, names=('clean_accuracy',))
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 10
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [3] * 10
    figure = plots.accuracy_against_eps(results, 8 / 255)
    assert list(figure.axes[0].lines[0].get_xdata()) == pytest.approx([0, 8.007])
    assert len(plots.frontier(results).axes[0].get_legend().get_texts()) == 10
