"""Generate To Adapt against the closed forms of its losses, and a step written out once more."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax import methods
from gjax.methods import DataInfo
from gjax.methods.generate_to_adapt import C, D, F, G
from gjax.nets.gta import GTADigits
from gjax.nets.layers import standardize
from tests.adaptation import ToyNet, assert_close, descended, toy_domains, toy_method, trained

DOMAINS = toy_domains(0, 32)
BATCH = {'source': DOMAINS['source'], 'target': {'image': DOMAINS['target']['image']}}


def _method(**options):
    return toy_method('generate_to_adapt', **options)


def _one_step(method, state=None, batch=BATCH):
    state = method.init(jax.random.key(1), batch['source']) if state is None else state
    return state, *jax.jit(method.step)(state, batch)


def _at_chance(params):
    """Players whose decisions are all even."""
    zero = {'real', 'class'}
    judge = {k: jax.tree.map(jnp.zeros_like, v) if k in zero else v for k, v in params[D].items()}
    return {**params, D: judge, C: jax.tree.map(jnp.zeros_like, params[C])}


@pytest.mark.parametrize(('heads', 'ten'), [(True, (4.3820, 2.9957, 2.5536)), (False, (2.0794, 0.6931, 2.3234))])
def test_losses_at_chance(heads, ten):
    """3 ln 2 + ln K of D, ln 2 + ln K of G, ln K of C, (1 + a) ln K + b ln 2 of F; without class heads only C's ln K is
    left. ten: the same of the paper's ten classes."""
    method = _method(optimizer='sgd', learning_rate=0.0, class_heads=heads)
    state = method.init(jax.random.key(1), BATCH['source'])
    _, _, metrics = _one_step(method, state.replace(params=_at_chance(state.params)))

    def expected(classes):
        judged = heads * np.log(classes)
        of_c, two = np.log(classes), np.log(2)
        return {D: 3 * two + judged, G: two + judged, F: of_c + 0.1 * judged + 0.03 * two, C: of_c}

    for player, value in expected(2).items():
        np.testing.assert_allclose(metrics[f'loss/{player}'], value, rtol=1e-6)
    np.testing.assert_allclose(list(expected(10).values())[:3], ten, atol=5e-5)


def test_the_best_discriminator_of_equal_images_says_one_third():
    """There are two batches of fakes for one of real images: p* = 1/3, where the binary part is 3 ln 3 - 2 ln 2."""
    method = _method()
    state = method.init(jax.random.key(1), BATCH['source'])
    params = _at_chance(state.params)[D]
    images = jnp.full((4, 1, 1, 2), 0.3)
    labels = jnp.zeros(4, jnp.int32)

    def loss(bias):
        own = {**params, 'real': {**params['real'], 'bias': bias[None]}}
        return method.discriminator_loss(method.passes(state, {D: own}), images, labels, images, images)[0]

    best = jnp.log(0.5)  # the logit of 1/3
    np.testing.assert_allclose(jax.grad(loss)(best), 0, atol=1e-6)
    np.testing.assert_allclose(loss(best) - np.log(2), 3 * np.log(3) - 2 * np.log(2), rtol=1e-6)
    assert loss(best) < min(loss(best + 0.1), loss(best - 0.1))


def test_saturating_and_non_saturating_gradients():
    """With respect to the logit p - 1 and -p: at p = 0.01 one is 99 times the other."""
    logit = jnp.log(0.01 / 0.99)[None]
    both = [_method(gan_loss=loss) for loss in ('non_saturating', 'saturating')]
    slopes = [jax.grad(lambda u, fooling=method.fooling: fooling(u).sum())(logit)[0] for method in both]
    np.testing.assert_allclose(slopes, [-0.99, -0.01], rtol=1e-5)


