"""What comes into an attack is used as meant or refused in one line: shapes, ranges, dtypes, keys; bounds of any range."""

from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gjax import attacks
from gjax.attacks import linear_flow
from gjax.losses import cross_entropy

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(16, 3)).astype(np.float32)
IMAGES = RNG.uniform(0, 1, (8, 4, 4, 1)).astype(np.float32)
KEY = jax.random.key(0)


def linear(images):
    return images.reshape(images.shape[0], -1) @ jnp.asarray(WEIGHTS, images.dtype)


LABELS = (IMAGES.reshape(8, -1) @ WEIGHTS).argmax(axis=1).astype(np.int32)
ATTACKS = {
    'pgd': partial(attacks.pgd, linear, rng=KEY, steps=2, step_size=0.05),
    'pgd_l2': partial(attacks.pgd, linear, rng=KEY, steps=2, step_size=0.05, norm='l2'),
    'restarts': partial(attacks.pgd, linear, rng=KEY, steps=2, step_size=0.05, restarts=2),
    'fgsm': partial(attacks.fgsm, linear),
    'rand_fgsm': partial(attacks.rand_fgsm, linear, rng=KEY),
    'momentum': partial(attacks.momentum_iterative, linear, steps=2, step_size=0.05),
    'margin': partial(attacks.margin_pgd, linear, rng=KEY, steps=2),
    'multi_targeted': partial(attacks.multi_targeted, linear, rng=KEY, steps=2, targets=2),
    'apgd': partial(attacks.apgd_ce, linear, rng=KEY, steps=2),
    'fab': partial(attacks.fab, linear, rng=KEY, steps=2),
    'square': partial(attacks.square, linear, rng=KEY, queries=2),
    'noise': lambda images, _, eps, **options: attacks.random_noise(images, eps, rng=KEY, **options),
    'raise': lambda images, _, eps, **options: attacks.raise_nll(
        lambda x, rng: linear(x)[:, 0], images, eps, rng=KEY, steps=2, **options
    ),
    'lower': lambda images, _, eps, **options: attacks.lower_nll(
        lambda x, rng: linear(x)[:, 0], images, eps, rng=KEY, steps=2, **options
    ),
    'project': lambda images, _, eps, **options: attacks.project(images, images, eps, 'linf', **options),
    'carlini_wagner': lambda images, labels, eps, **options: attacks.carlini_wagner_l2(
        linear, images, labels, steps=2, **options
    ),
}
MEAN, STD = 0.5, 0.25


@pytest.mark.parametrize('name', ATTACKS)
@pytest.mark.parametrize(
    ('images', 'message'),
    [
        ((IMAGES - MEAN) / STD, r'^images lie in -\S+; allowed: 0\.\.1 \(bounds\); normalise inside the network$'),
        (IMAGES * 255, r'^images lie in '),
        (IMAGES * 2 - 1, r'^images lie in '),
        (jnp.asarray(IMAGES * 2 - 1), r'^images lie in '),
        (np.where(IMAGES > 0.9, np.nan, IMAGES), r'^images lie in nan'),
        ((IMAGES * 255).astype(np.uint8), r'^the dtype of images is uint8; allowed: .* \(divide by 255\?\)$'),
        (IMAGES[:0], r'^the shape of images is \(0, 4, 4, 1\); allowed: at least one example$'),
        (IMAGES.tolist(), r'^images is of type list; allowed: an array$'),
    ],
)
def test_images_out_of_bounds_or_of_no_use_are_refused(name, images, message):
    with pytest.raises(ValueError, match=message) as caught:
        ATTACKS[name](images, LABELS[: len(images)], 0.1)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', sorted(set(ATTACKS) - {'carlini_wagner', 'pgd_l2'}))
def test_a_linf_radius_above_the_width_of_the_bounds_is_refused(name):
    with pytest.raises(ValueError, match=r'^eps is 8; allowed for linf: 0\.\.1, the width of the bounds \(8/255\?\)$'):
        ATTACKS[name](IMAGES, LABELS, 8)
    with pytest.raises(ValueError, match=r'^eps is 3; allowed for linf: 0\.\.2, the width of the bounds$'):
        ATTACKS[name](IMAGES, LABELS, jnp.full(8, 3.0), bounds=(-1, 1))


