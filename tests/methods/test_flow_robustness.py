"""Training and scoring flows under attack: the step written out, linear flows against their closed forms, the scores of
detection against counting.
"""

import copy
import dataclasses
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import data, losses, methods, metrics
from gjax.attacks.linear_flow import gaussian_nll, maximum_likelihood, robust_covariance, trade_off, universal_increase
from gjax.evaluators.likelihood import LikelihoodScores, code_bits
from gjax.methods.core.contract import DataInfo
from gjax.methods.core.optimisers import build_optimizer
from gjax.methods.flow_robustness import PLAYER, FlowRobustness, LikelihoodEvaluation
from gjax.nets.linear_flow import LinearFlow
from gjax.study import plots
from gjax.study import reproduce as studies
from gjax.train import config as configs
from gjax.train.run import Run
from gjax.train.store.files import write_json
from tests.adaptation import assert_close, descended

SHAPE = (2, 2, 1)


def method(steps=100, **options):
    """A linear flow, trained by plain gradient descent unless told otherwise."""
    info = DataInfo(1, 64, 10, steps, SHAPE)
    spec = options.pop('optimizer', {'name': 'sgd', 'learning_rate': 0.1, 'momentum': 0.0})
    evaluation = options.pop('evaluation', LikelihoodEvaluation(curve=(0.01, 0.1), steps=3, norm='l2'))
    return FlowRobustness(LinearFlow(SHAPE), build_optimizer(spec, info), info, evaluation, **options)


def batch_of(seed: int, count: int = 16):
    images = jnp.asarray(np.random.default_rng(seed).uniform(0.2, 0.8, (count, *SHAPE)), jnp.float32)
    zeros = jnp.zeros(count, jnp.int32)
    return {'image': images, 'label': zeros, 'index': jnp.arange(count, dtype=jnp.int32)}


def test_uniform_images_take_eight_bits():
    assert float(losses.bits_per_dim(0.0, 784)) == 8
    np.testing.assert_allclose(losses.bits_per_dim(784 * np.log(2), 784), 9)


@pytest.mark.parametrize(('weight', 'clean_epochs'), [(0.0, 0.0), (0.3, 0.0), (1.0, 0.0), (0.3, 0.1)])
def test_a_step_written_out(weight, clean_epochs):
    """(1 - w) times the mean NLL of the clean half plus w times the attacked one's, per dimension; clean at first."""
    flow, batch = method(adversarial_weight=weight, clean_epochs=clean_epochs, attack_steps=2), batch_of(0)
    state = flow.init(jax.random.key(0), batch)
    attack_rng, noise_rng = jax.random.split(state.step_rng())
    images = batch['image']
    if weight and not clean_epochs:
        attacked = flow.attack(state, images if weight == 1 else images[1::2], rng=attack_rng)
        assert 0 < float(jnp.abs(attacked - (images if weight == 1 else images[1::2])).max()) <= flow.eps + 1e-6
        images = attacked if weight == 1 else images.at[1::2].set(attacked)

    def total(params):
        nll = flow.nll(state, images, rng=noise_rng, params=params) / 4
        if weight in (0, 1) or clean_epochs:
            return nll.mean()
        return (1 - weight) * nll[::2].mean() + weight * nll[1::2].mean()

    new, logged = flow.step(state, batch)
    assert_close(new.params[PLAYER], descended(total, state.params[PLAYER], 0.1))
    np.testing.assert_allclose(logged['loss/flow'], total(state.params[PLAYER]), rtol=1e-5)


def test_radius_rises_after_the_clean_epochs():
    flow, batch = method(adversarial_weight=1.0, clean_epochs=1.0, eps_warmup_epochs=1.0, attack_steps=3), batch_of(1)
    state = flow.init(jax.random.key(0), batch)
    for step, share in ((10, 0.1), (14, 0.5), (19, 1.0), (50, 1.0)):
        moved = flow.attack(state.replace(step=jnp.int32(step)), batch['image'], rng=jax.random.key(0)) - batch['image']
        np.testing.assert_allclose(jnp.abs(moved).max(), share * flow.eps, rtol=1e-3)


