"""What attacks on defended models differentiate: substitutes for steps without a useful gradient, expectations over
randomness, and inner optimisations step by step. Athalye, Carlini & Wagner 2018 (arXiv:1802.00420), section 4.

A defended model is then a `logits_fn` like any other, and every attack of `gjax.attacks` takes it:

  projected = bpda(lambda images: project_onto_range(images))  # the identity as its derivative
  adversarial = pgd(lambda images: logits_fn(projected(images)), images, labels, 8 / 255, rng=rng, steps=50, step_size=0.01)
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from gjax.checks import check_key, check_shape, positive


def _identity(inputs):
    return inputs


def bpda(forward: Callable, backward: Callable = _identity) -> Callable:
    """Backward pass differentiable approximation: `forward` with the derivative of `backward`, at the same inputs.

    Athalye et al. 2018, section 4.1. An inverter's reconstruction G(E(x)) as `backward` of a search for the nearest G(z)
    gives the attack of InvGAN; the identity, BPDA's own choice, is the default.

    Args:
      forward: (inputs, *more) -> outputs, arrays or pytrees; it need not be differentiable. It may be random through a key
        among `more`.
      backward: inputs -> outputs of the same shapes and dtypes, differentiable.

    Returns:
      A function (inputs, *more) -> outputs. `more`, and what the two functions close over, is not differentiated.

    Raises:
      ValueError: when differentiated, `backward` gives another form than `forward`.
    """

    @jax.custom_vjp
    def function(inputs, *more):
        return forward(inputs, *more)

    def with_inputs(inputs, *more):
        return forward(inputs, *more), (inputs, len(more))

    def pull_back(kept, gradients):
        inputs, extra = kept
        found, pulled = jax.vjp(backward, inputs)
        forms = [jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree) for tree in (found, gradients)]
        if forms[0] != forms[1]:
            raise ValueError(f'backward gives {forms[0]}; allowed: {forms[1]}, the shape and dtype that forward gives')
        return (*pulled(gradients), *(None,) * extra)

    function.defvjp(with_inputs, pull_back)
    return function


def expectation(logits_fn: Callable, draws: int) -> Callable:
    """Expectation over transformation: the mean logits of a model that is random by a key.

    Athalye et al. 2018 (arXiv:1707.07397), Eq. 1. With one key an attack sees the same draws at every step:
    `partial(expectation(logits_fn, 20), rng=rng)` is a logits_fn for every attack. For fresh draws at every step let `pgd`
    carry the key:

      def fresh(images, rng):
          rng, own = jax.random.split(rng)
          return expected(images, rng=own), rng

      adversarial, _ = pgd(fresh, images, labels, eps, rng=rng, carry=jax.random.key(1), steps=50, step_size=0.01)

    Judge what an attack found under other draws.

    Args:
      logits_fn: (images [B, ...], rng) -> logits [B, K].
      draws: how many are averaged, >= 1; all are computed at once.

    Returns:
      A function (images, *, rng) -> logits [B, K].

    Raises:
      ValueError: draws < 1; when called, no key as rng, or logits that are not [B, K].
    """
    positive('draws', draws, zero=False)

    def expected(images, *, rng):
        check_key('rng', rng)
        logits = jax.vmap(lambda own: logits_fn(images, own))(jax.random.split(rng, draws))
        check_shape('logits', logits, (draws, len(images), None), f'({draws}, {len(images)}, K) over all draws')
        return jnp.mean(logits, axis=0)

    return expected


def unrolled(step: Callable, steps: int) -> Callable:
    """An inner loop that gradients flow through, such as a defence that optimises every image at test time.

    Its gradient is exact, that of all steps written one after the other. Only the state after each step is kept for the way
    back, and what a step computes inside is computed again: memory grows by one state a step, time by a third.

    Args:
      step: (state, i, *inputs) -> state of the same shapes and dtypes, where i counts the steps from 0 (int32).
      steps: how many, >= 0.

    Returns:
      A function (state, *inputs) -> the state after the last step, differentiable in the state and the inputs.

    Raises:
      ValueError: steps < 0.
    """
    positive('steps', steps)

    def run(state, *inputs):
        def body(state, i):
            return jax.checkpoint(step, prevent_cse=False)(state, i, *inputs), None

        return lax.scan(body, state, jnp.arange(steps, dtype=jnp.int32))[0]

    return run