@pytest.mark.parametrize('jit', [False, True])
def test_labels_and_objectives_of_other_shapes_are_refused(jit):
    wrap = jax.jit if jit else lambda function: function
    rows = jnp.asarray(LABELS)[:, None]
    for name in ('pgd', 'fgsm', 'momentum', 'margin', 'restarts', 'carlini_wagner', 'apgd', 'fab', 'square'):
        for labels in (rows, rows[:1, 0]):
            with pytest.raises(ValueError, match=r'^the shape of labels is \((8, 1|1,)\); allowed: \(8,\)'):
                wrap(lambda y, name=name: ATTACKS[name](jnp.asarray(IMAGES), y, 0.1))(labels)
    broadcasting = partial(attacks.pgd, linear, objective=lambda z, y: z[:, 0][None] * y[:, None].astype(z.dtype))
    with pytest.raises(ValueError, match=r'^the shape of objective\(logits, targets\) is \(8, 8\); allowed: \(8,\)'):
        wrap(lambda y: broadcasting(jnp.asarray(IMAGES), y, 0.1, rng=KEY, steps=1, step_size=0.1))(rows[:, 0])
    with pytest.raises(ValueError, match=r'^the shape of nll_fn\(images\) is \(8, 3\); allowed: \(8,\)'):
        wrap(lambda x: attacks.raise_nll(lambda x, rng: linear(x), x, 0.1, rng=KEY))(jnp.asarray(IMAGES))
    with pytest.raises(ValueError, match=r'^the shape of level is \(8, 1\); allowed: \(\) or \(8,\)'):
        wrap(lambda x: attacks.lower_nll(lambda x, rng: linear(x)[:, 0], x, 0.1, rng=KEY, level=jnp.zeros((8, 1))))(
            jnp.asarray(IMAGES)
        )


@pytest.mark.parametrize('jit', [False, True])
def test_worst_case_and_curves_refuse_what_they_would_broadcast(jit):
    wrap = jax.jit if jit else lambda function: function
    images, labels = jnp.asarray(IMAGES), jnp.asarray(LABELS)

    def worst(images, labels, attack=lambda f, x, y, rng: x, logits_fn=linear):
        return attacks.worst_case(logits_fn, images, labels, [attack], rng=KEY)

    def curve(images, labels, eps=(0.0, 0.1)):
        return attacks.accuracy_curve(linear, images, labels, eps, lambda f, x, y, eps, rng: x, rng=KEY)

    for function in (worst, curve):
        with pytest.raises(ValueError, match=r'^the shape of labels is \(8, 1\); allowed: \(8,\), one an image'):
            wrap(function)(images, labels[:, None])
        with pytest.raises(ValueError, match='the dtype of labels is float32; allowed: integers'):
            wrap(function)(images, labels.astype(jnp.float32))
    with pytest.raises(ValueError, match=r'^the shape of the adversarial images is \(1, 4, 4, 1\); allowed: \(8, 4, 4, 1\)'):
        wrap(partial(worst, attack=lambda f, x, y, rng: x[:1]))(images, labels)
    with pytest.raises(ValueError, match=r'^the shape of logits is \(8,\); allowed: \(8, K\)'):
        wrap(partial(worst, logits_fn=lambda x: linear(x)[:, 0]))(images, labels)
    with pytest.raises(ValueError, match=r'^the shape of eps_values is \(1, 2\); allowed: \[E\]'):
        wrap(partial(curve, eps=np.zeros((1, 2))))(images, labels)
    with pytest.raises(ValueError, match=r'^eps_values is \[0.2, 0.1\]; allowed: ascending radii >= 0'):
        wrap(partial(curve, eps=(0.2, 0.1)))(images, labels)
    with pytest.raises(ValueError, match=r'^eps_values is empty; allowed: at least one radius'):
        wrap(partial(curve, eps=()))(images, labels)


def _pgd_of_norm(logits_fn, images, labels, eps, rng, *, norm):
    return attacks.pgd(logits_fn, images, labels, eps, rng=rng, steps=1, step_size=eps, norm=norm)


@pytest.mark.parametrize('jit', [False, True])
def test_a_curve_refuses_radii_that_its_attack_refuses(jit):
    wrap = jax.jit if jit else lambda function: function

    def curve(images, labels, norm, eps=(0.0, 2.0, 8.0)):
        return attacks.accuracy_curve(linear, images, labels, eps, partial(_pgd_of_norm, norm=norm), rng=KEY)

    with pytest.raises(ValueError, match=r'^eps is 8; allowed for linf: 0..1, the width of the bounds \(8/255\?\)'):
        wrap(partial(curve, norm='linf'))(IMAGES, LABELS)
    assert jax.eval_shape(partial(curve, norm='l2'), IMAGES, LABELS).shape == (8, 3)


