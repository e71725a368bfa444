"""AutoAttack and each of its attacks beside the authors' code (pyautoattack), on the network of digits_cnn.py."""

import jax
import numpy as np
import pytest

from gjax import attacks
from gjax.attacks import ensemble
from gjax.losses import correct
from tests.attacks import digits_cnn
from tests.attacks.digits_cnn import EPS, NAMES, SEEDS

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings('ignore')]


# The tests' own flags compile small programs in half the time, which then run four times as long.
FAST = {'xla_backend_optimization_level': 2, 'xla_cpu_use_fusion_emitters': True}
OWN_SEEDS = {'apgd_ce': SEEDS, 'apgd_dlr': SEEDS}  # of the others one, for they take a minute or more each


def _standing(name: str, norm: str) -> np.ndarray:
    """Which images stand under one attack alone, bool [seeds, 500]."""
    logits_fn = digits_cnn.network()
    images, labels = digits_cnn.examples()

    def stand(key):
        found = getattr(attacks, name)(logits_fn, images, labels, EPS[norm], rng=key, norm=norm)
        return correct(logits_fn(found), labels)

    program = jax.jit(stand, compiler_options=FAST if jax.default_backend() == 'cpu' else None)
    return np.stack([np.asarray(program(jax.random.key(seed))) for seed in range(OWN_SEEDS.get(name, 1))])


@pytest.mark.parametrize('norm', EPS)
def test_robust_accuracy_is_the_authors(norm):
    """Of each attack alone within a point, and of the standard version's four, whose order changes nothing but the time,
    within half a point; means over the seeds.
    """
    own, together = {name: _standing(name, norm) for name in NAMES}, []
    reference = {name: digits_cnn.reference()[norm, name] for name in NAMES}
    for name in NAMES:
        assert abs(own[name].mean() - reference[name].mean()) <= 0.01, name
        assert 0.3 < reference[name].mean() < 0.75
    for found in (own, reference):
        each = [np.broadcast_to(found[name], (SEEDS, 500)) for name in ensemble.VERSIONS['standard']]
        together.append(np.mean(np.logical_and.reduce(each)))
    assert abs(together[0] - together[1]) <= 0.005


@pytest.mark.parametrize('norm', EPS)
@pytest.mark.parametrize('name', ['apgd_ce', 'apgd_dlr'])
def test_the_reference_is_what_the_authors_code_gives(name, norm):
    """On a hundred images, by the attacks that take a second."""
    pytest.importorskip('torch', reason='torch is not installed: pip install torch', exc_type=ImportError)
    pytest.importorskip('torchattacks', reason='pip install --no-deps torchattacks', exc_type=ImportError)
    pytest.importorskip('pyautoattack', reason='pip install --no-deps pyautoattack', exc_type=ImportError)
    again = digits_cnn.standing(name, norm, 0, 100)
    assert abs(again.mean() - digits_cnn.reference()[norm, name][:, :100].mean()) <= 0.02
