"""Figures: their shared style, those of any runs, and the papers' own."""

import numpy as np
import pytest

from gjax.study import plots
from gjax.train import config as configs

FIGURES = {path.parent.name: configs.load_module(path) for path in sorted(configs.experiments_dir().glob('*/figures.py'))}
RNG = np.random.default_rng(0)


def _lines(count, **values):
    """The log of `count` epochs; values: functions of the epoch, by key with __ for /."""
    named = {key.replace('__', '/'): value for key, value in values.items()}
    return [{'epoch': float(e)} | {key: value(e) for key, value in named.items()} for e in range(1, count + 1)]


def test_panels_have_their_own_range_and_single_points_are_seen():
    tests = {f'test__m{i}': lambda e: 100.0 * e for i in range(4)}
    logs = {
        'long': [_lines(5, test__clean_accuracy=lambda e: 0.5, **tests)] * 2,
        '_new $x$': [[], _lines(1, test__m0=lambda e: 50.0)],  # one seed has logged nothing yet
        'broken': [_lines(3, test__m0=lambda e: ['nan', [1], 1e300][e - 1])],
    }
    figure = plots.training_curves(logs, ('clean_accuracy', 'm0', 'm1', 'm2', 'm3'))
    limits = [axis.get_ylim() for axis in figure.axes]
    assert len(limits) == 5
    assert limits[0] == (0, 1)
    assert all(high > 400 for _, high in limits[1:])
    assert [line.get_marker() for line in figure.axes[1].lines] == ['None', 'o']
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ['long', r' _new \$x\$']
    assert plots.logged(logs, 'test/') == ['clean_accuracy', 'm0', 'm1', 'm2', 'm3']
    assert [axis.get_ylabel() for axis in plots.losses(logs, ('weight_net',)).axes] == ['loss of weight net']


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
    figure = FIGURES['iaat'].accuracy_against_eps(results, 8 / 255)
    assert list(figure.axes[0].lines[0].get_xdata()) == pytest.approx([0, 8.007])
    assert len(plots.frontier(results).axes[0].get_legend().get_texts()) == 10


@pytest.mark.parametrize('letter', 'iW中')
def test_figures_of_many_runs_with_long_names_keep_room_for_the_curves(tmp_path, letter):
    lines = {f'{letter * 60}{i}': [[{'epoch': e, 'test/a': float(e)} for e in range(3)]] for i in range(50)}
    figure = plots.training_curves(lines, names=('a',))
    plots.save(figure, tmp_path / 'figure.png')
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][-1] == 'and 11 more'
    assert figure.axes[0].get_window_extent().width > 200
    first = {'first': lines.popitem()[1], **dict(list(lines.items())[:11])}
    plots.save(plots.training_curves(first, names=('a',)), tmp_path / 'figure.png')


def _edges(axis):
    """Lowest and highest y of the first band."""
    y = axis.collections[0].get_paths()[0].vertices[:, 1]
    return y.min(), y.max()


def test_a_band_on_a_logarithmic_axis_stays_above_zero():
    series = [{0.0: 1.0, 1.0: last} for last in (1.0, 1.0, 1000.0)]
    figure, (plain, log) = plots.make_axes(2)
    plots.draw_band(plain, series, next(plots.styles()), 'a')
    plots.draw_band(log, series, next(plots.styles()), 'a', log=True)
    assert _edges(plain)[0] < -100
    assert log.lines[0].get_ydata() == pytest.approx([1, 10])
    spread = np.exp(np.log(10) * np.sqrt(2))  # of the logarithms 0, 0 and 3 log 10
    assert _edges(log) == pytest.approx((10 / spread, 10 * spread))
    plots.draw_band(log, [{0.0: 0.0, 1.0: 5.0}], next(plots.styles()), 'zero', log=True)
    assert log.lines[1].get_xdata() == pytest.approx([1.0])
    assert figure.axes == [plain, log]


