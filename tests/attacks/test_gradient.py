"""Attacks against closed forms on linear models, their constraints, and per-example radii."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import attacks
from gjax.attacks.balls import uniform
from gjax.losses import cross_entropy, margin
from tests.linear import binary_model

RNG = np.random.default_rng(0)
SHAPE = (6, 4, 4, 1)
W, B, LINEAR = binary_model(RNG, 16)
INSIDE = jnp.asarray(RNG.uniform(0.4, 0.6, SHAPE), jnp.float32)  # the [0, 1] box stays inactive for eps < 0.4
LABELS = jnp.asarray([0, 1, 0, 1, 1, 0])
SIGN = np.where(np.asarray(LABELS) == 1, 1.0, -1.0).astype(np.float32)


def _score(images):
    return np.asarray(images).reshape(len(images), -1) @ W + B


def test_the_first_gradient_is_taken_at_the_start_as_clipped_or_as_drawn():
    """One step of 0.05 up (x + 0.05)^2 from images of zeros: up where the start lies above -0.05, else down."""
    rng, zeros = jax.random.key(3), jnp.zeros(SHAPE)
    drawn = np.asarray(uniform(rng, zeros, 0.1, 'linf'))
    assert (drawn < -0.05).any()

    def ends(**options):
        options = {'rng': rng, 'steps': 1, 'step_size': 0.05, 'objective': objective} | options
        return attacks.pgd(lambda images: images.reshape(len(images), -1), zeros, LABELS, 0.1, **options)

    def objective(pixels, labels):
        return jnp.sum((pixels + 0.05) ** 2, axis=1)

    np.testing.assert_allclose(ends(), np.clip(np.maximum(drawn, 0) + 0.05, 0, 0.1), atol=1e-7)
    as_drawn = np.clip(drawn + 0.05 * np.sign(drawn + 0.05), 0, 0.1)
    np.testing.assert_allclose(ends(clip_start=False), as_drawn, atol=1e-7)
    with pytest.raises(ValueError, match='clip_start is False with steps=0'):
        ends(clip_start=False, steps=0)


@pytest.mark.parametrize(('steps', 'step', 'start'), [(1, 0.1, False), (10, 0.02, True), (4, 0.05, True)])
def test_pgd_on_a_linear_model_is_the_closed_form(steps, step, start):
    options = {'rng': jax.random.key(1), 'steps': steps, 'step_size': step, 'random_start': start}
    adversarial = attacks.pgd(LINEAR, INSIDE, LABELS, 0.1, **options)
    expected = SIGN * _score(INSIDE) - 0.1 * np.abs(W).sum()
    np.testing.assert_allclose(SIGN * _score(adversarial), expected, atol=1e-5)
    loss = cross_entropy(LINEAR(adversarial), LABELS)
    np.testing.assert_allclose(loss, np.log1p(np.exp(-expected)), rtol=1e-5)


def test_pgd_respects_the_box_in_closed_form():
    images = jnp.asarray(RNG.uniform(0, 1, SHAPE), jnp.float32)
    adversarial = attacks.pgd(LINEAR, images, LABELS, 0.3, rng=jax.random.key(0), steps=10, step_size=0.06)
    direction = -SIGN[:, None] * np.sign(W)[None, :]
    expected = np.clip(np.asarray(images).reshape(6, -1) + 0.3 * direction, 0, 1)
    np.testing.assert_allclose(np.asarray(adversarial).reshape(6, -1), expected, atol=1e-6)


def test_l2_pgd_on_a_linear_model_is_the_closed_form():
    options = {'rng': jax.random.key(1), 'steps': 30, 'step_size': 0.02, 'norm': 'l2'}
    adversarial = attacks.pgd(LINEAR, INSIDE, LABELS, 0.1, **options)
    expected = SIGN * _score(INSIDE) - 0.1 * np.linalg.norm(W)
    np.testing.assert_allclose(SIGN * _score(adversarial), expected, atol=1e-4)


def test_targeted_pgd_moves_towards_the_target():
    options = {'rng': jax.random.key(1), 'steps': 5, 'step_size': 0.05}
    towards = attacks.pgd(LINEAR, INSIDE, LABELS, 0.1, targeted=True, **options)
    np.testing.assert_allclose(SIGN * _score(towards), SIGN * _score(INSIDE) + 0.1 * np.abs(W).sum(), atol=1e-5)


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_every_example_keeps_its_own_radius(norm):
    images = jnp.asarray(RNG.uniform(0, 1, SHAPE), jnp.float32)
    eps = jnp.asarray([0.0, 0.01, 0.1, 0.2, 0.5, 0.9])
    adversarial = attacks.pgd(LINEAR, images, LABELS, eps, rng=jax.random.key(2), steps=7, step_size=eps / 3, norm=norm)
    delta = np.asarray(adversarial - images).reshape(6, -1)
    size = np.abs(delta).max(axis=1) if norm == 'linf' else np.linalg.norm(delta, axis=1)
    assert (size <= np.asarray(eps) + 1e-6).all()
    assert size[1:].min() > 0
    np.testing.assert_array_equal(adversarial[0], images[0])
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


def test_mixed_radii_equal_separate_runs_with_the_same_noise():
    eps = jnp.asarray([0.02, 0.05, 0.1, 0.2, 0.02, 0.1])
    options = {'rng': jax.random.key(3), 'steps': 3, 'step_size': 0.01}
    mixed = attacks.pgd(LINEAR, INSIDE, LABELS, eps, **options)
    for value in (0.02, 0.05, 0.1, 0.2):
        rows = np.flatnonzero(np.asarray(eps) == np.float32(value))
        alone = attacks.pgd(LINEAR, INSIDE, LABELS, value, **options)
        np.testing.assert_allclose(mixed[rows], alone[rows], atol=1e-7)


def test_no_attack_beats_the_multiclass_margin():
    weights = RNG.normal(size=(16, 5)).astype(np.float32)
    images = jnp.asarray(RNG.uniform(0.4, 0.6, (40, 4, 4, 1)), jnp.float32)

    def logits_fn(x):
        return x.reshape(x.shape[0], -1) @ jnp.asarray(weights)

    logits = np.asarray(logits_fn(images))
    labels = logits.argmax(axis=1)
    gaps = logits[np.arange(40), labels][:, None] - logits
    norms = np.abs(weights[:, labels].T[:, None, :] - weights.T[None]).sum(axis=2)
    margins = np.where(norms > 0, gaps / np.where(norms > 0, norms, 1), np.inf).min(axis=1)
    labels = jnp.asarray(labels)
    below, above = (jnp.asarray(margins * f, jnp.float32) for f in (0.99, 1.05))
    for attack in (attacks.pgd, attacks.margin_pgd):
        for radius, survives in ((below, True), (above, False)):
            options = {'rng': jax.random.key(0), 'steps': 40, 'step_size': radius / 10}
            still = margin(logits_fn(attack(logits_fn, images, labels, radius, **options)), labels) > 0
            if survives:
                assert still.all()
            elif attack is attacks.margin_pgd:
                assert not still.any()


def test_fgsm_and_momentum_reach_the_corner_of_a_linear_model():
    expected = SIGN * _score(INSIDE) - 0.1 * np.abs(W).sum()
    one = attacks.fgsm(LINEAR, INSIDE, LABELS, 0.1)
    many = attacks.momentum_iterative(LINEAR, INSIDE, LABELS, 0.1, steps=5, step_size=0.02)
    for adversarial in (one, many):
        np.testing.assert_allclose(SIGN * _score(adversarial), expected, atol=1e-5)


def test_restarts_keep_the_best_start_of_each_example():
    def logits_fn(images):  # two bumps: most starts climb the lower one
        x = images.reshape(images.shape[0], -1)[:, 0]
        bump = jnp.exp(-(((x - 0.2) / 0.05) ** 2)) + 3 * jnp.exp(-(((x - 0.9) / 0.05) ** 2))
        return jnp.stack([jnp.zeros_like(bump), bump - 2.0], axis=1)

    images, labels = jnp.full((64, 1, 1, 1), 0.5), jnp.zeros(64, jnp.int32)
    hits = []
    for restarts in (1, 10):
        options = {'rng': jax.random.key(0), 'steps': 20, 'step_size': 0.02, 'restarts': restarts}
        adversarial = attacks.pgd(logits_fn, images, labels, 0.5, **options)
        hits.append(float((logits_fn(adversarial).argmax(axis=1) == 1).mean()))
    assert hits[0] < 0.6
    assert hits[1] > 0.9


def test_carry_passes_through_every_call():
    def logits_fn(images, count):
        return LINEAR(images), count + 1

    adversarial, count = attacks.pgd(
        logits_fn, INSIDE, LABELS, 0.1, rng=jax.random.key(0), steps=7, step_size=0.02, carry=jnp.int32(0)
    )
    plain = attacks.pgd(LINEAR, INSIDE, LABELS, 0.1, rng=jax.random.key(0), steps=7, step_size=0.02)
    assert count == 7
    np.testing.assert_array_equal(adversarial, plain)


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_random_noise_is_uniform_in_the_ball(norm):
    images = jnp.full((4000, 1, 2, 1), 0.5)
    delta = np.asarray(attacks.random_noise(images, 0.2, rng=jax.random.key(0), norm=norm) - images).reshape(-1, 2)
    size = np.abs(delta).max(axis=1) if norm == 'linf' else np.linalg.norm(delta, axis=1)
    assert size.max() <= 0.2 + 1e-6
    np.testing.assert_allclose((size < 0.1).mean(), 0.25, atol=0.03)  # a quarter of the area


def test_attacks_run_under_jit():
    key = jax.random.key(0)
    calls = {
        'pgd': lambda x: attacks.pgd(LINEAR, x, LABELS, 0.1, rng=key, steps=3, step_size=0.05, restarts=2),
        'fgsm': lambda x: attacks.fgsm(LINEAR, x, LABELS, 0.1),
        'mim': lambda x: attacks.momentum_iterative(LINEAR, x, LABELS, 0.1, steps=3, step_size=0.05),
        'margin': lambda x: attacks.margin_pgd(LINEAR, x, LABELS, 0.1, rng=key, steps=3),
        'cw': lambda x: attacks.carlini_wagner_l2(LINEAR, x, LABELS, steps=3),
        'noise': lambda x: attacks.random_noise(x, 0.1, rng=key),
    }
    for call in calls.values():
        np.testing.assert_allclose(jax.jit(call)(INSIDE), call(INSIDE), atol=1e-5)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'norm': 'l1'}, "norm is 'l1'; allowed: linf, l2"),
        ({'eps': -0.1}, 'is -0.1; allowed: >= 0'),
        ({'eps': np.float32(-0.5)}, 'is -0.5; allowed: >= 0'),
        ({'step_size': np.asarray([0.1, 0.1, 0.1, 0.1, 0.1, np.nan])}, 'nan.*allowed: >= 0'),
        ({'steps': -1}, 'steps is -1'),
        ({'steps': 1.5}, 'steps is 1.5, restarts 1; allowed: integers'),
        ({'rng': np.ones(3, np.uint32)}, r'rng is uint32\[3\]; allowed: one key'),
        ({'restarts': 0}, 'restarts 0'),
        ({'eps': jnp.zeros(3)}, r'the shape of eps is \(3,\); allowed: \(\) or \(6,\)'),
        ({'carry': 0, 'restarts': 2}, 'restarts is 2 with a carry'),
    ],
)
def test_bad_arguments_are_refused(change, message):
    arguments = {'eps': 0.1, 'rng': jax.random.key(0), 'steps': 1, 'step_size': 0.1} | change
    with pytest.raises(ValueError, match=message):
        attacks.pgd(LINEAR, INSIDE, LABELS, arguments.pop('eps'), **arguments)


@pytest.mark.parametrize(('decay', 'end'), [(2.0, 0.7), (0.5, 0.5)])
def test_momentum_carries_over_a_turn_of_the_gradient_as_its_decay_says(decay, end):
    """The objective rises up to 0.55 and falls beyond; from 0.5 by 0.1 to 0.6, then on with momentum 2, back with 1/2."""
    image, label = jnp.full((1, 1, 1, 1), 0.5), jnp.zeros(1, jnp.int32)
    adversarial = attacks.momentum_iterative(
        lambda x: x.reshape(1, 1),
        image,
        label,
        0.4,
        steps=2,
        step_size=0.1,
        decay=decay,
        objective=lambda logits, _: -jnp.abs(logits[:, 0] - 0.55),
    )
    assert adversarial.item() == pytest.approx(end, abs=1e-6)


def test_a_restart_that_fools_the_model_is_kept_over_one_of_higher_objective():
    """Right above 1/2, wrong below, and an objective that is higher above: without steps, each start stays where it is."""
    images = jnp.full((20, 1, 1, 1), 0.5)

    def logits_fn(x):
        return jnp.stack([x.reshape(-1) - 0.5, jnp.zeros(len(x))], axis=1)

    def last(restarts):
        options = {'rng': jax.random.key(0), 'steps': 0, 'step_size': 0.1, 'objective': lambda z, _: z[:, 0]}
        return attacks.pgd(logits_fn, images, jnp.zeros(20, jnp.int32), 0.1, restarts=restarts, **options)

    assert (last(1) > 0.5).any()
    assert (last(16) < 0.5).all()


def test_rand_fgsm_is_a_random_step_and_then_fgsm_of_the_rest():
    """On a linear model the second step is known; where the two disagree in sign the length is eps - 2 alpha."""
    found = np.asarray(attacks.rand_fgsm(LINEAR, INSIDE, LABELS, 0.1, rng=jax.random.key(4), alpha=0.03))
    second = -0.07 * SIGN[:, None] * np.sign(W)[None]
    first = (found - np.asarray(INSIDE)).reshape(6, -1) - second
    np.testing.assert_allclose(np.abs(first), 0.03, atol=1e-6)
    assert 0.3 < (first > 0).mean() < 0.7
    own = jnp.asarray([0.0, 0.01, 0.1, 0.2, 0.1, 0.05])
    half = attacks.rand_fgsm(LINEAR, INSIDE, LABELS, own, rng=jax.random.key(4))  # alpha is eps / 2
    attacks.check_adversarial(half, INSIDE, own)
    np.testing.assert_array_equal(half[0], INSIDE[0])
    size = np.abs(np.asarray(half - INSIDE)).reshape(6, -1)
    np.testing.assert_allclose(np.minimum(size, np.abs(size - own[:, None])), 0, atol=1e-6)  # 0 or eps
    with pytest.raises(ValueError, match=r'alpha is 0.2; allowed: 0..0.1, which is eps'):
        attacks.rand_fgsm(LINEAR, INSIDE, LABELS, 0.1, rng=jax.random.key(4), alpha=0.2)