def _fitted(points, **options):
    """A linear flow trained on points [N, 4], all of them at every step, and the mean and covariance that it learned."""
    steps = 1500
    flow = method(steps, optimizer={'name': 'adam', 'learning_rate': 0.03, 'schedule': 'cosine'}, **options)
    images = jnp.asarray(points.reshape(-1, *SHAPE), jnp.float32)
    batch = {'image': images, 'label': jnp.zeros(len(images), jnp.int32), 'index': jnp.arange(len(images))}
    state = jax.jit(flow.init)(jax.random.key(0), batch)
    state = jax.jit(lambda s: jax.lax.fori_loop(0, steps, lambda i, s: flow.step(s, batch)[0], s))(state)
    params = state.params[PLAYER]
    root = np.linalg.inv(np.diag(np.exp(params['log_diagonal'])) @ (np.tril(params['lower'], -1) + np.eye(4)))
    return np.asarray(params['mean']), root @ root.T


def _points(count: int = 512):
    rng = np.random.default_rng(0)
    scales = np.array([0.02, 0.04, 0.08, 0.1])
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    points = 0.5 + rng.normal(size=(count, 4)) * scales @ rotation.T
    return np.clip(points, 0.1, 0.9).astype(np.float32)


def test_clean_training_reaches_the_maximum_likelihood():
    points = _points()
    mean, covariance = _fitted(points, adversarial_weight=0.0)
    levels = points * 255 / 256 + 0.5 / 256
    best = maximum_likelihood(jnp.asarray(levels))
    found, bound = (float(gaussian_nll(jnp.asarray(levels), *fit).mean()) for fit in ((mean, covariance), best))
    assert bound - 1e-4 < found < bound + 0.02


def test_adversarial_training_inflates_the_covariance():
    """As the theory says: every direction grows, relatively the narrowest most; clean NLL pays, the attacked one gains."""
    points, eps = _points(), 0.05
    fits = {
        weight: _fitted(points, adversarial_weight=weight, eps=eps, step_size=0.5 * eps, attack_steps=4, attack_norm='l2')[
            1
        ].astype(np.float32)
        for weight in (0.0, 1.0)
    }
    directions = np.linalg.eigh(fits[0.0])[1]
    variances = {weight: np.diag(directions.T @ fit @ directions) for weight, fit in fits.items()}
    growth = variances[1.0] / variances[0.0]
    assert (growth > 1).all()
    assert growth[0] == growth.max()
    assert growth[0] > 3
    sample = jnp.asarray(np.cov(points.T, bias=True), jnp.float32)
    theory = np.linalg.eigvalsh(robust_covariance(sample, eps))
    np.testing.assert_allclose(theory[0], theory[1], rtol=1e-4)  # the narrow ones are filled to one level
    clean = [float(trade_off(sample, e, eps)[0]) for e in (0.0, eps)]
    attacked = [float(trade_off(sample, e, eps)[1]) for e in (0.0, eps)]
    assert clean[1] > clean[0]
    assert attacked[1] < attacked[0]
    increases = [float(universal_increase(jnp.asarray(fits[weight]), eps)) for weight in (0.0, 1.0)]
    assert increases[1] < 0.3 * increases[0]


class Breaking(LinearFlow):
    """A linear flow whose likelihood fails where the first pixel is bright."""

    def __call__(self, inputs, *, inverse=False):
        latents, log_det = super().__call__(inputs, inverse=inverse)
        return latents, jnp.where(inputs.reshape(len(inputs), -1)[:, 0] > 0.6, jnp.nan, log_det)


def test_non_finite_likelihoods_are_counted_apart():
    """Some fail clean, more of them attacked; means, and what an attack adds, are over those that do not."""
    flow = dataclasses.replace(method(), net=Breaking(SHAPE))
    batch = batch_of(2, 64)
    state = flow.init(jax.random.key(0), batch)
    found = jax.jit(flow.final_evaluate)(state, batch, rng=jax.random.key(1))
    assert all(np.isfinite(values).all() for values in found.values())
    streamed = metrics.MaskedMean()
    streamed.add(found, np.arange(64) < 60)
    concluded = flow.conclude(streamed.result())
    sound = method().final_evaluate(state, batch, rng=jax.random.key(1))
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
    state = flow.init(jax.random.key(0), batch)
    found = jax.jit(flow.final_evaluate)(state, batch, rng=jax.random.key(1))
    assert flow.radii == (0.0, 0.02, 0.1)
    np.testing.assert_allclose(found['attacked'][:, 0], found['clean'], rtol=1e-6)
    assert (np.diff(found['attacked'], axis=1) > 0).all()
    assert float((found['attacked'] - found['noise'])[:, 1:].min()) > 0
    concluded = flow.conclude({name: np.mean(values, axis=0).tolist() for name, values in found.items()})
    assert concluded['attacked_bits_per_dim'] == concluded['attacked_bits_per_dim_at_0.1000']
    np.testing.assert_allclose(
        concluded['noise_adds'], concluded['noise_bits_per_dim'] - concluded['bits_per_dim'], atol=1e-5
    )


