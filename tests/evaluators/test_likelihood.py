"""What is measured of a density: finite means of bits per dimension, and the scores of detection against counting."""

import copy
import dataclasses
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import data, metrics
from gjax.evaluators.likelihood import Density, Foreign, LikelihoodEvaluation, code_bits, final_bits
from gjax.methods.flow_robustness import PLAYER
from gjax.nets.linear_flow import LinearFlow
from gjax.train import config as configs
from gjax.train.run import Run
from tests.methods.flow import SHAPE, batch_of, method

plots = configs.load_module(configs.experiments_dir() / 'flow_robustness/figures.py')


def _final(flow):
    """The evaluator of a flow's bits per dimension at the end."""
    return final_bits(Density(flow.nll, flow.generate, flow.dimensions), flow.evaluation)


def _foreign(run):
    """The evaluator of a run that tells other sets from its own."""
    run.prepare_evaluators()
    (found,) = [evaluator for evaluator in run.evaluators if isinstance(evaluator, Foreign)]
    return found


class Breaking(LinearFlow):
    """A linear flow whose likelihood fails where the first pixel is bright."""

    def __call__(self, inputs, *, inverse=False):
        latents, log_det = super().__call__(inputs, inverse=inverse)
        return latents, jnp.where(inputs.reshape(len(inputs), -1)[:, 0] > 0.6, jnp.nan, log_det)


def test_non_finite_likelihoods_are_counted_apart():
    """Some fail clean, more of them attacked; means, and what an attack adds, are over those that do not."""
    flow = dataclasses.replace(method(), net=Breaking(SHAPE))
    final, sound = _final(flow), _final(method())
    batch = batch_of(2, 64)
    state = flow.init(jax.random.key(0), batch)
    found = jax.jit(final.function)(state, batch, rng=jax.random.key(1))
    assert all(np.isfinite(values).all() for values in found.values())
    streamed = metrics.MaskedMean()
    streamed.add(found, np.arange(64) < 60)
    concluded = final.conclude(streamed.result())
    sound = jax.jit(sound.function)(state, batch, rng=jax.random.key(1))
    ok = np.asarray(found['clean_non_finite'])[:60] == 0
    assert 0.1 < concluded['bits_per_dim_non_finite'] == 1 - ok.mean() < 0.6
    np.testing.assert_allclose(concluded['bits_per_dim'], np.asarray(sound['clean'])[:60][ok].mean(), rtol=1e-5)
    assert concluded['attacked_bits_per_dim_at_0.1000_non_finite'] > concluded['bits_per_dim_non_finite']
    both = ok & (np.asarray(found['attacked_non_finite'])[:60, -1] == 0)
    added = np.asarray(found['attacked'][:, -1] - found['clean'])[:60][both]
    np.testing.assert_allclose(concluded['attacked_adds_at_0.1000'], added.mean(), rtol=1e-4)
    assert flow.summarize_examples({'bits_per_dim': np.array([1.0, np.inf, 3.0, np.nan])}) == {
        'train_bits_per_dim': 2.0,
        'train_bits_per_dim_non_finite': 0.5,
    }
    assert flow.summarize_examples({'bits_per_dim': np.array([np.nan])}) == {'train_bits_per_dim_non_finite': 1.0}


def test_final_evaluation_of_every_radius():
    test = LikelihoodEvaluation(eps=0.1, curve=(0.0, 0.02, 0.1), steps=10, draws=3)
    flow, batch = method(evaluation=test), batch_of(3)
    final = _final(flow)
    state = flow.init(jax.random.key(0), batch)
    found = jax.jit(final.function)(state, batch, rng=jax.random.key(1))
    assert found['attacked'].shape == found['noise'].shape == (16, 3)
    np.testing.assert_allclose(found['attacked'][:, 0], found['clean'], rtol=1e-6)
    assert (np.diff(found['attacked'], axis=1) > 0).all()
    assert float((found['attacked'] - found['noise'])[:, 1:].min()) > 0
    concluded = final.conclude({name: np.mean(values, axis=0).tolist() for name, values in found.items()})
    assert concluded['attacked_bits_per_dim'] == concluded['attacked_bits_per_dim_at_0.1000']
    np.testing.assert_allclose(
        concluded['noise_adds'], concluded['noise_bits_per_dim'] - concluded['bits_per_dim'], atol=1e-5
    )


@pytest.fixture(scope='module')
def scored(tmp_path_factory):
    """A linear flow of `digits` beside brighter images and noise: (run, state, what `Foreign` found, brighter images)."""
    folder = tmp_path_factory.mktemp('ood')
    digits = data.find('digits', None, 8, 1)
    images = np.asarray(digits.test.read(np.arange(30)).images)
    bright = (100 + 0.6 * images).astype(np.uint8)
    arrays = {
        f'{split}_{kind}': x for split in ('train', 'test') for kind, x in (('images', bright), ('labels', np.arange(30)))
    }
    np.savez(folder / 'bright.npz', **arrays)
    config = configs.base_config()
    config.data.update(name='digits', image_size=8)
    config.train.update(total_steps=1, batch_size=32, eval_batch_size=48)
    config.net.name = 'linear_flow'
    config.method = {'name': 'flow_robustness', 'adversarial_weight': 0.0}
    config.evaluation.update(ood=(f'npz:{folder}/bright.npz', 'noise'), ood_examples=60, ood_eps=0.9, pictures=5, draws=4)
    config.seed = -1
    configs.complete(config)
    run = Run(config)
    state = run.init()
    return run, state, _foreign(run)(state, run.look(state, 'end')), bright


