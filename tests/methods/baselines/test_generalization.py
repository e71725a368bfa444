"""The aggregate and the multi-headed baseline of domain generalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import methods
from gjax.evaluators.robust import RobustEvaluation
from gjax.losses import cross_entropy
from gjax.methods.core.generalization import PLAYER
from gjax.train.store.checkpoint import to_arrays
from tests.methods.test_dmg import BATCH, INFO, KEY, build
from tests.states import assert_equal
from tests.train.store.test_weights import _torch_resnet

HEAD = 'last'  # of `Toy`


def _state(method):
    return jax.jit(method.init)(jax.random.key(0), BATCH)


def _outputs(method, state, images):
    return method.apply(PLAYER, state.params[PLAYER], state.batch_stats[PLAYER], images, train=True)[0]


def test_the_aggregate_step_is_that_of_supervised_training():
    """`supervised` measures robustness; its steps on pooled sources are the same."""
    aggregate = build('aggregate')
    supervised = methods.find('supervised')(aggregate.net, aggregate.optimizer, INFO, RobustEvaluation())
    state = _state(aggregate)
    found, expected = (jax.jit(method.step)(state, BATCH) for method in (aggregate, supervised))
    assert_equal(found[0].params, expected[0].params)
    loss = cross_entropy(_outputs(aggregate, state, BATCH['image']), BATCH['label']).mean()
    assert float(found[1]['loss/classifier']) == pytest.approx(float(loss), rel=1e-5)


def test_heads_are_layers_of_their_own():
    """Each example is judged by its domain's; a head learns from its own domain alone, the trunk from all."""
    method = build('multi_head')
    state = _state(method)
    kernel = state.params[PLAYER][HEAD]['kernel']
    assert kernel.shape == (5, 9)
    outputs = np.asarray(_outputs(method, state, BATCH['image'])).reshape(6, 3, 3)
    own = outputs[np.arange(6), np.asarray(BATCH['domain'])]
    loss = float(cross_entropy(jnp.asarray(own), BATCH['label']).mean())
    after, metrics = jax.jit(method.step)(state, BATCH)
    assert float(metrics['loss/classifier']) == pytest.approx(loss, rel=1e-5)
    moved = np.abs(after.params[PLAYER][HEAD]['kernel'] - kernel).max(axis=0).reshape(3, 3).max(axis=1)
    assert (moved[:2] > 0).all()
    assert moved[2] == 0  # no example of the third domain
    every = method.every_logits(state, BATCH['image'], rng=KEY)
    np.testing.assert_array_equal(method.own_logits(state, BATCH, rng=KEY), every[BATCH['domain'], np.arange(6)])
    np.testing.assert_allclose(method.unseen_logits(state, BATCH['image'], rng=KEY)[0], every.mean(0), rtol=1e-6)
    assert np.abs(every[0] - every[1]).max() > 0.01


def test_tied_heads_are_the_aggregate():
    tied, aggregate = build('multi_head', tied=True), build('aggregate')
    state = _state(tied)
    assert_equal(state, _state(aggregate))
    found, expected = (jax.jit(method.step)(state, BATCH)[0] for method in (tied, aggregate))
    for name, value in to_arrays(expected).items():
        np.testing.assert_allclose(to_arrays(found)[name], value, rtol=1e-5, atol=1e-7, err_msg=name)
    for logits in tied.every_logits(found, BATCH['image'], rng=KEY):
        np.testing.assert_allclose(logits, aggregate.own_logits(found, BATCH, rng=KEY), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['aggregate', 'multi_head', 'dmg'])
def test_weights_of_torchvision_go_into_all_layers_but_the_last(name):
    torch = pytest.importorskip('torch')
    arrays = {key: value.numpy() for key, value in _torch_resnet(torch, (1, 1), 8, 10, basic=True).state_dict().items()}
    config = {
        'method': {'name': name},
        'net': {'name': 'resnet18', 'blocks': (1, 1), 'width': 8},
        'optimizer': {},
        'evaluation': {},
    }
    method = methods.build(config, INFO)
    images = {'image': jnp.zeros((2, 32, 32, 3))}
    before = method.init(jax.random.key(0), images)
    after = method.with_weights(before, arrays)
    assert jax.tree.map(jnp.shape, after.params) == jax.tree.map(jnp.shape, before.params)
    np.testing.assert_array_equal(after.params[PLAYER]['Dense_0']['kernel'], before.params[PLAYER]['Dense_0']['kernel'])
    np.testing.assert_array_equal(after.params[PLAYER]['Conv_0']['kernel'], arrays['conv1.weight'].transpose(2, 3, 1, 0))
    with pytest.raises(ValueError, match='these are not the weights of this ResNet'):
        method.with_weights(before, {'fc.bias': arrays['fc.bias']})
