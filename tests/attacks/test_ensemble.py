"""AutoAttack's driver: what falls to what, compaction, state files, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import attacks
from gjax.attacks import ensemble

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(36, 5)).astype(np.float32)
IMAGES = RNG.uniform(0.3, 0.7, (23, 6, 6, 1)).astype(np.float32)
KEY = jax.random.key(0)


def _model(images):
    return images.reshape(len(images), -1) @ jnp.asarray(WEIGHTS, images.dtype)


LABELS = np.asarray(_model(IMAGES)).argmax(axis=1)
LABELS[:3] = (LABELS[:3] + 1) % 5  # wrong from the start
_LOGITS = IMAGES.reshape(23, -1) @ WEIGHTS
_DUALS = np.abs(WEIGHTS[:, :, None] - WEIGHTS[:, None]).sum(axis=0)[LABELS]
with np.errstate(divide='ignore', invalid='ignore'):
    DISTANCES = np.nanmin((_LOGITS[np.arange(23), LABELS][:, None] - _LOGITS) / _DUALS, axis=1)  # linf, to the boundary
EPS = float(np.median(DISTANCES[3:])) * 1.001
QUICK = ('apgd_dlr', 'square')
PROGRAMS = {}


def _once(function):
    """Calls on the same model with the same options share their programs."""
    return PROGRAMS.setdefault(function.__name__, jax.jit(function))


def _run(eps=EPS, **options):
    options = {'rng': KEY, 'version': 'custom', 'attacks': QUICK, 'batch_sizes': (16, 4), 'compile': _once} | options
    return attacks.autoattack(_model, IMAGES, LABELS, eps, **options)


@pytest.fixture(scope='module')
def whole():
    return _run()


def test_the_standard_version_is_the_truth_of_a_linear_model():
    """An eps of its own for each image, of 0.9 or 1.1 times its distance; APGD, to whichever class, is enough."""
    eps = DISTANCES * np.where(np.arange(23) % 2, 0.9, 1.1)
    eps[:3] = 0.1
    told = []
    found = _run(eps, version='standard', attacks=None, batch_sizes=(23,), report=lambda *given: told.append(given))
    fallen = np.arange(23) % 2 == 0
    fallen[:3] = False
    np.testing.assert_array_equal(found.fallen_to[:3], -2)
    np.testing.assert_array_equal(np.isin(found.fallen_to, (0, 1)), fallen)
    np.testing.assert_array_equal(found.robust, found.fallen_to == -1)
    assert found.attacks == ('apgd_ce', 'apgd_targeted', 'fab_targeted', 'square')
    assert found.clean_accuracy == pytest.approx(20 / 23)
    after = [np.mean((found.fallen_to == -1) | (found.fallen_to > number)) for number in range(4)]
    assert found.accuracies == pytest.approx(after)
    attacked = [20, *(round(23 * accuracy) for accuracy in after[:3])]
    assert told == [(n, count, count, a) for n, count, a in zip(found.attacks, attacked, found.accuracies, strict=True)]
    delta = np.abs(found.adversarial - IMAGES).max(axis=(1, 2, 3))
    assert (delta <= eps * (1 + 1e-5)).all()
    np.testing.assert_array_equal(delta > 0, fallen)
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1
    wrong = np.asarray(_model(found.adversarial)).argmax(axis=1) != LABELS
    np.testing.assert_array_equal(wrong, ~found.robust)


def test_compaction_changes_nothing(whole):
    np.testing.assert_array_equal(whole.fallen_to == -1, DISTANCES > EPS)
    other = _run(batch_sizes=(23,))
    np.testing.assert_array_equal(other.fallen_to, whole.fallen_to)
    np.testing.assert_allclose(other.adversarial, whole.adversarial, atol=1e-6)


def test_batches_pad_little():
    def sizes(count, allowed):
        return [len(rows) for rows in ensemble.split(np.arange(count), allowed)]

    assert sizes(23, [4, 16]) == [16, 4, 3]
    assert sizes(15, [4, 16]) == [15]
    assert sizes(9, [4, 16]) == [4, 4, 1]
    assert sizes(3, [4, 16]) == [3]
    assert sizes(0, [4, 16]) == []
    assert sizes(600, [64, 256]) == [256, 256, 64, 24]


def test_a_killed_call_goes_on_where_its_state_ends(tmp_path, whole):
    path, told = tmp_path / 'state.npz', []

    def killed(*given):
        told.append(given)
        if given[0] == 'square':
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run(state_file=path, report=killed)
    assert [given[0] for given in told] == ['apgd_dlr', 'apgd_dlr', 'square']
    later = []
    found = _run(state_file=str(path), report=lambda *given: later.append(given))
    assert {given[0] for given in later} == {'square'}
    assert found.accuracies == whole.accuracies
    np.testing.assert_array_equal(found.fallen_to, whole.fallen_to)
    np.testing.assert_array_equal(found.adversarial, whole.adversarial)
    again = _run(state_file=path, report=lambda *given: pytest.fail('nothing is left to do'))
    np.testing.assert_array_equal(again.adversarial, whole.adversarial)
    assert [p.name for p in tmp_path.iterdir()] == ['state.npz']

    for change in ({'eps': EPS * 2}, {'rng': jax.random.key(1)}, {'norm': 'l2'}, {'attacks': QUICK[:1]}):
        with pytest.raises(ValueError, match=r'^state_file is \S+state.npz, of another call; allowed: [^\n]*$'):
            _run(state_file=path, **change)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r'^state_file is \S+state.npz, whose content is no state; allowed: [^\n]*$'):
        _run(state_file=path)


def test_half_precision_and_older_keys(tmp_path):
    images = jnp.asarray(IMAGES, jnp.bfloat16)
    labels = np.asarray(_model(images)).argmax(axis=1)
    options = {'version': 'custom', 'attacks': ['apgd_ce'], 'batch_sizes': [23], 'state_file': tmp_path / 'state.npz'}
    calls = [attacks.autoattack(_model, images, labels, EPS, rng=k, **options) for k in (KEY, jax.random.PRNGKey(0))]
    for found in calls:  # the second one reads the state of the first
        assert found.adversarial.dtype == images.dtype
        assert 0 < found.robust.mean() < 1
        np.testing.assert_array_equal(found.adversarial, calls[0].adversarial)


@pytest.mark.slow
def test_a_random_network_is_given_keys():
    def random(images, key):
        return _model(images) + 1e-3 * jax.random.normal(key, (len(images), 5))

    eps = np.where(np.arange(5) % 2, 0.8, 1.2) * DISTANCES[-5:]
    found = attacks.autoattack(random, IMAGES[-5:], LABELS[-5:], eps, rng=KEY, version='rand', batch_sizes=(5,))
    assert found.attacks == ('apgd_ce', 'apgd_dlr')
    np.testing.assert_array_equal(found.robust, np.arange(5) % 2 == 1)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'version': 'plus', 'attacks': None}, "version is 'plus'; allowed: standard, rand, custom"),
        ({'version': 'standard'}, r'attacks is .* with version standard; allowed: with version custom alone'),
        ({'attacks': ()}, r'attacks is \(\); allowed with version custom: a list of apgd_ce, '),
        ({'attacks': 'square'}, "attacks is 'square'; allowed with version custom: a list"),
        ({'attacks': ('pgd',)}, "attacks has 'pgd'; allowed: apgd_ce, "),
        ({'attacks': ('square', 'square')}, r'attacks is .*; allowed: every name once'),
        ({'norm': 'l1'}, "norm is 'l1'; allowed: linf, l2"),
        ({'rng': 0}, 'rng is 0; allowed: one key'),
        ({'eps': 8}, 'eps is 8; allowed for linf'),
        ({'eps': np.full((23, 1), 0.1)}, r'the shape of eps is \(23, 1\); allowed: \(\) or \(23,\)'),
        ({'batch_sizes': (0,)}, r'batch_sizes is \(0,\); allowed: integers >= 1'),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=f'^{message}'):
        _run(**change)


def test_too_few_classes_are_refused_before_any_attack():
    def three(images):
        return _model(images)[:, :3]

    told = []
    with pytest.raises(ValueError, match=r'^the classes of logits are 3; allowed for apgd_targeted: at least 4'):
        attacks.autoattack(three, IMAGES, LABELS % 3, EPS, rng=KEY, report=lambda *given: told.append(given))
    assert not told