def test_a_frontier_of_any_two_metrics():
    results = {'x_y': [{'metrics': {'a_b': 1.0, 'c': 2.0}}, {'metrics': {'a_b': 3.0, 'c': 4.0}}], 'none': []}
    (axis,) = plots.frontier(results, 'a_b', 'c').axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ('a b', 'c')
    np.testing.assert_allclose(axis.collections[1].get_offsets(), [[2.0, 3.0]])
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ['x_y']


def test_radii_of_iaat():
    iaat = FIGURES['iaat']
    lines = [{'epoch': e, 'test/radius_histogram': [5, 3, e], 'test/radius_bin_width': 4 / 255} for e in (1, 2, 3)]
    (axis,) = iaat.radius_histogram([*lines, {'epoch': 4}], 8 / 255).axes
    assert len(axis.lines) == 4  # and the marked radius
    assert axis.lines[0].get_xdata() == pytest.approx([2, 6, 10])
    radius = np.array([0.3, 0.1, 0.2, 0.0, 0.4])
    assert list(iaat.extremes(radius, 2)) == [3, 1, 4, 0]
    sheet = iaat.radius_contact_sheet(RNG.integers(0, 256, (5, 4, 4, 3), np.uint8), np.arange(5), radius, columns=2, rows=1)
    assert [axis.get_title() for axis in sheet.axes] == ['3: 0.0', '1: 25.5', '4: 102.0', '0: 76.5']


def test_scores_of_tickets_against_the_weights_left():
    own = FIGURES['lottery_tickets']
    lines = {'ticket': [{1.0: 2.0, 0.5: 4.0}, {1.0: 4.0, 0.5: 4.0}], 'no rewinding': [{0.5: 9.0}]}
    (axis,) = own.against_remaining(lines, 'loss').axes
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(lines)
    assert axis.lines[0].get_ydata() == pytest.approx([3.0, 4.0])
    assert axis.get_xlim()[0] > axis.get_xlim()[1] > 0
    (bars,) = own.layer_sparsity({'a': [0.75, 0.25], 'b': [1.0]}).axes
    assert [bar.get_width() for bar in bars.patches] == [50.0, 0.0]
    distances = np.arange(9.0).reshape(3, 3)
    np.testing.assert_array_equal(own.mask_distances(distances).axes[0].images[0].get_array(), distances)


def test_bits_of_flows():
    own = FIGURES['flow_robustness']
    metrics = {
        'bits_per_dim': 2.0,
        'attacked_bits_per_dim_at_0.0314': 8.0,
        'attacked_bits_per_dim_at_0.0314_non_finite': 1.0,
    }
    (line,) = own.bits_against_eps({'a': [{'metrics': metrics}]}).axes[0].lines
    assert line.get_xdata() == pytest.approx([0, 8], abs=0.01)
    assert line.get_ydata() == pytest.approx([2, 8])
    (axis,) = own.trade_off([(1.0, 9.0), (2.0, 5.0)], {'trained': [(1.5, 8.0)]}).axes
    assert len(axis.get_legend().get_texts()) == 2
    arrays = {'histogram_test': np.array([1.0, 2.0, np.inf]), 'histogram_x_attacked': np.array([np.nan])}
    (axis,) = own.bits_histogram(arrays).axes
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ['test']
    images, bits = RNG.integers(0, 256, (3, 4, 4, 1), np.uint8), np.array([1.0, 2.0, 3.0])
    rows = {'images': images, 'attacked': images, 'bits': bits, 'attacked_bits': bits + 4, 'samples': images}
    grid = own.attacked_images(rows | {f'ood_x_{name}': value for name, value in rows.items()}, count=3).axes
    assert len(grid) == 3 * 5
    assert [axis.get_title() for axis in grid[:6]] == ['1.0', '2.0', '3.0', '5.0', '6.0', '7.0']


def test_embeddings_of_two_domains():
    arrays = {f'{domain}_embedding': RNG.normal(size=(6, 4)) for domain in ('source', 'target')}
    arrays |= {f'{domain}_label': np.arange(6) for domain in ('source', 'target')}
    figure = FIGURES['generate_to_adapt'].embeddings({'after': arrays | {'target_prediction': np.array([0, 1, 2, 9, 9, 9])}})
    assert figure.axes[0].get_title() == 'after: 50 % of target right'
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ['source', 'target']
