"""Losses and scores of classifiers; every function returns one float32 per example, [B]."""

import jax
import jax.numpy as jnp


def _true_and_best_other(logits, labels):
    one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    true = jnp.max(logits, axis=-1, where=one_hot, initial=-jnp.inf)
    other = jnp.max(logits, axis=-1, where=~one_hot, initial=-jnp.inf)
    return true, other


def cross_entropy(logits, targets):
    """-sum_k t_k log softmax(logits)_k.

    Args:
      logits: [B, K].
      targets: int labels [B] in 0..K-1, or probabilities [B, K].

    Returns:
      [B], >= 0, in nats.
    """
    log_probs = jax.nn.log_softmax(logits)
    if targets.ndim == 1:
        targets = jax.nn.one_hot(targets, logits.shape[-1], dtype=log_probs.dtype)
    return -jnp.sum(targets * log_probs, axis=-1)


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
    """z_y - max_{k != y} z_k: positive where the example is classified as `labels`. logits [B, K], labels int [B] -> [B]."""
    true, other = _true_and_best_other(logits, labels)
    return true - other


def correct(logits, labels):
    """argmax(logits) == labels, as bool [B]. logits [B, K], labels int [B]."""
    return jnp.argmax(logits, axis=-1) == labels
