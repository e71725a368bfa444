"""Mixup (Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", Eq. 1)."""

import jax

from gjax.checks import check_floats, check_key, check_shape, positive


def mixup(*arrays, rng, alpha: float = 1.0):
    """m a + (1 - m) a[perm] with one m ~ Beta(alpha, alpha) and one permutation for the whole batch.

    Args:
      *arrays: float arrays [B, ...] that are mixed alike, e.g. images [B, H, W, C] and target probabilities [B, K].
      rng: a key.
      alpha: the Beta distribution's parameter, > 0; 1 is uniform.

    Returns:
      A tuple of arrays of the same shapes.

    Raises:
      ValueError: no array, arrays of different batch sizes or no float dtype, alpha <= 0, no key as rng.
    """
    if not arrays:
        raise ValueError('mixup got no arrays; allowed: at least one')
    check_key('rng', rng)
    positive('alpha', alpha, zero=False)
    for i, array in enumerate(arrays):
        check_shape(f'arrays[{i}]', array, (None, ...), '[B, ...]')
        check_shape(f'arrays[{i}]', array, (arrays[0].shape[0], ...), f'[{arrays[0].shape[0]}, ...], as arrays[0]')
        check_floats(**{f'arrays[{i}]': array})
    weight_rng, permutation_rng = jax.random.split(rng)
    weight = jax.random.beta(weight_rng, alpha, alpha, dtype=arrays[0].dtype)
    permutation = jax.random.permutation(permutation_rng, arrays[0].shape[0])
    return tuple(weight * a + (1 - weight) * a[permutation] for a in arrays)
