"""Clean and robust accuracy: what counts as robust, which attacks decide, and what they are called."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import attacks
from gjax.evaluators import END, LOG
from gjax.evaluators.robust import RobustEvaluation, curve_by_radius, final_accuracy, quick_accuracy, robust_accuracy
from tests.train.looks import TinyRun, dataset, levels


def odd(images):
    """Two-class logits that are wrong for label 1 at exactly 1/2 and right elsewhere; no gradient."""
    score = jnp.where(images.mean(axis=(1, 2, 3)) == 0.5, -1.0, 1.0)
    return jnp.stack([jnp.zeros_like(score), score], axis=1)


def test_an_image_that_is_wrong_without_attack_is_not_robust():
    batch = {'image': jnp.full((4, 2, 2, 1), 0.5), 'label': jnp.ones(4, jnp.int32)}
    for measure in (quick_accuracy, final_accuracy):
        results = measure(odd, batch, RobustEvaluation(), rng=jax.random.key(1))
        np.testing.assert_array_equal(results['clean_accuracy'], 0)
        np.testing.assert_array_equal(results['robust_accuracy'], 0)


def test_the_final_attacks_are_those_of_the_config(monkeypatch):
    called = {}
    for name in ('pgd', 'margin_pgd', 'momentum_iterative'):
        monkeypatch.setattr(attacks, name, lambda *a, name=name, **options: called.__setitem__(name, (a[3], options)))
    test = RobustEvaluation(
        eps=0.2, steps=7, restarts=3, step_size=0.05, attacks=('pgd', 'margin_pgd', 'momentum_iterative')
    )
    for function in test.functions():
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
        eps=0.06, steps=4, restarts=1, step_size=0.06, quick_steps=3, curve=(0.0, 0.03, 0.1), curve_steps=3
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
    found = final(look.state, look).metrics
    expected = {f'accuracy_at_{eps:.4f}': pytest.approx((margin > eps).mean()) for eps in test.curve}
    expected['clean_accuracy'] = pytest.approx((margin > 0).mean())
    expected['robust_accuracy'] = pytest.approx((margin > test.eps).mean())
    assert found == expected  # the validation split has none


def test_what_the_numbers_are_called():
    test = RobustEvaluation(eps=8 / 255, steps=50, restarts=5, attacks=('pgd', 'margin_pgd'), curve=(0.01, 0.02))
    assert (
        test.protocol() == 'worst case of pgd and margin pgd: 50 steps of 0.007843, 5 starts, linf 8/255, curve of 20 steps'
    )
    assert RobustEvaluation(norm='l2', eps=0.5, steps=9, restarts=1).protocol() == (
        'worst case of pgd: 9 steps of 0.007843, 1 starts, l2 0.5'
    )
    assert robust_accuracy(above, test)[1].protocol == test.protocol()
    found = curve_by_radius(test, {'accuracy_curve': [0.5, 0.25], 'clean_accuracy': 1.0})
    assert found == {'accuracy_at_0.0100': 0.5, 'accuracy_at_0.0200': 0.25, 'clean_accuracy': 1.0}
