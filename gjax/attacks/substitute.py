"""A black box by a substitute: a network that imitates the victim's decisions is attacked, and the images transferred.

Papernot et al. 2017 (arXiv:1602.02697), Algorithm 1.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import lax

from gjax.attacks.balls import as_images
from gjax.checks import check_integers, check_key, check_shape, positive
from gjax.losses import cross_entropy


def jacobian_augmentation(logits_fn: Callable, images, labels, step: float, *, bounds: tuple[float, float] = (0.0, 1.0)):
    """x + lambda sign(d z_y / dx): images across which a substitute has most to learn.

    Papernot et al. 2017, Eq. 5, clipped to the bounds.

    Args:
      logits_fn: the substitute, images [B, H, W, C] -> logits [B, K].
      images: [B, H, W, C] (or [B, ...]) within the bounds.
      labels: int [B], what the victim says of the images.
      step: lambda, in units of the images; the paper's 0.1. A negative one moves away from the class.
      bounds: (low, high), the range of the images.

    Returns:
      [B, H, W, C] within the bounds.
    """
    images = as_images(images, bounds)
    check_shape('labels', labels, (len(images),), f'({len(images)},), one an image')

    def scores(images):
        return jnp.sum(jnp.take_along_axis(logits_fn(images), jnp.asarray(labels)[:, None], axis=1))

    return jnp.clip(images + step * jnp.sign(jax.grad(scores)(images)), *bounds)


def train_substitute(
    oracle: Callable,
    apply: Callable,
    params,
    images,
    *,
    rng,
    rounds: int = 6,
    epochs: int = 10,
    batch_size: int = 50,
    learning_rate: float = 1e-3,
    step: float = 0.1,
    bounds: tuple[float, float] = (0.0, 1.0),
):
    """A substitute's parameters after some rounds of learning the victim's labels, of twice as many images in every round.

    A round asks the victim for the labels of its new images, trains on all images so far (Adam, cross-entropy, starting from
    the parameters of the round before) and, but for the last, adds the Jacobian augmentation of each. Then attack it:
    `fgsm(partial(apply, params), images, labels, eps)`, and judge the victim on the result.

    Args:
      oracle: the victim, images [N, H, W, C] -> labels int [N]. It is called once a round, outside of any loop of JAX, so it
        may be any code, unless this function runs under `jax.jit`.
      apply: the substitute, (params, images) -> logits [B, K].
      params: its first parameters, a pytree.
      images: the attacker's own, [N, H, W, C] within the bounds, of float32; Papernot et al. take 150.
      rng: a key, of the order of the images.
      rounds: >= 1; the victim labels N * 2 ** (rounds - 1) images in all.
      epochs: in each round, >= 1.
      batch_size: >= 1; of fewer images all are one batch, and what is left of an epoch waits for the next one's order.
      learning_rate: of Adam, > 0.
      step: of the augmentation, in units of the images.
      bounds: (low, high), the range of the images.

    Returns:
      The parameters.

    Raises:
      ValueError: options out of their range, images as in `pgd`, labels of the oracle that are no integers [N].
    """
    check_key('rng', rng)
    counts = (('rounds', rounds), ('epochs', epochs), ('batch_size', batch_size), ('learning_rate', learning_rate))
    for name, value in counts:
        positive(name, value, zero=False)
    images, optimizer = as_images(images, bounds), optax.adam(learning_rate)

    def asked(images):
        labels = oracle(images)
        check_shape('oracle(images)', labels, (len(images),), f'({len(images)},), one label an image')
        check_integers(**{'oracle(images)': labels})
        return jnp.asarray(labels, jnp.int32)

    labels = asked(images)
    for number in range(rounds):
        round_rng = jax.random.fold_in(rng, number)
        params = _fit(apply, optimizer, params, images, labels, round_rng, epochs, min(batch_size, len(images)))
        if number < rounds - 1:
            new = jacobian_augmentation(partial(apply, params), images, labels, step, bounds=bounds)
            images, labels = jnp.concatenate([images, new]), jnp.concatenate([labels, asked(new)])
    return params


def _fit(apply, optimizer, params, images, labels, rng, epochs: int, batch_size: int):
    """The parameters after some epochs of whole batches, in another order every time."""
    count = len(images) // batch_size

    def loss(params, rows):
        return jnp.mean(cross_entropy(apply(params, images[rows]), labels[rows]))

    def learn(state, rows):
        params, moments = state
        with jax.numpy_dtype_promotion('standard'):  # optax's Adam raises a float to an int power
            updates, moments = optimizer.update(jax.grad(loss)(params, rows), moments)
        return (optax.apply_updates(params, updates), moments), None

    def epoch(state, own_rng):
        order = jax.random.permutation(own_rng, len(images))[: count * batch_size]
        return lax.scan(learn, state, order.reshape(count, batch_size))[0], None

    return lax.scan(epoch, (params, optimizer.init(params)), jax.random.split(rng, epochs))[0][0]