def test_a_number_is_no_key():
    calls = [
        lambda: attacks.pgd(linear, IMAGES, LABELS, 0.1, rng=0, steps=1, step_size=0.1),
        lambda: attacks.margin_pgd(linear, IMAGES, LABELS, 0.1, rng=0),
        lambda: attacks.random_noise(IMAGES, 0.1, rng=0),
        lambda: attacks.raise_nll(lambda x, rng: linear(x)[:, 0], IMAGES, 0.1, rng=0),
        lambda: attacks.expected_nll(lambda x, rng: linear(x)[:, 0], rng=0),
        lambda: attacks.worst_case(linear, IMAGES, LABELS, [], rng=0),
        lambda: attacks.accuracy_curve(linear, IMAGES, LABELS, [0.1], None, rng=0),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r'^rng is 0; allowed: one key, such as jax.random.key\(0\)$'):
            call()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'bounds': (1.0, 0.0)}, r'bounds is \(1\.0, 0\.0\); allowed: \(low, high\)'),
        ({'search_steps': 0}, 'search_steps is 0; allowed: > 0'),
        ({'constant': 0.0}, 'constant is 0.0; allowed: > 0'),
        ({'confidence': -1.0}, 'confidence is -1.0; allowed: >= 0'),
        ({'labels': LABELS + 3}, r'labels have the value \d; allowed: 0..2, for logits of 3 classes'),
    ],
)
def test_bad_options_of_carlini_and_wagner_are_refused(change, message):
    options = {'labels': LABELS, 'steps': 2} | change
    with pytest.raises(ValueError, match=f'^{message}'):
        attacks.carlini_wagner_l2(linear, IMAGES, options.pop('labels'), **options)


@pytest.mark.parametrize('name', ['pgd', 'noise', 'carlini_wagner'])
def test_bounds_only_change_the_units(name):
    """A network of images in [-1, 1], attacked there, is the same network of images in [0, 1] attacked there."""

    def signed(images):
        return linear((images + 1) / 2)

    options = {'rng': KEY, 'steps': 3, 'step_size': 0.05}
    if name == 'pgd':
        unit = attacks.pgd(linear, IMAGES, LABELS, 0.1, **options)
        other = attacks.pgd(signed, 2 * IMAGES - 1, LABELS, 0.2, **options | {'step_size': 0.1}, bounds=(-1.0, 1.0))
    elif name == 'noise':
        unit = attacks.random_noise(IMAGES, 0.5, rng=KEY)
        other = attacks.random_noise(2 * IMAGES - 1, 1.0, rng=KEY, bounds=(-1, 1))
    else:  # whose distances, in other units, are worth four times as much against c
        options = {'steps': 20, 'learning_rate': 0.1}
        unit = attacks.carlini_wagner_l2(linear, IMAGES, LABELS, constant=1.0, **options)
        other = attacks.carlini_wagner_l2(signed, 2 * IMAGES - 1, LABELS, constant=4.0, bounds=(-1, 1), **options)
        assert (np.asarray(linear(unit)).argmax(axis=1) != LABELS).any()
    np.testing.assert_allclose((np.asarray(other) + 1) / 2, unit, atol=2e-4 if name == 'carlini_wagner' else 1e-6)


def test_mean_and_deviation_inside_the_network():
    """The whole network is attacked, and what is found is what the attack on the composed function finds."""

    def normalised(images):
        return linear((images - MEAN) / STD)

    labels = np.asarray(normalised(IMAGES)).argmax(axis=1)
    found = attacks.carlini_wagner_l2(normalised, IMAGES, labels, steps=60, learning_rate=0.1, search_steps=2)
    assert (np.asarray(normalised(found)).argmax(axis=1) != labels).all()


@pytest.mark.parametrize('name', ['pgd', 'momentum', 'noise', 'project'])
def test_what_is_not_perturbed_is_not_clipped(name):
    """Images outside their bounds by rounding stay as they are at eps 0, bit for bit; elsewhere results lie inside."""
    images = IMAGES.copy()
    images[0, 0, 0, 0], images[1, 1, 1, 0] = 1 + 5e-7, -5e-7
    zero = {'step_size': 0.0} if name in ('pgd', 'momentum') else {}
    np.testing.assert_array_equal(ATTACKS[name](images, LABELS, 0.0, **zero), images)
    found = np.asarray(ATTACKS[name](images, LABELS, 0.1))
    inside = (found >= 0) & (found <= 1)
    np.testing.assert_array_equal(found[~inside], images[~inside])


