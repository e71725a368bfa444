"""GLOW's choices, and those of the released codes: against the whole flow written down in NumPy, in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import nets
from gjax.losses.flow import standard_normal_nll
from gjax.nets import bijectors
from gjax.nets.glow import AS_RELEASED, Choices, Glow
from tests.nets.test_flows import images_of, variables_of

SHAPE = (4, 4, 2)


def _conv(x, own, border=0.0, edge=False):
    """A convolution [B, H, W, C] of kernel [k, k, C, D], k 3 or 1, over an image in a border of zeros or ones; with `edge`
    the kernel has a channel more, for a map that is 1 in the border.
    """
    kernel, (_, height, width, _) = own['kernel'], x.shape
    side = len(kernel) // 2
    around = ((0, 0), (side, side), (side, side), (0, 0))
    padded = np.pad(x, around, constant_values=border)
    if edge and side:
        padded = np.concatenate([padded, np.pad(np.zeros((*x.shape[:3], 1)), around, constant_values=1)], -1)
    places = np.ndindex(kernel.shape[:2])
    return sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i, j in places) + own.get('bias', 0)


def _zero_conv(x, own, choices):
    border = float(choices.padding == 'ones')
    return _conv(x, own['Conv_0'], border, choices.padding == 'edge') * np.exp(3 * own['log_scale'])


def _coupling_network(x, own, choices):
    for i in range(2):
        x = _conv(x, own[f'Conv_{i}'], 0.0, choices.padding == 'edge')
        if choices.network_norm:
            x = (x + own[f'ActNorm_{i}']['shift']) * np.exp(own[f'ActNorm_{i}']['log_scale'])
        x = np.maximum(x, 0)
    return _zero_conv(x, own['ZeroConv_0'], choices)


def _step(x, own, fixed, choices):
    norm, linear = own['ActNorm_0'], own['InvertibleConv_0']['learned']
    pixels = x.shape[1] * x.shape[2]
    x = (x + norm['shift']) * np.exp(norm['log_scale'])
    lower = np.tril(linear['lower'], -1) + np.eye(x.shape[-1])
    upper = np.triu(linear['upper'], 1) + np.diag(fixed['signs'] * np.exp(linear['log_scale']))
    weight = (lower @ upper)[fixed['order']]
    x, kept = x @ weight.T, (x @ weight.T)[..., : (x.shape[-1] + 1) // 2]
    moved = x[..., kept.shape[-1] :]
    shift, raw = np.split(_coupling_network(kept, own['AffineCoupling_0']['GlowNetwork_0'], choices), 2, axis=-1)
    scale = 1 / (1 + np.exp(-raw - 2)) if choices.scales == 'sigmoid' else np.exp(2 * np.tanh(raw / 2))
    log_det = pixels * (norm['log_scale'].sum() + linear['log_scale'].sum()) + np.log(scale).sum((1, 2, 3))
    return np.concatenate([kept, (moved + shift) * scale], -1), log_det


def _gaussian_nll(x, condition, own, choices):
    """Of what is factored out, [B]: minus the logarithm of a normal density."""
    mean, raw = np.split(_zero_conv(condition, own['ZeroConv_0'], choices), 2, axis=-1)
    deviation = np.exp(raw if choices.scales == 'sigmoid' else 2 * np.tanh(raw / 2))
    return (0.5 * ((x - mean) / deviation) ** 2 + np.log(deviation) + 0.5 * np.log(2 * np.pi)).sum((1, 2, 3))


def _nll(images, variables, choices, levels=2):
    """Of images [B, H, W, C]: one step of flow a level."""
    params, stats = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (variables['params'], variables['batch_stats']))
    stats = jax.tree.map(lambda leaf: leaf.astype(int), stats)  # orders and signs
    x, total = np.asarray(images, np.float64) - 0.5, 0.0
    for level in range(levels):
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)
        own = jax.tree.map(lambda leaf: leaf[0], params[f'GlowLevel_{level}']['Repeated_0']['learned'])
        fixed = jax.tree.map(lambda leaf: leaf[0], stats[f'GlowLevel_{level}']['Repeated_0']['fixed'])
        x, log_det = _step(x, own, fixed['InvertibleConv_0']['fixed'], choices)
        total = total - log_det
        gaussian = params.get(f'ConditionalGaussian_{level}')
        if level < levels - 1:
            x, out = np.split(x, 2, axis=-1)
            total = total + _gaussian_nll(out, x, gaussian, choices)
    if choices.learned_prior:
        return total + _gaussian_nll(x, np.zeros_like(x), gaussian, choices)
    return total + (0.5 * x**2 + 0.5 * np.log(2 * np.pi)).sum((1, 2, 3))


@pytest.mark.parametrize('name', ['glow_pytorch', pytest.param('openai', marks=pytest.mark.slow)])
def test_likelihoods_are_those_of_the_released_codes(name):
    flow, images = Glow(SHAPE, levels=2, depth=1, hidden=3, as_released=name), images_of(1, 3)
    variables = variables_of(flow)
    found = standard_normal_nll(*jax.jit(flow.apply)(variables, images))
    np.testing.assert_allclose(found, _nll(images, variables, flow.choices), rtol=1e-5, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    'options', [{}, {'scales': 'sigmoid'}, {'padding': 'ones'}, {'padding': 'edge'}, {'learned_prior': True}]
)
def test_every_choice_alone(options):
    flow, images = Glow(SHAPE, levels=2, depth=1, hidden=3, **options), images_of(1, 3)
    variables = variables_of(flow)
    found = standard_normal_nll(*jax.jit(flow.apply)(variables, images))
    np.testing.assert_allclose(found, _nll(images, variables, Choices(**options)), rtol=1e-5, atol=1e-4)
    default = _nll(images, variables, Choices()) if 'padding' not in options else None  # whose kernels are smaller
    assert not options or default is None or np.abs(default - found).max() > 1e-3


def test_a_start_by_unbiased_deviations():
    images = images_of(0, 2, (2, 2, 3))
    for unbiased in (False, True):
        outputs, _ = bijectors.ActNorm(unbiased).init_with_output(jax.random.key(0), images)[0]
        np.testing.assert_allclose(np.asarray(outputs).reshape(-1, 3).std(0, ddof=int(unbiased)), 1, rtol=1e-4)


def test_borders():
    images = jnp.full((1, 2, 2, 1), 5.0)
    border = np.ones((4, 4))
    border[1:3, 1:3] = 0
    np.testing.assert_array_equal(bijectors.with_border(images, 'zeros')[0, ..., 0], 5 * (1 - border))
    np.testing.assert_array_equal(bijectors.with_border(images, 'ones')[0, ..., 0], 5 * (1 - border) + border)
    edge = bijectors.with_border(images, 'edge')[0]
    np.testing.assert_array_equal(edge[..., 0], 5 * (1 - border))
    np.testing.assert_array_equal(edge[..., 1], border)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'scales': 'exp'}, "scales is 'exp'; allowed: bounded, sigmoid"),
        ({'padding': 'reflect'}, "padding is 'reflect'; allowed: zeros, ones, edge"),
        ({'as_released': 'paper'}, "as_released is 'paper'; allowed: openai, glow_pytorch"),
        (
            {'as_released': 'openai', 'padding': 'ones'},
            "padding is 'ones' beside as_released='openai'; allowed: one of the two",
        ),
        (
            {'image_shape': (3,), 'learned_prior': True},
            r'image_shape is \(3,\) with .*learned_prior=True.*; allowed for vectors',
        ),
        ({'image_shape': (3,), 'as_released': 'openai'}, r"image_shape is \(3,\) with padding='edge'"),
    ],
)
def test_choices_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        nets.build('glow', **{'image_shape': (4, 4, 1), 'levels': 1} | options)


def test_the_released_choices_are_options_of_their_own():
    flow = Glow(SHAPE, 1, **AS_RELEASED['glow_pytorch'])
    assert flow.choices == Glow(SHAPE, 1, as_released='glow_pytorch').choices
    assert Glow(SHAPE, 1).choices == Choices()
    assert {field.name for field in dataclasses.fields(Choices)} == set(AS_RELEASED['glow_pytorch'])