@pytest.mark.parametrize('norm', [False, True])
def test_a_step_is_the_alternation_written_out(norm):
    """Every player's update by its own loss alone: D before all others, G, C and F with what was there before; with norm,
    every batch of images or conditions is normalised alone."""
    rate, a, b = 0.1, 0.4, 0.3
    method = _method(optimizer='sgd', learning_rate=rate, class_weight=a, domain_weight=b, net=ToyNet(norm=norm))
    state, after, metrics = _one_step(method)
    s, y, t = BATCH['source']['image'], BATCH['source']['label'], BATCH['target']['image']
    z, z_t = (jax.random.normal(key, (len(s), 2)) for key in jax.random.split(state.step_rng()))
    one_hot = np.eye(3, dtype=np.float32)
    modules = method.modules()

    def applied(player, params, x):
        variables = {'params': params, 'batch_stats': state.batch_stats[player]}
        return modules[player].apply(variables, x, train=True, mutable=['batch_stats'])[0]

    def rebuilt(f, g):
        f_s, f_t = (modules[F].apply({'params': f}, x) for x in (s, t))
        x_s = applied(G, g, jnp.concatenate([one_hot[y], f_s, z], 1))
        x_t = applied(G, g, jnp.concatenate([one_hot[[2] * len(t)], f_t, z_t], 1))
        return f_s, x_s, x_t

    def judged(d, x):
        p, q = applied(D, d, x)
        return jax.nn.sigmoid(p), jax.nn.log_softmax(q)

    def picked(logs):
        return -jnp.mean(jnp.take_along_axis(logs, y[:, None], 1))

    old = state.params
    _, x_s, x_t = rebuilt(old[F], old[G])

    def loss_d(d):
        (p, q), (p_s, _), (p_t, _) = judged(d, 2 * s - 1), judged(d, x_s), judged(d, x_t)
        return -jnp.mean(jnp.log(p)) + picked(q) - jnp.mean(jnp.log(1 - p_s)) - jnp.mean(jnp.log(1 - p_t))

    new_d = descended(loss_d, old[D], rate)

    def loss_g(g):
        p, q = judged(new_d, rebuilt(old[F], g)[1])
        return picked(q) - jnp.mean(jnp.log(p))

    def classified(c, f_s):
        return picked(jax.nn.log_softmax(modules[C].apply({'params': c}, f_s)))

    def loss_f(f):
        f_s, x_s, x_t = rebuilt(f, old[G])
        adversarial = a * picked(judged(new_d, x_s)[1]) - b * jnp.mean(jnp.log(judged(new_d, x_t)[0]))
        return classified(old[C], f_s) + adversarial

    expected = {
        D: new_d,
        G: descended(loss_g, old[G], rate),
        C: descended(lambda c: classified(c, rebuilt(old[F], old[G])[0]), old[C], rate),
        F: descended(loss_f, old[F], rate),
    }
    for player, params in expected.items():
        assert_close(after.params[player], params, player)
    (real, q), (fake, q_s), (target, _) = (judged(old[D], x) for x in (2 * s - 1, x_s, x_t))
    decisions = {
        'real_accuracy': real > 0.5,
        'source_fake_accuracy': fake < 0.5,
        'target_fake_accuracy': target < 0.5,
        'real_class_accuracy': q.argmax(1) == y,
        'source_fake_class_accuracy': q_s.argmax(1) == y,
        'source_train_accuracy': modules[C].apply({'params': old[C]}, rebuilt(old[F], old[G])[0]).argmax(1) == y,
    }
    for name, right in decisions.items():
        np.testing.assert_allclose(metrics[name], np.mean(right), atol=1e-6, err_msg=name)