HALF = ('float16', 'bfloat16')


@pytest.mark.parametrize(('dtype', 'norm'), [('float16', 'linf'), ('bfloat16', 'l2')])
def test_half_precision_stays_in_the_ball_and_finds_what_float32_finds(dtype, norm):
    images = jnp.asarray(IMAGES, dtype)
    labels = linear(images).argmax(axis=1)
    eps = 0.06 if norm == 'linf' else 0.3
    attack = partial(attacks.pgd, linear, targets=labels, rng=KEY, steps=8, step_size=eps / 4, norm=norm)
    found = attack(images=images, eps=eps)
    assert found.dtype == images.dtype
    wide = np.asarray(images, np.float32)
    delta = (np.asarray(found, np.float32) - wide).reshape(8, -1)
    size = np.abs(delta).max(axis=1) if norm == 'linf' else np.linalg.norm(delta, axis=1)
    assert (size <= eps * (1 + 1e-6)).all()
    exact = attack(images=jnp.asarray(wide), eps=eps)
    rises = [np.asarray(cross_entropy(linear(jnp.asarray(x, jnp.float32)), labels)) for x in (found, exact, wide)]
    assert (rises[0] - rises[2] > 0.9 * (rises[1] - rises[2])).all()


@pytest.mark.parametrize('dtype', ['float16', pytest.param('bfloat16', marks=pytest.mark.slow)])
def test_carlini_and_wagner_fool_as_many_in_half_precision(dtype):
    hidden = jnp.asarray(RNG.normal(size=(16, 12)) / 4, jnp.float32)
    last = jnp.asarray(RNG.normal(size=(12, 5)), jnp.float32)

    def network(images):
        features = jnp.tanh(images.reshape(images.shape[0], -1) @ hidden.astype(images.dtype))
        return features @ last.astype(images.dtype)

    fooled, drawn = {}, IMAGES.copy()
    drawn[:6, 0, 0], drawn[:6, 1, 1] = 0, 1  # ink and paper, where 1 - 1e-6 rounded to 1 is infinite in tanh space
    for kind in ('float32', dtype):
        images = jnp.asarray(jnp.asarray(drawn, dtype), kind)
        labels = network(images).argmax(axis=1)
        found = attacks.carlini_wagner_l2(network, images, labels, steps=40, learning_rate=0.05, search_steps=4)
        assert found.dtype == images.dtype
        fooled[kind] = int((network(found).argmax(axis=1) != labels).sum())
    assert fooled == {'float32': 8, dtype: 8}


@pytest.mark.slow
@pytest.mark.parametrize('name', ATTACKS)
@pytest.mark.parametrize('dtype', [*HALF, 'float64'])
def test_every_attack_takes_every_dtype(name, dtype):
    with jax.enable_x64(dtype == 'float64'):
        images = jnp.asarray(IMAGES, dtype)
        found = ATTACKS[name](images, jnp.asarray(LABELS), 0.05)
    assert found.dtype == images.dtype
    delta = np.asarray(found, np.float64) - np.asarray(images, np.float64)
    assert np.isfinite(delta).all()
    assert np.abs(delta).max() <= 0.05 * (1 + 1e-6) or name == 'carlini_wagner'
    assert np.abs(delta).max() > 0.01 or name in ('project', 'carlini_wagner', 'fab')


@pytest.mark.parametrize('shape', [(8, 16), (8, 4, 4)])
def test_images_of_any_rank(shape):
    """Vectors and images without channels: the same numbers in another shape."""
    images = jnp.asarray(IMAGES).reshape(shape)
    for name in ('pgd', 'carlini_wagner'):
        found = jax.eval_shape(lambda x, name=name: ATTACKS[name](x, LABELS, 0.1), images)
        assert found.shape == shape
    np.testing.assert_array_equal(
        attacks.random_noise(images, 0.1, rng=KEY).reshape(IMAGES.shape), attacks.random_noise(IMAGES, 0.1, rng=KEY)
    )


