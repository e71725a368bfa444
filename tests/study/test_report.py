"""Any runs are compared: of every method, finished or not, with odd names and damaged files; figures show what there is."""

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gjax.study import plots
from gjax.study.report import escape, find_runs, group_runs, read_run, report
from gjax.train.errors import RunError

HOSTILE = '_a|b`<img src=x>&amp;*_c_*~[d](e)$f$\x1b[31m\u202e\n\\'


def _run(directory, config, metrics=None, lines=(), record=None, step=100):
    """A run directory: finished if it has metrics, begun if it has lines."""
    directory.mkdir(parents=True)
    (directory / 'config.json').write_text(json.dumps({'seed': 0} | config))
    if lines:
        (directory / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    if metrics is not None:
        (directory / 'results.json').write_text(json.dumps({'step': step, 'metrics': metrics}))
    if record is not None:
        (directory / 'run.json').write_text(json.dumps(record))
    return directory


def _lines(count, total=10, **values):
    """The log of `count` of `total` epochs, ten steps each; values: functions of the epoch, by key with __ for /."""
    values = {key.replace('__', '/'): value for key, value in values.items()}
    return [
        {'step': 10 * e, 'epoch': float(e), 'progress': e / total} | {key: value(e) for key, value in values.items()}
        for e in range(1, count + 1)
    ]


def _rows(text):
    """{first cell: {heading: cell}} of a markdown table, split at the bars that are not escaped."""
    table = [re.split(r'(?<!\\)\|', line.strip('|')) for line in text.splitlines() if line.startswith('|')]
    table = [[cell.strip() for cell in row] for row in table]
    assert len({len(row) for row in table}) == 1, text
    return {row[0]: dict(zip(table[0], row, strict=True)) for row in table[2:]}


def _figures(out):
    return sorted(path.name for path in (out / 'figures').iterdir())


def test_runs_that_differ_in_the_seed_share_a_row_and_others_do_not(tmp_path):
    for study, eps in (('a', 0.1), ('b', 0.2)):
        for seed in (0, 1):
            _run(tmp_path / study / 'trades' / f'seed{seed}', {'seed': seed, 'method': {'name': 'trades', 'eps': eps}})
    _run(tmp_path / 'copy', {'method': {'name': 'trades', 'eps': 0.1}})
    groups = group_runs(find_runs([tmp_path]))
    assert {name: len(members) for name, members in groups.items()} == {'trades': 3, 'trades (method.eps=0.2)': 2}
    with pytest.raises(RunError, match='holds no finished run and none that has begun'):
        find_runs([tmp_path / 'a' / 'trades', tmp_path / 'nowhere'])


def test_group_names_are_unique_printable_and_short(tmp_path):
    for i in range(3):
        _run(tmp_path / f'{i}' / 'x', {'method': {'a': 'same', 'b': i // 2, 'c': 'v' * 200}, 'z': {'deep': [i]}})
        _run(tmp_path / f'{i}' / ('long' * 40), {'i': i, 'n': HOSTILE})
    for name in ('x', 'x #2'):
        damaged = tmp_path / 'p' / name
        damaged.mkdir(parents=True)
        (damaged / 'config.json').write_text('{')
    groups = group_runs(find_runs([tmp_path]))
    assert sum(len(members) for members in groups.values()) == len(groups) == 8
    assert {'x', 'x (z.deep=[1])', 'x (method.b=1, z.deep=[2])', 'p/x', 'p/x #2'} < set(groups)
    assert all(len(name) <= 90 and name.isprintable() for name in groups)


def test_a_directory_given_twice_counts_once_and_copies_of_a_seed_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('seed0', 'copies/seed0', 'copies/seed1'):
        _run(tmp_path / name, {'seed': int(name[-1])}, {'clean_accuracy': 0.5})
    (tmp_path / 'link').symlink_to('seed0')
    assert len(find_runs([tmp_path, 'seed0', 'link', Path('copies/..')])) == 3
    (row,) = _rows(report(['.'], 'out')).values()
    assert row['seeds'] == '2 (3 runs)'


def test_methods_with_different_metrics_share_a_table(tmp_path):
    record = {'seconds': 12.34, 'devices': ['TPU v4', 'TPU v4'], 'examples_per_second': 1500.25, 'data_wait_share': 0.125}
    for seed, accuracy, distance in ((0, 0.90, 30.12345), (1, 0.94, 32.12345)):
        _run(tmp_path / 'iaat' / f'seed{seed}', {'seed': seed}, {'clean_accuracy': accuracy, 'curve': [1, 2]}, record=record)
        _run(tmp_path / 'gan' / f'seed{seed}', {'seed': seed, 'method': {'name': 'gan'}}, {'frechet_distance': distance})
    _run(tmp_path / 'flow', {'method': {'name': 'flow'}}, {'bits_per_dim': 3.14159, 'test_accuracy': 1.0}, step=7)
    text = report([tmp_path], tmp_path / 'out')
    assert text == (tmp_path / 'out' / 'report.md').read_text()
    rows = _rows(text)
    costs = {'wall time (s)': '12.34 ± 0', 'examples/s': '1500 ± 0', 'share waiting for data': '0.125 ± 0'}
    measured = {'clean_accuracy (%)': '92.0 ± 2.8', 'frechet_distance': '', 'bits_per_dim': '', 'test_accuracy (%)': ''}
    known = {'run': 'iaat', 'seeds': '2', 'status': 'complete', 'steps': '100', 'devices': '2 x TPU v4'}
    assert rows['iaat'] == known | measured | costs
    assert rows['gan']['frechet_distance'] == '31.12 ± 1.414'
    assert rows['gan']['wall time (s)'] == rows['gan']['examples/s'] == rows['gan']['devices'] == ''
    assert rows['flow']['bits_per_dim'] == '3.142'
    assert rows['flow']['test_accuracy (%)'] == '100.0'
    assert rows['flow']['steps'] == '7'
    assert _figures(tmp_path / 'out') == []


def test_unfinished_runs_are_listed_with_what_they_logged_last(tmp_path):
    curve = {'test__bits_per_dim': lambda e: 5.0 - e, 'test__histogram': lambda e: [e]}
    finished = {'bits_per_dim': 2.0}
    for seed, metrics, lines in ((0, finished, _lines(10, **curve)), (1, finished, ()), (2, None, _lines(4, **curve))):
        _run(tmp_path / 'mixed' / f'seed{seed}', {'seed': seed}, metrics, lines)
    for seed, count in ((0, 0), (1, 2), (2, 4)):
        _run(tmp_path / 'running' / f'seed{seed}', {'seed': seed, 'b': 1}, None, _lines(count, **curve))
    torn = _run(tmp_path / 'torn', {'b': 2}, None, _lines(1))
    with (torn / 'metrics.jsonl').open('a') as file:
        file.write('{"step": 20, "epo')
    _run(tmp_path / 'waiting', {'b': 3})
    text = report([tmp_path], tmp_path / 'out')
    shown = {name: (row['seeds'], row['status'], row['bits_per_dim'], row['steps']) for name, row in _rows(text).items()}
    assert shown == {
        'mixed': ('2', '2 complete, 1 at 40 %', '2 ± 0', '100'),
        'running': ('3', '1 not started, 1 at 20 %, 1 at 40 %', r'2 ± 1.414\*', '0 to 40'),
        'torn': ('1', '10 %', '', '10'),
        'waiting': ('1', 'not started', '', '0'),
    }
    assert '\n\\* No run is complete: the test metrics that were logged last.\n' in text
    summary = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert summary['columns'] == ['bits_per_dim']
    entry = summary['groups']['running'][str(tmp_path / 'running' / 'seed2')]
    assert (entry['status'], entry['seed'], entry['step'], entry['metrics']) == ('40 %', 2, 40, {'bits_per_dim': 1.0})
    assert _figures(tmp_path / 'out') == ['training_curves.png']


def test_default_columns_leave_out_curves_and_the_rarest(tmp_path):
    curve = {f'accuracy_at_{eps:.4f}': 0.5 for eps in (0.0, 0.1, 0.2, 0.3)}
    few = {f'radius_p{p}': 0.1 for p in (10, 50, 90)} | {'robust_accuracy_pgd': 0.5}  # of a single attack
    _run(tmp_path / 'a', {'name': 'a'}, curve | few | {'zeta': 1.0})
    _run(tmp_path / 'b', {'name': 'b'}, {f'own_{letter}': 1.0 for letter in 'abcdefghij'} | {'zeta': 2.0})
    text = report([tmp_path], tmp_path / 'out')
    expected = ['zeta', *(f'own_{letter}' for letter in 'abcdefghi')]
    assert list(_rows(text)['a'])[3:-5] == expected
    left_out = [*curve, 'own_j', *few]
    assert f'\nLeft out: {", ".join(left_out)}; `--metrics` shows them.\n' in text
    summary = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert (summary['columns'], summary['left_out']) == (expected, left_out)
    chosen = report([tmp_path], tmp_path / 'out', ('radius_p50', 'accuracy_at_0.1000', 'radius_p50'))
    assert list(_rows(chosen)['a'])[3:-5] == ['radius_p50', 'accuracy_at_0.1000']
    assert 'Left out' not in chosen
    before = (tmp_path / 'out' / 'report.md').read_text()
    with pytest.raises(RunError, match=r"no metric 'radius'; known: zeta, accuracy_at_0.0000, .*, robust_accuracy_pgd$"):
        report([tmp_path], tmp_path / 'out', ('radius',))
    assert (tmp_path / 'out' / 'report.md').read_text() == before


def _measured(tmp_path, **runs):
    """Finished runs by name: (metrics, what else results.json holds)."""
    for name, (metrics, more) in runs.items():
        folder = tmp_path / 'runs' / name
        if not folder.exists():
            _run(folder, {'method': {'name': name}}, metrics)
        (folder / 'results.json').write_text(json.dumps({'step': 1, 'metrics': metrics, **more}))
    return tmp_path / 'runs'


def test_numbers_of_different_protocols_never_share_a_column(tmp_path):
    runs = _measured(
        tmp_path,
        a=({'clean_accuracy': 0.9, 'robust_accuracy': 0.5}, {'protocols': {'robust_accuracy': 'pgd of 2 steps'}}),
        b=({'clean_accuracy': 0.8, 'robust_accuracy': 0.3}, {'protocols': {'robust_accuracy': 'pgd of 5 steps'}}),
        c=({'clean_accuracy': 0.7, 'robust_accuracy': 0.2}, {'protocols': {'robust_accuracy': 'pgd of 2 steps'}}),
    )
    text = report([runs], tmp_path / 'out', ('robust_accuracy', 'clean_accuracy'))
    first, second = (rf'robust_accuracy \[{k}\] (%)' for k in (1, 2))
    cells = {name: (row[first], row[second], row['clean_accuracy (%)']) for name, row in _rows(text).items()}
    assert cells == {'a': ('50.0', '', '90.0'), 'b': ('', '30.0', '80.0'), 'c': ('20.0', '', '70.0')}
    assert '- robust_accuracy \\[1\\]: pgd of 2 steps\n- robust_accuracy \\[2\\]: pgd of 5 steps\n' in text
    assert not (tmp_path / 'out/figures/frontier.png').exists()
    assert json.loads((tmp_path / 'out/report.json').read_text())['protocols'] == {
        'robust_accuracy [1]': 'pgd of 2 steps',
        'robust_accuracy [2]': 'pgd of 5 steps',
    }
    alone = report([runs / 'a', runs / 'c'], tmp_path / 'out')
    assert _rows(alone)['c']['robust_accuracy (%)'] == '20.0'
    assert '- robust_accuracy: pgd of 2 steps\n' in alone
    assert (tmp_path / 'out/figures/frontier.png').exists()


def test_distances_of_older_runs_are_told_apart_by_what_their_protocol_says(tmp_path):
    metrics = {'loss': 1.0, 'frechet_distance': 3.0}
    a, b = 'last step, test split; first abc, 100 samples', 'first abc, 200 samples; another part'
    folder = _measured(tmp_path, a=(metrics, {'protocol': a}), b=(metrics, {'protocol': b}))
    rows = _rows(report([folder], tmp_path / 'out'))
    assert rows['a']['loss'] == '1'
    assert [rows[name][rf'frechet_distance \[{k}\]'] for name in 'ab' for k in (1, 2)] == ['3', '', '', '3']
    _measured(tmp_path, b=(metrics, {'protocol': 'first abc, 100 samples'}))  # what else a protocol says is no matter
    assert _rows(report([folder], tmp_path / 'out'))['b']['frechet_distance'] == '3'
    _measured(tmp_path, b=(metrics, {'protocol': 'last step, test split'}))
    assert '- frechet_distance \\[2\\]: an unknown extractor' in report([folder], tmp_path / 'out')
    older = {'protocol': 'last step, test split; worst case of pgd: 5 steps; first abc, 100 samples'}
    robust = _measured(
        tmp_path / 'robust',
        a=({'robust_accuracy': 0.5}, older),
        b=({'robust_accuracy': 0.4}, {'protocols': {'robust_accuracy': 'worst case of pgd: 5 steps'}}),
    )
    assert _rows(report([robust], tmp_path / 'out'))['b']['robust_accuracy (%)'] == '40.0'


def test_text_is_escaped():
    assert escape('adversarial_training_at_32 (method.eps=0.2)') == 'adversarial_training_at_32 (method.eps=0.2)'
    assert escape('_a_ a__b _') == r'\_a\_ a\_\_b \_'
    assert escape(HOSTILE) == (r'\_a\|b\`&lt;img src=x&gt;&amp;amp;\*\_c\_\*\~\[d\](e)\$f\$\\x1b\[31m\\u202e\\n' + '\\' * 2)
    assert escape('\ud800') == r'\\ud800'
    # As cmark-gfm, GitHub's own, leaves them: text that is no link.
    assert escape('https://a.bc, HTTP://a, www.a.bc, data=npz:/a') == r'https\://a.bc, HTTP\://a, www\.a.bc, data=npz:/a'
    assert escape('a@b.cd lam=1@2 mailto:a@_b.cd') == r'a@<!-- -->b.cd lam=1@2 mailto:a@<!-- -->\_b.cd'
    assert plots.printable('x' * 81) == 'x' * 40 + '…' + 'x' * 39
    assert plots.printable('x' * 80) == 'x' * 80


def test_hostile_names_break_neither_table_nor_figures(tmp_path):
    name = HOSTILE.replace('/', ':')
    lines = _lines(1, test__clean_accuracy=lambda e: 0.5) + _lines(1, loss__classifier=lambda e: 0.5)
    lines = [{key.replace('classifier', HOSTILE): value for key, value in line.items()} for line in lines]
    lines[0][f'test/{HOSTILE}'] = 1.0
    metrics = {HOSTILE: 1.0, '$x_{': 2.0, 'clean_accuracy': 0.5, 'robust_accuracy': 0.5}
    _run(tmp_path / name, {'a': 1}, metrics, lines, {'devices': [HOSTILE]})
    (tmp_path / 'other').mkdir()
    _run(tmp_path / 'other' / name, {'a': HOSTILE}, metrics, lines)
    _run(tmp_path / os.fsdecode(b'\xff'), {'a': 3}, metrics, lines)
    text = report([tmp_path], tmp_path / 'out')
    rows = _rows(text)
    assert len(rows) == 3
    assert rows[escape(name)][escape(HOSTILE)] == '1'
    assert rows[escape(name)]['devices'] == f'1 x {escape(HOSTILE)}'
    assert text.replace('\n', '').isprintable()
    assert not re.search(r'[<>]|&(?!(lt|gt|amp);)', text)
    assert _figures(tmp_path / 'out') == ['frontier.png', 'losses.png', 'training_curves.png']


@pytest.mark.parametrize(
    ('file', 'text'),
    [
        ('config.json', b'\xff\xfe'),
        ('config.json', '{}'),
        ('config.json', '[1]'),
        ('config.json', '{"seed": "0"}'),
        ('config.json', '{"seed": ' + '9' * 4000 + '}'),
        ('config.json', '{"seed": 0, "a": ' + '[' * 100_000 + ']' * 100_000 + '}'),
        ('config.json', '{"a":' * 900 + '1' + '}' * 900),
        ('run.json', '{"seconds": [1]}'),
        ('run.json', '{"devices": [1]}'),
        ('run.json', 'null'),
        ('metrics.jsonl', '{"step": 1, "progress": 0.1}\ngarbage\n{"step": 2, "progress": 0.2}\n'),
        ('metrics.jsonl', '[1]\n'),
        ('metrics.jsonl', '{"step": -1, "progress": 0.1}\n'),
        ('metrics.jsonl', '{"step": 1, "progress": NaN}\n'),
        ('metrics.jsonl', '{"step": 1, "progress": [0.1]}\n'),
        ('results.json', ''),
        ('results.json', '{"step": 1}'),
        ('results.json', '{"step": 1e999, "metrics": {}}'),
        ('results.json', '{"step": 1, "metrics": [0.5]}'),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_reported(tmp_path, file, text):
    bad = _run(tmp_path / 'bad', {'a': 1}, {'m': 1.0}, _lines(2, test__m=lambda e: e), {'seconds': 1.0})
    (bad / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert read_run(bad).status == f'damaged: {file}'
    with pytest.raises(RunError, match=f"^no run can be read: '.*bad' is damaged: {re.escape(file)}$"):
        report([bad], tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
    _run(tmp_path / 'good', {'a': 2}, {'m': 2.0})
    rows = list(_rows(report([tmp_path], tmp_path / 'out')).values())
    assert [(row['status'], row['m']) for row in rows] == [(f'damaged: {file}', ''), ('complete', '2')]


def test_files_of_another_kind_are_damaged_not_waited_for(tmp_path):
    names = ('run.json', 'metrics.jsonl', 'results.json')
    for name in names:
        os.mkfifo(_run(tmp_path / name, {}) / name)
    assert [read_run(tmp_path / name).status for name in names] == [f'damaged: {name}' for name in names]


def test_numbers_beyond_json_and_floats(tmp_path):
    values = {'a': float('nan'), 'b': float('inf'), 'c': 10**400, 'd': -(10**400), 'e': 'nan', 'f': 1e308}
    odd = {'g': True, 'h': None, 'i': 'text', 'j': [1], 'k': {'x': 1}}
    test = {f'test/{name}': value for name, value in (values | odd).items()}
    for seed in (0, 1):
        lines = [line | test for line in _lines(2, loss__player=lambda e: float('nan'))]
        _run(tmp_path / f'seed{seed}', {'seed': seed}, values | odd, lines, {'seconds': 'inf'})
    (row,) = _rows(report([tmp_path], tmp_path / 'out')).values()
    shown = {'a': 'nan', 'b': 'inf', 'c': 'inf', 'd': '-inf', 'e': 'nan', 'f': '1e+308'}
    assert {name: cell.split(' ± ')[0] for name, cell in row.items() if len(name) == 1} == shown | {'f': 'inf'}
    summary = json.loads((tmp_path / 'out' / 'report.json').read_text())
    (members,) = summary['groups'].values()
    for entry in members.values():
        assert entry['metrics'] == shown | {'f': 1e308}
        assert entry['seconds'] == 'inf'
    assert _figures(tmp_path / 'out') == []


def test_out_that_cannot_be_written(tmp_path):
    _run(tmp_path / 'a', {}, {'m': 1.0})
    (tmp_path / 'out').write_text('')
    with pytest.raises(RunError, match=r"--out is '.*out', which cannot be written: "):
        report([tmp_path], tmp_path / 'out')


def test_figures_show_what_there_is_and_earlier_ones_go(tmp_path):
    curves = {'test__clean_accuracy': lambda e: 0.5, 'test__frechet_distance': lambda e: 100 / e}
    losses = {'loss__generator': lambda e: 1.0, 'loss__critic': lambda e: 2.0}
    both = {'clean_accuracy': 0.9, 'robust_accuracy': 0.5}
    _run(tmp_path / 'a' / 'full', {'x': 1}, both | {'frechet_distance': 1.0}, _lines(10, **curves, **losses))
    _run(tmp_path / 'a' / 'part', {'x': 2}, {'clean_accuracy': 0.9})
    text = report([tmp_path / 'a'], tmp_path / 'out')
    assert _figures(tmp_path / 'out') == ['frontier.png', 'losses.png', 'training_curves.png']
    shown = (tmp_path / 'out' / 'report.md').read_text().removeprefix(text)
    assert re.findall(r'!\[.*?\]\(figures/(.*?)\)', shown) == ['training_curves.png', 'losses.png', 'frontier.png']
    report([tmp_path / 'a'], tmp_path / 'out', ('robust_accuracy',))
    assert _figures(tmp_path / 'out') == ['frontier.png', 'losses.png']
    _run(tmp_path / 'b', {}, {'clean_accuracy': 0.9})
    report([tmp_path / 'b'], tmp_path / 'out')
    assert _figures(tmp_path / 'out') == []


_scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), st.text(max_size=8))
_json = st.recursive(_scalars, lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=5), s, max_size=3))
_names = st.sampled_from(['clean_accuracy', 'robust_accuracy', '$m_']) | st.text(max_size=5)
_values = st.floats(0, 1) | st.floats() | st.sampled_from(['nan', 10**400, -1e308, 1e-320])
_counts = st.integers(0, 9)


def _mostly(good, bad):
    """Nine in ten as they should be."""
    return _counts.flatmap(lambda number: bad if number == 9 else good)


_metrics = st.dictionaries(_names, _mostly(_values, _json), max_size=4)


def _file(**parts):
    """The text of a JSON object: as it should be, mostly; or with some keys missing, or anything; or no JSON at all."""
    bad = st.fixed_dictionaries({}, optional={key: part | _json for key, part in parts.items()})
    text = _mostly(st.fixed_dictionaries(parts), bad).map(lambda value: json.dumps(value).encode())
    return _mostly(text, st.binary(max_size=20))


def _log_line(step, epoch, tests, losses):
    named = {f'test/{k}': v for k, v in tests.items()} | {f'loss/{k}': v for k, v in losses.items()}
    return {'step': step, 'epoch': epoch, 'progress': step / 9} | named


_good_lines = st.builds(_log_line, _counts, _counts | _values, _metrics, _metrics).map(lambda v: json.dumps(v).encode())
_bad_lines = _file(step=_counts, epoch=_values, progress=_values)
_directory = st.fixed_dictionaries(
    {'config.json': _file(seed=_counts, method=_scalars)},
    optional={
        'run.json': _file(seconds=_values, devices=st.lists(st.text(max_size=5), max_size=2), examples_per_second=_values),
        'metrics.jsonl': st.lists(_mostly(_good_lines, _bad_lines), max_size=4).map(b'\n'.join),
        'results.json': _file(step=_counts, metrics=_metrics),
    },
)


def _times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob('*')}


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_directory, min_size=1, max_size=4), st.sampled_from([(), (), ('clean_accuracy',), ('unknown',)]))
def test_nothing_in_a_run_directory_makes_a_traceback_or_is_changed(directories, metrics):
    with tempfile.TemporaryDirectory() as folder:
        runs, out = Path(folder, 'all', 'runs'), Path(folder, 'out')
        for number, files in enumerate(directories):
            (runs / f'{number}').mkdir(parents=True)
            for file, content in files.items():
                (runs / f'{number}' / file).write_bytes(content)
        before = _times(runs.parent)
        with contextlib.suppress(RunError):
            assert 1 <= len(_rows(report([runs], out, metrics))) <= len(directories)
            json.loads((out / 'report.json').read_text(), parse_constant=pytest.fail)
        assert _times(runs.parent) == before
        assert {path.name for path in Path(folder).iterdir()} <= {'all', 'out'}


def test_spread_is_that_of_a_sample(tmp_path):
    values = (1.0, 2.0, 4.0)
    for seed, value in enumerate(values):
        _run(tmp_path / f'seed{seed}', {'seed': seed}, {'m': value})
    (row,) = _rows(report([tmp_path], tmp_path / 'out')).values()
    assert row['m'] == f'{np.mean(values):.4g} ± {np.std(values, ddof=1):.4g}'