def test_detection_scores(scored):
    run, state, (found, files, _), bright = scored
    name = f'_{run.config.evaluation.ood[0]}'
    shown = files['images']
    test, other = shown['histogram_test'], shown[f'histogram{name}']
    wins = (other[:, None] > test[None]) + 0.5 * (other[:, None] == test[None])
    np.testing.assert_allclose(found[f'ood_auroc{name}'], wins.mean(), rtol=1e-6)
    np.testing.assert_allclose(found['ood_auroc'], (found[f'ood_auroc{name}'] + found['ood_auroc_noise']) / 2)
    np.testing.assert_allclose(found[f'ood_below_median{name}'], np.mean(other < np.median(test)))
    assert found['ood_auroc_noise'] == 1.0
    # Almost any image is within reach: all end below the first quartile, where the attack rests.
    assert found[f'attacked_ood_below_median{name}'] >= 0.95
    assert found[f'attacked_ood_auroc{name}'] < 0.5
    lowered = np.median(shown[f'histogram{name}_attacked'])
    assert np.quantile(test, 0.25) - 0.5 < lowered < np.quantile(test, 0.25) + 0.05
    assert found['ood_non_finite_noise'] == 0
    pictured = shown[f'ood_{name[1:]}_images']
    assert len({next(i for i, y in enumerate(bright) if np.array_equal(x, y)) for x in pictured}) == 5
    typical = run.look(state, 'end').rows(run.method.describe_example, 'source', 'train')['bits_per_dim']
    own = [np.abs(x - typical[data.drawn_rows(run.datasets['source'], 'train', 60, -1)].mean()) for x in (test, other)]
    np.testing.assert_allclose(found[f'ood_auroc_typicality{name}'], metrics.auroc(*own), atol=0.02)
    images = np.asarray(run.datasets['source'].test.read(data.drawn_rows(run.datasets['source'], 'test', 60, -1)).images)
    coded = [x - code_bits(y) for x, y in ((test, images), (other, bright))]
    np.testing.assert_allclose(found[f'ood_auroc_complexity{name}'], metrics.auroc(*coded))


def test_scores_of_likelihoods_that_fail(scored):
    """Of all images, own ones too: nothing is undefined, and figures are drawn."""
    run, state, _, _ = scored
    broken = state.replace(params={PLAYER: state.params[PLAYER] | {'mean': state.params[PLAYER]['mean'] * jnp.nan}})
    found, files, _ = _foreign(run)(broken, run.look(broken, 'end'))
    assert found['ood_non_finite'] == found['attacked_ood_non_finite'] == 1
    assert found['ood_auroc'] == 0.5
    assert found['ood_below_median'] == 0
    assert 'ood_bits_per_dim_noise' not in found
    plots.bits_histogram(files['images'])


def test_figures(scored):
    shown = scored[2].arrays['images']
    (axis,) = plots.bits_histogram(shown).axes
    assert 'test' in [text.get_text() for text in axis.get_legend().get_texts()]
    grid = plots.attacked_images(shown, count=5).axes
    assert len(grid) == 5 * 7
    assert grid[5].get_title() == f'{shown["attacked_bits"][0]:.1f}'
    results = {'a': [{'metrics': {'bits_per_dim': 2.0, 'attacked_bits_per_dim_at_0.0314': 8.0}}]}
    (line,) = plots.bits_against_eps(results).axes[0].get_lines()
    np.testing.assert_allclose(line.get_ydata(), [2.0, 8.0])
    np.testing.assert_allclose(line.get_xdata(), [0, 8], atol=0.01)


def test_pictures_pair_images_with_their_bits(scored):
    run, shown = scored[0], scored[2].arrays['images']
    assert shown['samples'].shape == shown['images'].shape == shown['attacked'].shape == (5, 8, 8, 1)
    apart = np.abs(shown['attacked'].astype(int) - shown['images'].astype(int))
    assert 0 < apart.max() <= round(255 * run.config.evaluation.eps)
    assert (shown['attacked_bits'] > shown['bits']).all()


def test_code_lengths_are_zlibs():
    flat, noisy = np.zeros((1, 16, 16, 1), np.uint8), np.random.default_rng(0).integers(0, 256, (1, 16, 16, 1), np.uint8)
    assert code_bits(flat)[0] < 1 < 8 < code_bits(noisy)[0]
    assert code_bits(noisy)[0] == len(zlib.compress(noisy[0].tobytes(), 9)) * 8 / 256


def test_other_sets_that_do_not_fit_are_refused(scored):
    run = scored[0]
    own = _foreign(run)
    other = Foreign(own.density, dataclasses.replace(own.test, ood=('nosuch',)))
    with pytest.raises(data.DataError, match=r"^evaluation.ood is 'nosuch'"):
        other.prepare(run.look(None, 'log'))


@pytest.mark.parametrize('ood_steps', [0, 1])
def test_the_attack_on_other_sets_has_its_own_number_of_steps(scored, ood_steps):
    config = copy.deepcopy(scored[0].config)
    config.evaluation.update(steps=7, ood_steps=ood_steps, ood=('noise',), ood_examples=4, pictures=0)
    run, taken = Run(config), []

    def lower_nll(nll_fn, images, eps, **options):
        taken.append(options['steps'])
        return images

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('gjax.attacks.lower_nll', lower_nll)
        _foreign(run)(scored[1], run.look(scored[1], 'end'))
    assert set(taken) == {ood_steps or 7}