def test_without_the_domain_term_the_target_moves_only_the_discriminator():
    method = _method(optimizer='sgd', domain_weight=0.0)
    others = {**BATCH, 'target': {'image': BATCH['target']['image'][::-1] * 0.5}}
    state, first, _ = _one_step(method)
    _, second, _ = _one_step(method, state, others)
    for player in (F, C):
        for a, b in zip(*(jax.tree.leaves(s.params[player]) for s in (first, second)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-7)
    assert not np.allclose(first.params[D]['real']['kernel'], second.params[D]['real']['kernel'])


def test_without_its_weights_it_is_training_on_the_source():
    """F and C then walk as those of source_only, Adam and schedule included."""
    final = [
        trained(toy_method(name, **options), DOMAINS, 20)[0].params
        for name, options in (('generate_to_adapt', {'class_weight': 0.0, 'domain_weight': 0.0}), ('source_only', {}))
    ]
    for player in (F, C):
        for found, value in zip(*(jax.tree.leaves(params[player]) for params in final), strict=True):
            np.testing.assert_allclose(found, value, atol=1e-5)


def test_the_generator_keeps_its_learning_rate():
    for own, expected in ((False, 0.02), (True, 0.02 / 3)):
        method = _method(optimizer='sgd', generator_schedule=own)
        for player, rate in ((G, expected), (D, 0.02 / 3)):
            optimizer = method.optimizer_of(player)
            params = {'w': jnp.ones(())}
            state = optimizer.init(params)
            for _ in range(201):
                updates, state = optimizer.update(params, state, params)
            np.testing.assert_allclose(-updates['w'], rate, rtol=1e-5)  # at step 200 of lr / (1 + 0.01 k)


def test_conditions():
    """Source labels in their slots, target in the last one; the label alone changes what G makes."""
    method = _method()
    embeddings, noise = jnp.full((3, 2), 0.5), jnp.full((3, 2), -1.0)
    source = method.conditions(embeddings, jnp.asarray([0, 1, 1]), noise)
    np.testing.assert_array_equal(
        source, np.float32([[1, 0, 0, 0.5, 0.5, -1, -1], [0, 1, 0, 0.5, 0.5, -1, -1], [0, 1, 0, 0.5, 0.5, -1, -1]])
    )
    target = method.conditions(embeddings, None, noise)
    np.testing.assert_array_equal(target[:, :3], np.float32([[0, 0, 1]] * 3))
    assert not _method(label_condition=False).conditions(embeddings, None, noise)[:, :3].any()
    state = method.init(jax.random.key(0), BATCH['source'])
    images = method.passes(state)(G, source)
    assert np.abs(images[0] - images[1]).max() > 1e-3
    np.testing.assert_array_equal(images[1], images[2])
    long = dataclasses.replace(method, net=dataclasses.replace(method.net, normalise=True))
    np.testing.assert_allclose(np.linalg.norm(long.conditions(100 * embeddings, None, noise)[:, 3:5], axis=1), 1, rtol=1e-5)


def test_real_images_are_the_embeddings_inputs_in_another_unit():
    images = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
    seen = standardize(images, (0.44,) * 3, (0.19,) * 3)
    np.testing.assert_allclose(2 * (0.19 * seen + 0.44) - 1, _sized(32).reals(images), atol=1e-6)
    small = _sized(32, generated=16).reals(images)
    assert small.shape == (2, 16, 16, 3)
    np.testing.assert_allclose(small.mean(), (2 * images - 1).mean(), atol=0.01)


def _sized(side, **options):
    net = GTADigits((side, side, 3), 10, **options)
    return dataclasses.replace(_method(), net=net, info=DataInfo(10, 1, 1, 1, (side, side, 3)))


@pytest.mark.parametrize(
    ('side', 'options', 'message'),
    [
        (28, {'widths': (8, 8)}, 'generated images would have 28 pixels a side; allowed: powers of two'),
        (12, {'generated': 16}, 'the images have 12 pixels a side: too few for net.widths'),
    ],
)
def test_sizes_it_cannot_make(side, options, message):
    with pytest.raises(ValueError, match=message):
        _sized(side, **options).fits()


def test_bad_options():
    for options, message in (
        ({'gan_loss': 'hinge'}, "method.gan_loss is 'hinge'; allowed: non_saturating, saturating"),
        ({'class_weight': -1.0}, 'method.class_weight is -1.0; allowed: >= 0'),
        ({'ema': 1.0}, 'method.ema is 1.0; allowed: 0 <= ema < 1'),
    ):
        with pytest.raises(ValueError, match=message):
            _method(**options)
    config = {
        'method': {'name': 'generate_to_adapt', 'constant_optimizer': 1},
        'net': {'name': 'gta_digits'},
        'optimizer': {},
        'evaluation': {},
    }
    with pytest.raises(ValueError, match=r'method.constant_optimizer is 1, but there is no such key'):
        methods.build(config, DataInfo(10, 1, 1, 1, (32, 32, 3)))