def _shapes_of_linear_flow():
    mean, covariance = np.zeros(3, np.float32), np.eye(3, dtype=np.float32)
    points = np.zeros((4, 3), np.float32)
    return [
        (lambda: linear_flow.gaussian_nll(points[0], mean, covariance), r'the shape of points is \(3,\); allowed: \[B, D\]'),
        (
            lambda: linear_flow.gaussian_nll(points, mean[None], covariance),
            r'the shape of mean is \(1, 3\); allowed: \(3,\)',
        ),
        (lambda: linear_flow.gaussian_nll(points, mean, mean), r'the shape of covariance is \(3,\); allowed: \[D, D\]'),
        (
            lambda: linear_flow.sample_perturbation(points, mean, covariance, np.ones((4, 1))),
            r'the shape of eps is \(4, 1\)',
        ),
        (
            lambda: linear_flow.universal_increase(covariance[:2], 0.1),
            r'the shape of covariance is \(2, 3\); allowed: \(2, 2\)',
        ),
        (lambda: linear_flow.robust_covariance(covariance, -1), 'eps is -1; allowed: >= 0'),
        (lambda: linear_flow.maximum_likelihood(mean), r'the shape of points is \(3,\)'),
        (lambda: linear_flow.water_level(covariance, 1.0), r'the shape of values is \(3, 3\); allowed: \[D\]'),
    ]


@pytest.mark.parametrize('case', range(8))
def test_closed_forms_of_linear_flows_check_shapes(case):
    call, message = _shapes_of_linear_flow()[case]
    with pytest.raises(ValueError, match=f'^{message}'):
        call()


DTYPES = ('uint8', 'int32', 'bool', 'float16', 'bfloat16', 'float32')


@st.composite
def batches(draw):
    """(images, bounds, whether they may be used), read by NumPy alone."""
    shape = draw(st.sampled_from([(), (2,), (0, 3), (2, 3), (2, 2, 2), (2, 2, 2, 1), (0, 2, 2, 1)]))
    dtype = draw(st.sampled_from(DTYPES))
    low, high = draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)]))
    values = np.random.default_rng(draw(st.integers(0, 99))).uniform(low, high, shape)
    strange = draw(st.sampled_from([None, None, low - 0.01, high * 1.01, np.nan, np.inf, 'ends']))
    if values.size and strange is not None:
        values.flat[0] = low if strange == 'ends' else strange
        values.flat[-1] = high if strange == 'ends' else values.flat[-1]
    with np.errstate(invalid='ignore'):
        images = np.asarray(values).astype(getattr(ml_dtypes, dtype, dtype))
    wide = images.astype(np.float64)
    static = len(shape) >= 2 and shape[0] > 0 and 'float' in dtype
    slack = 1e-6 * (high - low)
    inside = bool(np.all((wide >= low - slack) & (wide <= high + slack)))
    return images, (low, high), static, static and inside


def check_batch(case):
    """Projection on a ball of radius 0 gives the images themselves, or one line says why it does not."""
    images, bounds, static, usable = case
    project = partial(attacks.project, eps=0.0, norm='linf', bounds=bounds)
    for given_, allowed in ((images, usable), (jnp.asarray(images), usable)):
        if allowed:
            found = project(given_, given_)
            np.testing.assert_array_equal(np.asarray(found, np.float64), images.astype(np.float64))
            assert found.dtype == images.dtype
        else:
            with pytest.raises(ValueError, match=r'^[^\n]*images[^\n]*; allowed: [^\n]*$'):
                project(given_, given_)
    if static:
        assert jax.eval_shape(project, images, images).shape == images.shape
    else:
        with pytest.raises(ValueError, match=r'^the (shape|dtype) of images'):
            jax.eval_shape(project, images, images)


@given(batches())
@settings(max_examples=20)
def test_images_are_used_as_numpy_reads_them_or_refused(case):
    check_batch(case)


@pytest.mark.slow
@given(batches())
@settings(max_examples=2000)
def test_two_thousand_batches_of_images(case):
    check_batch(case)


def test_clean_under_debug_nans():
    with jax.debug_nans(True):
        for name in ('noise', 'project'):
            ATTACKS[name](IMAGES, LABELS, 0.1)
        for name in ('pgd_l2', 'carlini_wagner'):
            jax.jit(lambda x, name=name: ATTACKS[name](x, LABELS, 0.1))(IMAGES)


@pytest.mark.slow
@pytest.mark.parametrize('name', ATTACKS)
def test_every_attack_is_clean_under_debug_nans(name):
    """Also where a gradient is zero, an image at its bounds, and the radius 0."""
    images = IMAGES.copy()
    images[0], images[1], images[2] = 0, 1, 0.5
    with jax.debug_nans(True):
        for eps in (0.0, 0.1):
            found = ATTACKS[name](images, LABELS, eps)
            assert np.isfinite(found).all()
