"""A warning for each fault of a model that was built to have it, none for a sound one, and the audit of images."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import attacks
from gjax.attacks.diagnosis import half_range, loop_warnings, loops, output_warnings

RNG = np.random.default_rng(3)
WEIGHTS = jnp.asarray(RNG.normal(size=(8, 3)), jnp.float32)
IMAGES = RNG.uniform(size=(30, 2, 4, 1)).astype(np.float32)


def sound(images):
    return 8 * (images - 0.5).reshape(len(images), -1) @ WEIGHTS


LABELS = np.asarray(sound(jnp.asarray(IMAGES))).argmax(axis=1)


def diagnosed(logits_fn, norm='linf', eps=0.05):
    return attacks.diagnose(logits_fn, IMAGES, LABELS, eps, rng=jax.random.key(0), norm=norm)


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_a_sound_model_raises_no_warning(norm):
    assert diagnosed(sound, norm) == []


def test_gradients_that_are_exactly_zero_and_black_boxes_that_find_more():
    """Rounding hides the gradient, as many saturating updates do in Defense-GAN; ten draws of noise then find more than the
    one that a gradient attack starts from, and so does a search."""
    found = diagnosed(lambda images: sound(jnp.round(images * 16) / 16), eps=0.2)
    right = int((np.asarray(sound(jnp.round(IMAGES * 16) / 16)).argmax(axis=1) == LABELS).sum())
    assert found[0].startswith(f'the gradient of the loss by the image is exactly zero for {right} of {right} images')
    for warning, name in zip(found[1:], ('10 draws of random noise', 'the Square attack'), strict=False):
        assert warning.startswith(f'of {right} images that the model gets right {name}')
        fooled, by_gradient = (
            int(text) for text in re.findall(r' fools? (\d+), a gradient attack of 20 steps (\d+):', warning)[0]
        )
        assert fooled > by_gradient
    assert len(found) >= 3


def test_accuracy_where_every_image_can_become_the_same():
    """A gradient that points the wrong way."""

    def hidden(images):
        return sound(images + 2 * (jax.lax.stop_gradient(images) - images))

    (found,) = (warning for warning in diagnosed(hidden) if 'every image' in warning)
    assert 'accuracy is 1.000 under a gradient attack of radius 0.5' in found
    assert f'at most {np.bincount(LABELS).max() / 30:.3f}, by chance' in found


class Random:
    """Logits with fresh noise in every pass, of which JAX's compiled programs see what they ask for at run time."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def noise(self, shape):
        return self.rng.normal(size=shape).astype(np.float32)

    def __call__(self, images):
        form = jax.ShapeDtypeStruct((len(images), 3), jnp.float32)
        noise = jax.pure_callback(lambda _: self.noise(form.shape), form, jax.lax.stop_gradient(images)[:, 0, 0, 0])
        return sound(images) + 3 * noise


def test_random_outputs_and_success_at_radius_zero():
    found = diagnosed(Random())
    assert any(text.startswith('two passes over the same images differ by up to') for text in found)
    assert any(text.startswith('an attack of radius 0 fools ') for text in found)


def test_two_passes_of_a_model_that_is_random_when_it_is_traced():
    rng, once = np.random.default_rng(1), sound(IMAGES)
    (found,) = output_warnings(once, once + 0.1 * rng.normal())
    assert found.startswith('two passes over the same images differ by up to')
    assert output_warnings(once, once * (1 + 1e-6)) == []


def test_probabilities():
    (found,) = output_warnings(jax.nn.softmax(sound(IMAGES)))
    assert found.startswith('the outputs are probabilities: the rows of all 30 images lie in 0..1 and sum to 1')
    assert output_warnings(jax.nn.sigmoid(sound(IMAGES))) == []


def test_loops_inside_the_model():
    def projected(images):
        return sound(jax.lax.fori_loop(0, 7, lambda _, x: x - 0.01 * (x - 0.5), images))

    (found,) = loop_warnings(loops(projected, IMAGES))
    assert found.startswith('the model runs 1 loop (scan of 7 rounds): ')
    nested = jax.jit(lambda x: jax.lax.while_loop(lambda s: s.sum() < 9, jax.vmap(lambda v: v + 1), x))
    assert loops(nested, jax.ShapeDtypeStruct((3,), jnp.float32)) == ['while']
    assert loop_warnings(loops(lambda x: jax.lax.scan(lambda c, v: (c + v, None), x[0], x[:1])[0], np.ones(3))) == []


def test_half_the_range():
    assert half_range((2, 2, 1), bounds=(-1.0, 1.0)) == 1.0
    assert half_range((2, 2, 1), norm='l2') == pytest.approx(np.linalg.norm(np.full(4, 0.5)))


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_the_audit_knows_ball_bounds_and_finite_numbers(norm):
    clean = np.full((5, 3, 1), 0.5, np.float32)
    step = 0.1 / (1 if norm == 'linf' else 3**0.5)
    found = clean + step
    found[1, 0] += 1e-3  # leaves the ball
    found[2, 0] = np.nan
    np.testing.assert_array_equal(attacks.audit(found, clean, 0.1, norm=norm), [True, False, False, True, True])
    clean[3:] = [[[0.95]], [[0.0]]]
    found[3], found[4] = clean[3] + step, clean[4] - step  # leave the bounds
    np.testing.assert_array_equal(attacks.audit(found, clean, 0.1, norm=norm), [True, False, False, False, False])
    own = np.asarray([0.05, 0.2, 0.1, 0.1, 0.1], np.float32)
    np.testing.assert_array_equal(attacks.audit(found, clean, own, norm=norm), [False, True, False, False, False])
    with pytest.raises(ValueError, match=r'^4 of 5 adversarial images, the first at 1, are not finite, outside 0\.\.1 or'):
        attacks.check_adversarial(found, clean, 0.1, norm=norm)
    attacks.check_adversarial(found[:1], clean[:1], 0.1, norm=norm)
