"""Losses that align two domains: per example [B], or one number for two batches of features [S, F] and [T, F].

Arrays are float32, float16, bfloat16 or, under jax_enable_x64, float64. Every function raises ValueError for shapes and
dtypes that do not fit, also under `jax.jit`: nothing is broadcast.
"""

import jax
import jax.numpy as jnp

from gjax.checks import check_floats, check_shape, check_shapes

# Widths of DAN's kernels as multiples of the mean squared distance: 2^-2 to 2^2 (Long et al. 2015, section 4.1).
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def reverse_gradient(features, strength):
    """`features`, whose gradient arrives multiplied by -strength (Ganin & Lempitsky 2015, Eq. 10): what follows is trained
    to tell domains apart, what came before to hide them.

    Args:
      features: any array.
      strength: scalar, may be traced; it has no gradient of its own.
    """
    check_floats(features=features)
    if jnp.ndim(strength):
        check_shape('strength', strength, ())
    strength = jax.lax.stop_gradient(jnp.asarray(strength, features.dtype))
    return features - (1 + strength) * (features - jax.lax.stop_gradient(features))


def adversarial_ramp(progress, steepness: float = 10.0):
    """2 / (1 + exp(-steepness progress)) - 1, from 0 to about 1 for progress in [0, 1] (Ganin & Lempitsky 2015, Eq. 14)."""
    return 2 / (1 + jnp.exp(-steepness * progress)) - 1


def binary_cross_entropy(logits, positive):
    """-log p where `positive`, -log(1 - p) elsewhere, p the logits' sigmoid.

    Args:
      logits: [...], of any shape: one for each example, pixel or patch.
      positive: bool [...], of the same shape, or one bool for all.

    Returns:
      [...], >= 0, in nats.

    Raises:
      ValueError: another shape or dtype.
    """
    check_shape('logits', logits, (...,))
    check_floats(logits=logits)
    if jnp.ndim(positive):
        check_shapes((...,), '[...]', logits=logits, positive=positive)
    if not jnp.issubdtype(dtype := jnp.result_type(positive), jnp.bool_):
        raise ValueError(f'the dtype of positive is {dtype}; allowed: bool')
    return jax.nn.softplus(jnp.where(positive, -logits, logits))


def _check_domains(source, target) -> None:
    """ValueError unless both are batches of at least two rows of features: of one there is no distance nor covariance."""
    for name, features in (('source', source), ('target', target)):
        check_shape(name, features, (None, None), '[N, F] with N >= 2')
        if features.shape[0] < 2:
            raise ValueError(f'the shape of {name} is {tuple(features.shape)}; allowed: [N, F] with N >= 2')
    size = source.shape[1]
    check_shape('target', target, (None, size), f'[N, {size}], for features {tuple(source.shape)} of source')
    check_floats(source=source, target=target)


def _squared_distances(first, second):
    """|x - y|^2 of all pairs, [S, T]; not by expanding the square, which loses the small ones."""
    return jnp.sum((first[:, None] - second[None]) ** 2, axis=-1)


def multi_kernel_mmd(source, target, *, bandwidths=BANDWIDTHS):
    """The squared maximum mean discrepancy under the mean of several Gaussian kernels (Long et al. 2015, Eq. 1 and 2).

    k(x, y) = mean over b of exp(-|x - y|^2 / (b m)), m the mean squared distance of different examples of both batches, with
    no gradient. The estimate is unbiased, without the pairs of an example with itself: it may be below 0.

    Args:
      source, target: [S, F] and [T, F], S and T >= 2.
      bandwidths: the b, at least one, > 0.

    Returns:
      A scalar.
    """
    _check_domains(source, target)
    if not bandwidths or not all(b > 0 for b in bandwidths):
        raise ValueError(f'bandwidths is {bandwidths}; allowed: at least one, each > 0')
    both = jnp.concatenate([source, target])
    count, sources = len(both), len(source)
    distances = _squared_distances(both, both)
    mean = jax.lax.stop_gradient(jnp.sum(distances) / (count * (count - 1)))
    mean = jnp.where(mean > 0, mean, 1.0)  # all examples alike: every kernel is 1
    kernel = sum(jnp.exp(-distances / (b * mean)) for b in bandwidths) / len(bandwidths)
    within_source, within_target = kernel[:sources, :sources], kernel[sources:, sources:]

    def without_diagonal(block):
        size = len(block)
        return (jnp.sum(block) - jnp.trace(block)) / (size * (size - 1))

    across = jnp.mean(kernel[:sources, sources:])
    return without_diagonal(within_source) + without_diagonal(within_target) - 2 * across


def coral(source, target):
    """|C_s - C_t|_F^2 / (4 F^2), C the covariances (divided by the number - 1) (Sun & Saenko 2016, Eq. 1 to 3).

    Args:
      source, target: [S, F] and [T, F], S and T >= 2.

    Returns:
      A scalar, >= 0.
    """
    _check_domains(source, target)

    def covariance(features):
        centred = features - features.mean(axis=0, keepdims=True)
        return centred.T @ centred / (len(features) - 1)

    difference = covariance(source) - covariance(target)
    return jnp.sum(difference**2) / (4 * source.shape[1] ** 2)


def classifier_discrepancy(first_logits, second_logits):
    """mean over classes of |p1 - p2| between two classifiers' probabilities (Saito et al. 2018, Eq. 2).

    Args:
      first_logits, second_logits: [B, K].

    Returns:
      [B], in [0, 2 / K].
    """
    check_shapes((None, None), '[B, K]', first_logits=first_logits, second_logits=second_logits)
    check_floats(first_logits=first_logits, second_logits=second_logits)
    return jnp.mean(jnp.abs(jax.nn.softmax(first_logits) - jax.nn.softmax(second_logits)), axis=-1)
