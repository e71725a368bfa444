"""Clean and robust accuracy: what counts as robust, which attacks decide, and what they are called."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import attacks
from gjax.evaluators import END, LOG
from gjax.evaluators.robust import ATTACKS, RobustEvaluation, concluded, final_accuracy, quick_accuracy, robust_accuracy
from gjax.methods.core.contract import Role
from gjax.train.devices import data_mesh
from gjax.train.feeds import Resident, make_pools
from tests.train.looks import TinyRun, dataset, levels


def odd(images):
    """Two-class logits that are wrong for label 1 at exactly 1/2 and right elsewhere; no gradient."""
    score = jnp.where(images.mean(axis=(1, 2, 3)) == 0.5, -1.0, 1.0)
    return jnp.stack([jnp.zeros_like(score), score], axis=1)


def test_an_image_that_is_wrong_without_attack_is_not_robust():
    batch = {'image': jnp.full((4, 2, 2, 1), 0.5), 'label': jnp.ones(4, jnp.int32)}
    for measure in (quick_accuracy, final_accuracy):
        results = measure(odd, batch, RobustEvaluation(attacks=('pgd',)), rng=jax.random.key(1))
        np.testing.assert_array_equal(results['clean_accuracy'], 0)
        np.testing.assert_array_equal(results['robust_accuracy'], 0)


def test_the_final_attacks_are_those_of_the_config(monkeypatch):
    called = {}
    for name in ('pgd', 'margin_pgd', 'momentum_iterative'):
        monkeypatch.setattr(attacks, name, lambda *a, name=name, **options: called.__setitem__(name, (a[3], options)))
    test = RobustEvaluation(
        eps=0.2, steps=7, restarts=3, step_size=0.05, attacks=('pgd', 'margin_pgd', 'momentum_iterative')
    )
    for function in test.functions().values():
        function(None, None, None, 'rng')
    pgd = {'rng': 'rng', 'steps': 7, 'restarts': 3, 'step_size': 0.05, 'norm': 'linf'}
    assert called['pgd'] == called['margin_pgd'] == (0.2, pgd)
    assert called['momentum_iterative'] == (0.2, {'steps': 7, 'step_size': 0.2 / 7})


def above(state, images):
    """Logits that say 1 for images above the threshold `state`."""
    level = images.mean(axis=(1, 2, 3))
    return jnp.stack([jnp.zeros_like(level), 50 * (level - state)], axis=1)


def test_accuracy_at_every_radius_is_that_of_counting_margins():
    """An image survives an attack if its level is further from the threshold than the radius, on the right side."""
    test = RobustEvaluation(
        eps=0.06,
        steps=4,
        restarts=1,
        step_size=0.06,
        attacks=('pgd', 'multi_targeted'),
        target_steps=4,
        quick_steps=3,
        curve=(0.0, 0.03, 0.1),
        curve_steps=3,
    )
    source = dataset('source', 0, test=90, validation=7)
    source.test.columns['label'][:] = np.arange(90) >= 40  # of the levels 11 to 100, those from 51 on are called 1
    run = TinyRun({'source': source}, ('source',))
    look = run.look(jnp.float32(55.25 / 255), 'log')
    level, label = levels(run, 'source', 'test'), source.test.labels
    margin = np.where(label == 1, 1, -1) * (level - np.float32(55.25 / 255))
    quick, final = robust_accuracy(above, test)
    assert (quick.when, final.when) == (LOG, END)
    found = quick(look.state, look).metrics
    assert found['clean_accuracy'] == pytest.approx((margin > 0).mean())
    assert found['robust_accuracy'] == pytest.approx((margin > test.eps).mean())
    assert 0.1 < found['robust_accuracy'] < found['clean_accuracy'] < 1
    assert found.keys() >= {'validation_clean_accuracy', 'validation_robust_accuracy'}
    found, _, warned = final(look.state, look)
    assert warned == ()
    expected = {f'accuracy_at_{eps:.4f}': pytest.approx((margin > eps).mean()) for eps in test.curve}
    expected['clean_accuracy'] = pytest.approx((margin > 0).mean())
    for name in ('', '_pgd', '_multi_targeted'):
        expected[f'robust_accuracy{name}'] = pytest.approx((margin > test.eps).mean())
    assert found == expected  # the validation split has none


def test_what_the_numbers_are_called():
    test = RobustEvaluation(eps=8 / 255, steps=50, restarts=5, attacks=('pgd', 'margin_pgd'), curve=(0.01, 0.02))
    assert (
        test.protocol() == 'worst case of pgd and margin pgd: 50 steps of 0.007843, 5 starts, linf 8/255, curve of 20 steps'
    )
    assert RobustEvaluation(norm='l2', eps=0.5, steps=9, restarts=1, attacks=('pgd',)).protocol() == (
        'worst case of pgd: 9 steps of 0.007843, 1 starts, l2 0.5'
    )
    final = robust_accuracy(above, RobustEvaluation())[1]
    every = (
        'worst case of pgd and margin pgd: 50 steps of 0.007843, 5 starts, '
        'multi targeted: 30 steps for each of 9 classes, linf 8/255'
    )
    assert final.protocol == final.protocol_of('source_robust_accuracy') == every
    alone = 'margin pgd: 50 steps of 0.007843, 5 starts, linf 8/255'
    assert final.protocol_of('source_robust_accuracy_margin_pgd') == alone
    assert final.protocol_of('clean_accuracy') == ''
    for norm, names in ATTACKS.items():
        assert all(name.replace('_', ' ') in RobustEvaluation(norm=norm, attacks=names).protocol() for name in names)
    found = concluded(test, {'accuracy_curve': [0.5, 0.25], 'clean_accuracy': 1.0, 'disallowed_pgd': 0.0})
    assert found == {'accuracy_at_0.0100': 0.5, 'accuracy_at_0.0200': 0.25, 'clean_accuracy': 1.0}


def test_options():
    with pytest.raises(ValueError, match=r"evaluation.attacks is \('pgd', 'pgd'\); allowed: each name once"):
        RobustEvaluation(attacks=('pgd', 'pgd'))
    with pytest.raises(ValueError, match=r"evaluation.attacks has 'fgsm'; allowed: pgd, .*, carlini_wagner$"):
        RobustEvaluation(norm='l2', attacks=('fgsm',))


@pytest.mark.slow
@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_every_attack_that_has_a_name_can_be_measured(norm):
    """Nothing runs: the program of all of them is traced."""
    test = RobustEvaluation(norm=norm, attacks=ATTACKS[norm], curve=(0.1,))
    batch = {'image': jnp.zeros((2, 6, 6, 1)), 'label': jnp.zeros(2, jnp.int32)}

    def linear(images):
        return images.reshape(2, -1) @ jnp.ones((36, 5))

    found = jax.eval_shape(lambda: final_accuracy(linear, batch, test, rng=jax.random.key(0)))
    alone = {f'{kind}_{name}' for kind in ('robust_accuracy', 'disallowed') for name in test.attacks if name != 'autoattack'}
    assert found.keys() == {'clean_accuracy', 'robust_accuracy', 'accuracy_curve', *alone}


def test_an_image_beyond_its_radius_is_an_error(monkeypatch):
    monkeypatch.setattr(attacks, 'margin_pgd', lambda logits_fn, images, *inputs, **options: images + 0.1)
    run = TinyRun({'source': dataset('source', 0)}, ('source',))
    look = run.look(jnp.float32(0.5), 'end')
    final = robust_accuracy(above, RobustEvaluation(eps=0.06, attacks=('margin_pgd',)))[1]
    message = (
        r'the attack margin_pgd of evaluation.attacks returned images outside linf 0.06, .* for 100.00% of the test split'
    )
    with pytest.raises(ValueError, match=message):
        final(look.state, look)


def test_what_makes_the_numbers_doubtful_is_told():
    """Levels are rounded, so that no gradient leads to the threshold; all images are right and count as robust."""
    source = dataset('source', 0, test=90)
    source.test.columns['label'][:] = np.arange(90) >= 40
    run = TinyRun({'source': source}, ('source',))
    look = run.look(jnp.float32(50.5 / 255), 'end')

    def rounded(state, images):
        return above(state, jnp.round(images * 255) / 255)

    final = robust_accuracy(rounded, RobustEvaluation(eps=0.01, steps=2, attacks=('fgsm',)))[1]
    found = final(look.state, look)
    assert found.metrics == {'clean_accuracy': 1.0, 'robust_accuracy': 1.0}
    assert found.warnings[0].startswith('the gradient of the loss by the image is exactly zero for 4 of 4 images')
    quiet = RobustEvaluation(eps=0.01, steps=2, attacks=('fgsm',), warnings=False)
    assert robust_accuracy(rounded, quiet)[1](look.state, look).warnings == ()


@pytest.mark.slow
def test_autoattack_follows_the_other_attacks_on_every_set_and_two_devices():
    """A model whose classes are intervals of the level: an image stands if its whole ball lies in the interval."""
    sets = {name: dataset(name, start, test=90) for name, start in (('a', 0), ('b', 5))}
    run = TinyRun(sets, ('a', 'b'))
    run.mesh = data_mesh(jax.devices()[:2])
    run.feed = Resident(sets, make_pools({'': Role(('a', 'b'))}, sets, 2, jax.random.key(0)), run.mesh)
    centres = np.asarray([0.05, 0.2, 0.35, 0.5], np.float32)  # a fourth class, as targeted APGD needs

    def nearest(state, images):
        return -state * (images.mean(axis=(1, 2, 3))[:, None] - centres[None]) ** 2

    look = run.look(jnp.float32(100), 'end')
    final = robust_accuracy(nearest, RobustEvaluation(eps=0.02, attacks=('fgsm', 'autoattack'), warnings=False))[1]
    found = final(look.state, look).metrics
    edges = np.asarray([-1, 0.125, 0.275, 0.425, 2])
    for name in sets:
        level, label = levels(run, name, 'test').astype(np.float64), sets[name].test.labels
        clean, robust = (((level - eps > edges[label]) & (level + eps < edges[label + 1])).mean() for eps in (0, 0.02))
        assert found[f'{name}_clean_accuracy'] == pytest.approx(clean)
        assert found[f'{name}_robust_accuracy'] == pytest.approx(robust)
        assert 0 < robust < clean
        assert found[f'{name}_robust_accuracy_fgsm'] >= found[f'{name}_robust_accuracy']


def test_a_black_box_that_beats_every_gradient_is_told():
    run = TinyRun({'source': dataset('source', 0)}, ('source',))
    final = robust_accuracy(above, RobustEvaluation(attacks=('pgd', 'fgsm', 'square')))[1]
    metrics = {'robust_accuracy_pgd': 0.5, 'robust_accuracy_fgsm': 0.6, 'robust_accuracy_square': 0.25}
    (found,) = final._compared('source', metrics, run.look(None))
    assert found.startswith('the black box Square leaves an accuracy of 0.2500, the strongest gradient attack alone 0.5000')
    assert final._compared('source', metrics | {'robust_accuracy_square': 0.5}, run.look(None)) == []