def test_temperature_scales_the_samples():
    flow = method()
    state = flow.init(jax.random.key(0), batch_of(0))
    mean = np.asarray(state.params[PLAYER]['mean']).reshape(SHAPE)
    warm, cold = (np.asarray(flow.generate(state, 400, rng=jax.random.key(1), temperature=t)) for t in (0.5, 0.25))
    np.testing.assert_allclose(warm - mean, 2 * (cold - mean), atol=1e-5)
    assert float(flow.generate(state, 400, rng=jax.random.key(1), temperature=5.0).max()) == 1.0


def test_auroc_counts_pairs():
    rng = np.random.default_rng(0)
    negatives, positives = rng.integers(0, 6, 40), rng.integers(2, 8, 30)
    wins = (positives[:, None] > negatives[None]) + 0.5 * (positives[:, None] == negatives[None])
    np.testing.assert_allclose(metrics.auroc(negatives, positives), wins.mean())


@pytest.fixture(scope='module')
def scored(tmp_path_factory):
    """A linear flow of `digits` beside brighter images and noise: (run, state, its scores, the brighter images)."""
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
    return run, run.init(), LikelihoodScores(run), bright


def test_detection_scores(scored):
    run, state, scores, bright = scored
    found = scores.measure(state)
    name = f'_{run.config.evaluation.ood[0]}'
    shown = scores.pictures(state)
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
    np.testing.assert_array_equal(shown[f'ood_{name[1:]}_images'], bright[:5])
    typical = np.asarray(run.describe(state)['bits_per_dim'])
    own = [np.abs(x - typical[:: -(-len(typical) // 60)].mean()) for x in (test, other)]
    np.testing.assert_allclose(found[f'ood_auroc_typicality{name}'], metrics.auroc(*own), atol=0.02)
    every = -(-run.examples['test'] // 60)
    images = np.asarray(data.find('digits', None, 8, 1).test.read(np.arange(0, run.examples['test'], every)).images)
    coded = [x - code_bits(y) for x, y in ((test, images), (other, bright))]
    np.testing.assert_allclose(found[f'ood_auroc_complexity{name}'], metrics.auroc(*coded))


def test_scores_of_likelihoods_that_fail(scored):
    """Of all images, own ones too: nothing is undefined, and figures are drawn."""
    run, state, _, _ = scored
    broken = state.replace(params={PLAYER: state.params[PLAYER] | {'mean': state.params[PLAYER]['mean'] * jnp.nan}})
    scores = LikelihoodScores(run)
    found, shown = scores.measure(broken), scores.pictures(broken)
    assert found['ood_non_finite'] == found['attacked_ood_non_finite'] == 1
    assert found['ood_auroc'] == 0.5
    assert found['ood_below_median'] == 0
    assert 'ood_bits_per_dim_noise' not in found
    plots.bits_histogram(shown)


def test_figures(scored):
    _, state, scores, _ = scored
    shown = scores.pictures(state)
    (axis,) = plots.bits_histogram(shown).axes
    assert 'test' in [text.get_text() for text in axis.get_legend().get_texts()]
    grid = plots.attacked_images(shown, count=5).axes
    assert len(grid) == 5 * 7
    assert grid[5].get_title() == f'{shown["attacked_bits"][0]:.1f}'
    results = {'a': [{'metrics': {'bits_per_dim': 2.0, 'attacked_bits_per_dim_at_0.0314': 8.0}}]}
    (line,) = plots.bits_against_eps(results).axes[0].get_lines()
    np.testing.assert_allclose(line.get_ydata(), [2.0, 8.0])
    np.testing.assert_allclose(line.get_xdata(), [0, 8], atol=0.01)


def test_theory_line_of_the_study():
    """The covariance of dequantised images, its robust fits and the optimal attack on test images, beside the network."""
    rng = np.random.default_rng(0)
    train, test = (np.round(255 * _points(count)).astype(np.uint8).reshape(-1, *SHAPE) for count in (400, 50))
    module = configs.load_module(configs.experiments_dir() / 'flow_robustness/study.py')
    line = module.theory(train, test, (0.0, 0.1), 0.05)
    (clean, attacked), (robust_clean, robust_attacked) = line
    assert clean < robust_clean < robust_attacked < attacked
    mean, covariance = maximum_likelihood(jnp.asarray((train.reshape(-1, 4) + 0.5) / 256, jnp.float32))
    covariance += jnp.eye(4) / 12 / 256**2
    noisy = jnp.asarray((test + rng.uniform(size=(200, *test.shape))).reshape(-1, 4) / 256, jnp.float32)
    expected = float(losses.bits_per_dim(gaussian_nll(noisy, mean, covariance), 4).mean())
    np.testing.assert_allclose(clean, expected, atol=0.01)


def test_derived_numbers_of_the_study(tmp_path):
    directories = {}
    rows = (('glow_clean', 2.0, 10.0, 0.1), ('glow_hybrid', 2.1, 4.0, 0.2), ('glow_clean_textures', 4.0, 12.0, 0.95))
    rows += (('realnvp_clean', 2.0, 10.0, 0.3), ('linear_clean', 4.0, 2.0, 0.0), ('linear_adversarial_0.1', 5.0, 1.0, 0.0))
    for name, clean, attack, likely in rows:
        directories[name] = {0: tmp_path / name}
        directories[name][0].mkdir()
        values = {'bits_per_dim': clean, 'attacked_adds': attack, 'noise_adds': 0.5, 'attacked_ood_below_median': likely}
        content = {'experiment': '', 'method': '', 'seed': 0, 'step': 1, 'selection': '', 'metrics': values}
        write_json(directories[name][0] / 'results.json', content)
    rows = studies.load_study('flow_robustness').derive(directories)
    assert rows['glow_clean'][0] == {'attack_minus_5_noise': 7.5, 'others_made_likely': 0.95}
    assert 'others_made_likely' not in rows['realnvp_clean'][0]  # its run over textures is not there yet
    plain = {name: own for name, own in directories.items() if not name.endswith('textures')}
    rows_without = studies.load_study('flow_robustness').derive(plain)
    assert rows_without['realnvp_clean'][0]['others_made_likely'] == 0.3  # at a scale without textures its own
    assert rows['glow_clean_textures'][0] == {'attack_minus_5_noise': 9.5}
    assert 'others_made_likely' not in rows['glow_hybrid'][0]
    assert (rows['linear_adversarial_0.1'][0]['clean_cost'], rows['linear_adversarial_0.1'][0]['increase_left']) == (
        0.25,
        0.5,
    )
    np.testing.assert_allclose(rows['glow_hybrid'][0]['clean_cost'], 0.05)
    np.testing.assert_allclose(rows['glow_hybrid'][0]['increase_left'], 0.4)


def test_pictures_pair_images_with_their_bits(scored):
    run, state, scores, _ = scored
    shown = scores.pictures(state)
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

    class Other:
        info, config = run.info, run.config
        method = dataclasses.replace(run.method, evaluation=dataclasses.replace(run.method.evaluation, ood=('nosuch',)))

    with pytest.raises(data.DataError, match=r"^evaluation.ood has 'nosuch'"):
        LikelihoodScores(Other)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'adversarial_weight': 1.5}, r'method.adversarial_weight is 1.5; allowed: 0..1'),
        ({'attack_steps': 0}, r'method.attack_steps is 0; allowed: > 0'),
        ({'attack_norm': 'l1'}, r"method.attack_norm is 'l1'; allowed: linf, l2"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        method(**options)


def test_hybrid_training_needs_even_batches():
    flow = method()
    state = flow.init(jax.random.key(0), batch_of(0))
    with pytest.raises(ValueError, match=r'train.batch_size is 15; allowed in hybrid training: even'):
        flow.step(state, batch_of(0, 15))


@pytest.mark.slow
def test_glow_of_cifar10_fits_a_gpu():
    """Batches of 64 train in a tenth of 80 GB by the compiler's count, in less than a gigabyte of temporaries with remat."""
    for remat, most in ((False, 8.0), (True, 1.0)):
        config = configs.load('flow_robustness/paper.py:hybrid', {'net.remat': remat})
        glow = methods.build(config, DataInfo(10, 50000, 781, 200000, (32, 32, 3)))
        image, integer = jax.ShapeDtypeStruct((64, 32, 32, 3), jnp.float32), jax.ShapeDtypeStruct((64,), jnp.int32)
        batch = {'image': image, 'label': integer, 'index': integer}
        state = jax.eval_shape(glow.init, jax.random.key(0), batch)
        assert 44e6 < sum(leaf.size for leaf in jax.tree.leaves(state.params)) < 45e6  # the released model has 44 million
        compiled = jax.jit(glow.step).lower(state, batch).compile({'xla_backend_optimization_level': 0})
        assert compiled.memory_analysis().temp_size_in_bytes < most * 2**30


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
        LikelihoodScores(run).measure(scored[1])
    assert set(taken) == {ood_steps or 7}
