"""Accuracy on sources and unseen sets, by parts of other sources, against counting; two rules for a mean."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from gjax.evaluators.generalization import UnseenAccuracy, accuracy_by_part, combined, in_domain_accuracy
from gjax.methods.core.contract import DataInfo
from tests.train.looks import TinyRun, dataset


class _Run(TinyRun):
    """Two sources and an unseen set with a validation split."""

    def __init__(self):
        sets = {'a': dataset('a', 0, 11, 6, 5), 'b': dataset('b', 30, 7, 9), 'c': dataset('c', 60, 10, 7, 4)}
        super().__init__(sets, ('a', 'b'))
        self.info = DataInfo(3, 18, 5, 10, (1, 1, 1), domains=('a', 'b'), unseen=('c',))


@pytest.fixture(scope='module')
def run():
    return _Run()


def _logits(images, number):
    """Of the part of source 0 or 1: three classes by the image's level, in a way of its own."""
    level = 255 * images[:, 0, 0, 0]
    shift = 1.0 + 2.0 * number
    return jnp.stack([jnp.sin(shift * level), jnp.cos(0.7 * level + shift), jnp.sin(0.3 * level)], axis=1)


def _every(state, images, *, rng):
    return jnp.stack([_logits(images, number) for number in range(2)])


def _own(state, batch, *, rng):
    every = _every(state, batch['image'], rng=rng)
    return jnp.where(batch['domain'][:, None] == 0, every[0], every[1])


def _counted(run, name, split):
    """(right by each source's part [N, 2], logits [2, N, 3], labels) of a split."""
    records = run.datasets[name].splits[split]
    every = np.asarray(_every(None, jnp.asarray(records.images, jnp.float32) / 255, rng=None))
    return (every.argmax(-1) == records.labels).T, every, records.labels


def test_in_domain_accuracy_is_that_of_own_parts(run):
    found = in_domain_accuracy(_own, ('a', 'b'), 'own mask')(jnp.float32(0), run.look(jnp.float32(0))).metrics
    own = {name: _counted(run, name, 'test')[0][:, number].mean() for number, name in enumerate(('a', 'b'))}
    assert found['a_accuracy'] == pytest.approx(own['a'])
    assert found['b_accuracy'] == pytest.approx(own['b'])
    assert found['in_domain_accuracy'] == pytest.approx((own['a'] + own['b']) / 2)
    assert found['validation_in_domain_accuracy'] == pytest.approx(_counted(run, 'a', 'validation')[0][:, 0].mean())
    assert 'c_accuracy' not in found
    evaluator = in_domain_accuracy(_own, ('a', 'b'), 'own mask')
    assert evaluator.protocol == 'own mask'
    assert evaluator.protocol_of('in_domain_accuracy') == ''


def test_accuracy_with_each_part_and_with_the_wrong_ones(run):
    evaluator = accuracy_by_part(_every, ('a', 'b'), 'mask', 'greedy')
    found = evaluator(jnp.float32(0), run.look(jnp.float32(0), 'end')).metrics
    right = {name: _counted(run, name, 'test')[0].mean(axis=0) for name in ('a', 'b')}
    expected = {f'{name}_accuracy_with_{s}': right[name][i] for name in right for i, s in enumerate(('a', 'b'))}
    expected['wrong_mask_accuracy'] = (right['a'][1] + right['b'][0]) / 2
    assert found == pytest.approx(expected)
    assert evaluator.protocol_of('wrong_mask_accuracy') == 'greedy'


def test_an_unseen_set_is_scored_on_all_of_its_images(run):
    def predict(state, images, *, rng):
        every = _every(state, images, rng=rng)
        return every.mean(0), every

    evaluator = UnseenAccuracy(predict, ('c',), ('a', 'b'), 'softscale')
    found = evaluator(jnp.float32(0), run.look(jnp.float32(0))).metrics
    parts = [_counted(run, 'c', split) for split in ('train', 'validation', 'test')]
    right, every = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts], axis=1)
    labels = np.concatenate([part[2] for part in parts])
    assert len(labels) == 21
    expected = {
        'out_of_domain_accuracy': (every.mean(0).argmax(-1) == labels).mean(),
        'c_accuracy_with_a': right[:, 0].mean(),
        'c_accuracy_with_b': right[:, 1].mean(),
    }
    probabilities = np.exp(every) / np.exp(every).sum(-1, keepdims=True)
    confident, entropy = probabilities.max(-1), -(probabilities * np.log(probabilities)).sum(-1)
    expected['c_most_confident_a'] = (confident.argmax(0) == 0).mean()
    expected['c_lowest_entropy_b'] = (entropy.argmin(0) == 1).mean()
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found['c_accuracy'] == found['out_of_domain_accuracy']
    assert found['c_most_confident_a'] + found['c_most_confident_b'] == pytest.approx(1)
    # Methods are compared by this metric: what is a matter of the method is no part of the metric's protocol.
    assert evaluator.protocol.endswith('of every split; softscale')
    assert evaluator.protocol_of('c_accuracy') == UnseenAccuracy(predict, (), ()).protocol_of('c_accuracy')
    alone = UnseenAccuracy(lambda *args, rng: (predict(*args, rng=rng)[0], None), ('c',), ('a', 'b'))
    assert set(alone(jnp.float32(0), run.look(jnp.float32(0))).metrics) == {'c_accuracy', 'c_loss', 'out_of_domain_accuracy'}


def test_without_labels_or_unseen_sets_there_is_nothing(run):
    bare = SimpleNamespace(has=lambda name, *fields: False)
    assert UnseenAccuracy(_every, ('c',), ('a', 'b'))(None, bare).metrics == {}
    assert UnseenAccuracy(_every, (), ('a', 'b'))(None, run.look(jnp.float32(0))).metrics == {}


def test_the_mean_of_logits_and_that_of_probabilities_are_two_rules():
    """Sheet, section 6.8: one domain that is sure of class 0, two that lean to class 1."""
    every = jnp.asarray([[[4.0, 0.0]], [[0.0, 2.0]], [[0.0, 1.5]]])
    by_logits, by_probabilities = (combined(every, how) for how in ('logits', 'probabilities'))
    np.testing.assert_allclose(by_logits, [[4 / 3, 3.5 / 3]], rtol=1e-6)
    np.testing.assert_allclose(np.exp(by_probabilities), [[0.428, 0.572]], atol=5e-4)
    # A constant added to one domain's logits changes neither decision.
    moved = every.at[1].add(7.0)
    for how, before in (('logits', by_logits), ('probabilities', by_probabilities)):
        after = combined(moved, how)
        np.testing.assert_allclose(after[:, 0] - after[:, 1], before[:, 0] - before[:, 1], rtol=1e-5)
    with pytest.raises(ValueError, match="combine is 'votes'; allowed: logits, probabilities"):
        combined(every, 'votes')
