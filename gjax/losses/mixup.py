"""Mixup (Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", Eq. 1)."""

import jax


def mixup(*arrays, rng, alpha: float = 1.0):
    """m a + (1 - m) a[perm] with one m ~ Beta(alpha, alpha) and one permutation for the whole batch.

    Args:
      *arrays: float arrays [B, ...] that are mixed alike, e.g. images [B, H, W, C] and target probabilities [B, K].
      rng: a key.
      alpha: the Beta distribution's parameter, > 0; 1 is uniform.

    Returns:
      A tuple of arrays of the same shapes.
    """
    weight_rng, permutation_rng = jax.random.split(rng)
    weight = jax.random.beta(weight_rng, alpha, alpha, dtype=arrays[0].dtype)
    permutation = jax.random.permutation(permutation_rng, arrays[0].shape[0])
    return tuple(weight * a + (1 - weight) * a[permutation] for a in arrays)
