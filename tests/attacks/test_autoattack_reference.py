"""AutoAttack and each of its attacks beside the authors' code (pyautoattack), on the network of digits_cnn.py."""

import functools

import jax
import numpy as np
import pytest

from gjax import attacks
from gjax.losses import correct
from tests.attacks import digits_cnn
from tests.attacks.digits_cnn import EPS, NAMES, SEEDS

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings('ignore')]


@functools.cache
def _own(name: str, norm: str) -> np.ndarray:
    """Which images stand under one attack alone, bool [seeds, 500]."""
    logits_fn = digits_cnn.network()
    images, labels = digits_cnn.examples()

    @jax.jit
    def stand(key):
        found = getattr(attacks, name)(logits_fn, images, labels, EPS[norm], rng=key, norm=norm)
        return correct(logits_fn(found), labels)

    seeds = 1 if name == 'fab_targeted' else SEEDS
    return np.stack([np.asarray(stand(jax.random.key(seed))) for seed in range(seeds)])


@pytest.mark.parametrize('norm', EPS)
@pytest.mark.parametrize('name', NAMES)
def test_each_attack_alone_is_within_a_point(name, norm):
    own, reference = _own(name, norm), digits_cnn.reference()[norm, name]
    assert abs(own.mean() - reference.mean()) <= 0.01
    assert 0.3 < reference.mean() < 0.75


@pytest.mark.parametrize('norm', EPS)
def test_robust_accuracy_is_within_half_a_point(norm):
    """Under the four attacks of the standard version, whose order changes nothing but the time: the mean over the seeds."""
    standard = ('apgd_ce', 'apgd_targeted', 'fab_targeted', 'square')
    reference = digits_cnn.reference()
    own, theirs = (
        np.mean(np.logical_and.reduce([of(name) for name in standard]))
        for of in (
            lambda name: np.broadcast_to(_own(name, norm), (SEEDS, 500)),
            lambda name: np.broadcast_to(reference[norm, name], (SEEDS, 500)),
        )
    )
    assert abs(own - theirs) <= 0.005
    images, labels = digits_cnn.examples()
    whole = attacks.autoattack(digits_cnn.network(), images, labels, EPS[norm], rng=jax.random.key(0), norm=norm)
    assert abs(whole.accuracies[-1] - theirs) <= 0.005


@pytest.mark.parametrize('norm', EPS)
@pytest.mark.parametrize('name', ['apgd_ce', 'apgd_dlr'])
def test_the_reference_is_what_the_authors_code_gives(name, norm):
    """On a hundred images, by the attacks that take a second."""
    pytest.importorskip('torch', reason='torch is not installed: pip install torch', exc_type=ImportError)
    pytest.importorskip('torchattacks', reason='pip install --no-deps torchattacks', exc_type=ImportError)
    pytest.importorskip('pyautoattack', reason='pip install --no-deps pyautoattack', exc_type=ImportError)
    again = digits_cnn.standing(name, norm, 0, 100)
    assert abs(again.mean() - digits_cnn.reference()[norm, name][:, :100].mean()) <= 0.02
