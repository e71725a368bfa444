"""Losses and scores of classifiers: one float32 for each example, or for each pixel of a label map."""

import jax
import jax.numpy as jnp


def _check_labels(logits, labels) -> None:
    """ValueError unless labels are integers of the logits' shape without its last axis; also while tracing."""
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f'labels have dtype {labels.dtype}; allowed: integers')
    if labels.shape != logits.shape[:-1]:
        raise ValueError(f'labels have shape {labels.shape}; allowed: {logits.shape[:-1]}, for logits {logits.shape}')


def _true_and_best_other(logits, labels):
    one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    true = jnp.max(logits, axis=-1, where=one_hot, initial=-jnp.inf)
    other = jnp.max(logits, axis=-1, where=~one_hot, initial=-jnp.inf)
    return true, other


def cross_entropy(logits, targets, *, where=None):
    """-sum_k t_k log softmax(logits)_k.

    Args:
      logits: [..., K].
      targets: integers [...] in 0..K-1, or probabilities [..., K] of a float dtype.
      where: bool, broadcastable to [...]; default all. The loss and its gradient are 0 where it is False, whatever the
        logits and targets are there: integers may be out of range, as in the ignored pixels of label maps.

    Returns:
      [...], >= 0, in nats.

    Raises:
      ValueError: shapes or dtypes that do not fit, also while tracing.
    """
    if jnp.issubdtype(targets.dtype, jnp.floating):
        if targets.shape != logits.shape:
            raise ValueError(f'probabilities have shape {targets.shape}; allowed: {logits.shape}, that of the logits')
    else:
        _check_labels(logits, targets)
    if where is not None:
        if where.dtype != bool:
            raise ValueError(f'where has dtype {where.dtype}; allowed: bool')
        missing = (1,) * (logits.ndim - 1 - where.ndim)  # given, so that no rank is promoted silently
        where = jnp.broadcast_to(where.reshape(*missing, *where.shape), logits.shape[:-1])
        # Before the logarithm, so that no gradient is 0 times infinity.
        logits = jnp.where(where[..., None], logits, 0)
        targets = jnp.where(where[..., None] if targets.ndim == logits.ndim else where, targets, 0)
    log_probs = jax.nn.log_softmax(logits)
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        targets = jax.nn.one_hot(targets, logits.shape[-1], dtype=log_probs.dtype)
    losses = -jnp.sum(targets * log_probs, axis=-1)
    return losses if where is None else jnp.where(where, losses, 0)


def kl_divergence(logits, target_logits):
    """KL(softmax(target_logits) || softmax(logits)): TRADES' regulariser (Zhang et al. 2019, Eq. 5).

    Args:
      logits: [B, K], of the perturbed image.
      target_logits: [B, K], of the clean image.

    Returns:
      [B], >= 0, in nats.
    """
    target_log_probs = jax.nn.log_softmax(target_logits)
    difference = target_log_probs - jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(target_log_probs) * difference, axis=-1)


def margin(logits, labels):
    """z_y - max_{k != y} z_k: positive where the example is classified as `labels`.

    Args:
      logits: [..., K].
      labels: integers [...].

    Returns:
      [...]; ValueError for other shapes, also while tracing.
    """
    _check_labels(logits, labels)
    true, other = _true_and_best_other(logits, labels)
    return true - other


def correct(logits, labels):
    """argmax(logits) == labels.

    Args:
      logits: [..., K].
      labels: integers [...].

    Returns:
      bool [...]; ValueError for other shapes, also while tracing.
    """
    _check_labels(logits, labels)
    return jnp.argmax(logits, axis=-1) == labels
