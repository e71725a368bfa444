"""BPDA, expectations and unrolled loops against derivatives that are known or computed step by step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import attacks

RNG = np.random.default_rng(4)
INPUTS = jnp.asarray(RNG.uniform(size=(3, 4)), jnp.float32)
WEIGHTS = jnp.asarray(RNG.normal(size=(4, 2)), jnp.float32)


def test_bpda_is_the_forward_function_with_the_derivative_of_the_other():
    function = attacks.bpda(lambda x: jnp.round(4 * x) / 4, jnp.sin)
    np.testing.assert_array_equal(function(INPUTS), jnp.round(4 * INPUTS) / 4)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(function(x) ** 2)))(INPUTS)
    np.testing.assert_allclose(gradient, 2 * (jnp.round(4 * INPUTS) / 4) * jnp.cos(INPUTS), rtol=1e-6)


def test_bpda_passes_gradients_on_by_default_and_takes_a_key():
    function = attacks.bpda(lambda x, rng: jnp.floor(x + jax.random.uniform(rng, x.shape)))
    gradient = jax.grad(lambda x: jnp.sum(function(x, jax.random.key(0)) * 3))(INPUTS)
    np.testing.assert_array_equal(gradient, jnp.full_like(INPUTS, 3))
    assert set(np.unique(function(INPUTS, jax.random.key(1)))) == {0.0, 1.0}


def test_bpda_takes_code_that_is_not_jax_into_an_attack():
    """A step that JAX cannot differentiate stops every gradient attack; with the identity as its derivative none."""
    labels = np.asarray(INPUTS @ WEIGHTS).argmax(axis=1)

    def quantised(x):
        return jax.pure_callback(lambda v: np.round(np.asarray(v) * 64) / np.float32(64), x, x)

    through = attacks.bpda(quantised)
    options = {'rng': jax.random.key(0), 'steps': 8, 'step_size': 0.1}
    found = attacks.pgd(lambda x: through(x) @ WEIGHTS, INPUTS, labels, 0.4, **options)
    plain = attacks.pgd(lambda x: x @ WEIGHTS, INPUTS, labels, 0.4, **options)
    np.testing.assert_allclose(found, plain, atol=1e-6)


def test_bpda_refuses_a_substitute_of_another_form():
    function = attacks.bpda(lambda x: x, lambda x: x[:, :2])
    with pytest.raises(ValueError, match=r"backward gives \(\(3, 2\), 'float32'\); allowed: \(\(3, 4\), 'float32'\)"):
        jax.grad(lambda x: jnp.sum(function(x)))(INPUTS)


def random_logits(images, rng):
    return jnp.tanh(images + jax.random.normal(rng, images.shape)) @ WEIGHTS


def test_the_expectation_is_the_mean_over_draws_and_so_is_its_gradient():
    rng = jax.random.key(5)
    fixed = partial(attacks.expectation(random_logits, 3), rng=rng)
    each = [random_logits(INPUTS, own) for own in jax.random.split(rng, 3)]
    np.testing.assert_allclose(fixed(INPUTS), sum(each) / 3, atol=1e-6)
    gradient = jax.grad(lambda x: jnp.sum(fixed(x)[:, 0]))(INPUTS)
    parts = [jax.grad(lambda x, own=own: jnp.sum(random_logits(x, own)[:, 0]))(INPUTS) for own in jax.random.split(rng, 3)]
    np.testing.assert_allclose(gradient, sum(parts) / 3, atol=1e-6)
    np.testing.assert_array_equal(fixed(INPUTS), fixed(INPUTS))
    with pytest.raises(ValueError, match='draws is 0; allowed: > 0'):
        attacks.expectation(random_logits, 0)


def test_pgd_carries_a_key_for_fresh_draws():
    expected = attacks.expectation(random_logits, 2)

    def fresh(images, rng):
        rng, own = jax.random.split(rng)
        return expected(images, rng=own), rng

    options = {'rng': jax.random.key(0), 'steps': 3, 'step_size': 0.05, 'carry': jax.random.key(1)}
    found, last = attacks.pgd(fresh, INPUTS, np.zeros(3, np.int32), 0.1, **options)
    attacks.check_adversarial(found, INPUTS, 0.1)
    key = jax.random.key(1)
    for _ in range(3):
        key = jax.random.split(key)[0]
    assert last == key


def descent(latents, i, images):
    """One step down |z W' - x|^2 with a falling rate."""
    rate = 0.1 / (1 + jnp.asarray(i, jnp.float32))
    return latents - rate * (latents @ WEIGHTS.T - images) @ WEIGHTS


def test_the_gradient_through_an_unrolled_loop_is_that_of_its_steps_written_out():
    start = jnp.zeros((3, 2))

    def by_hand(start, images):
        for i in range(5):
            start = descent(start, i, images)
        return jnp.sum(jnp.sin(start))

    def by_loop(start, images):
        return jnp.sum(jnp.sin(attacks.unrolled(descent, 5)(start, images)))

    assert by_loop(start, INPUTS) == pytest.approx(float(by_hand(start, INPUTS)), rel=1e-6)
    found, wanted = (jax.grad(function, argnums=(0, 1))(start, INPUTS) for function in (by_loop, by_hand))
    for mine, truth in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, truth, atol=1e-6)
    assert np.abs(found[1]).min() > 1e-4
    np.testing.assert_array_equal(attacks.unrolled(descent, 0)(start, INPUTS), start)
