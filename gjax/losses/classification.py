"""Losses and scores of classifiers: one float for each example, or for each pixel of a label map.

Logits are float32, float16, bfloat16 or, under jax_enable_x64, float64, and so are the values; labels are of any integer
dtype. Every function raises ValueError for shapes and dtypes that do not fit, also under `jax.jit`: nothing is broadcast.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gjax.checks import check_floats, check_integers, check_shape, check_shapes, concrete


def _check_labels(logits, labels) -> None:
    """ValueError unless labels are integers of the logits' shape without its last axis; also while tracing."""
    check_shape('logits', logits, (..., None), '[..., K]')
    check_floats(logits=logits)
    check_shape('labels', labels, logits.shape[:-1], f'{logits.shape[:-1]}, for logits {logits.shape}')
    check_integers(labels=labels)


def _refuse_others(labels, classes: int, where=None) -> None:
    """ValueError if labels are concrete and one of them (of those that count) is none of 0..K-1."""
    values, counts = concrete(labels), None if where is None else concrete(where)
    if values is None or (where is not None and counts is None):
        return
    wrong = (values < 0) | (values >= classes)
    if counts is not None:
        wrong &= counts
    if wrong.any():
        found = values[wrong].flat[0]
        raise ValueError(f'labels have the value {found}; allowed: 0..{classes - 1}, for logits of {classes} classes')


def _as_classes(labels, classes: int):
    """Labels as int32 (or int64), and where they are classes."""
    labels = jnp.asarray(labels)
    labels = labels.astype(
        jnp.int64 if labels.dtype.itemsize == 8 else jnp.int32
    )  # too large an unsigned one turns negative
    return labels, (labels >= 0) & (labels < classes)


def _true_and_best_other(logits, labels):
    one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    true = jnp.max(logits, axis=-1, where=one_hot, initial=-jnp.inf)
    other = jnp.max(logits, axis=-1, where=~one_hot, initial=-jnp.inf)
    return true, other


def cross_entropy(logits, targets, *, where=None):
    """-sum_k t_k log softmax(logits)_k.

    Args:
      logits: [..., K].
      targets: integers [...] in 0..K-1, or probabilities [..., K] of a float dtype; an array or nested lists.
      where: bool, broadcastable to [...]; default all. The loss and its gradient are 0 where it is False, whatever the
        logits and targets are there: integers may be out of range, as in the ignored pixels of label maps.

    Returns:
      [...], >= 0, in nats. NaN where a label is no class and JAX traces the labels, so that no training goes on from it.

    Raises:
      ValueError: shapes or dtypes that do not fit, also while tracing; labels that are no class, where they are concrete.
    """
    targets = targets if hasattr(targets, 'dtype') else np.asarray(targets)
    soft = jnp.issubdtype(targets.dtype, jnp.floating)
    if soft:
        check_shape('logits', logits, (..., None), '[..., K]')
        check_shape('probabilities', targets, logits.shape, f'{logits.shape}, that of the logits')
        check_floats(logits=logits, probabilities=targets)
    else:
        _check_labels(logits, targets)
    if where is not None:
        if where.dtype != bool:
            raise ValueError(f'the dtype of where is {where.dtype}; allowed: bool')
        sizes = logits.shape[:-1][logits.ndim - 1 - where.ndim :] if where.ndim < logits.ndim else None
        if sizes is None or any(size not in (1, full) for size, full in zip(where.shape, sizes, strict=True)):
            raise ValueError(f'the shape of where is {where.shape}; allowed: what broadcasts to {logits.shape[:-1]}')
        missing = (1,) * (logits.ndim - 1 - where.ndim)  # given, so that no rank is promoted silently
        where = jnp.broadcast_to(where.reshape(*missing, *where.shape), logits.shape[:-1])
        if not soft:
            _refuse_others(targets, logits.shape[-1], where)
        # Before the logarithm, so that no gradient is 0 times infinity.
        logits = jnp.where(where[..., None], logits, 0)
        targets = jnp.where(where[..., None] if targets.ndim == logits.ndim else where, targets, 0)
    elif not soft:
        _refuse_others(targets, logits.shape[-1])
    log_probs = jax.nn.log_softmax(logits)
    if not soft:
        targets, known = _as_classes(targets, logits.shape[-1])
        targets = jax.nn.one_hot(targets, logits.shape[-1], dtype=log_probs.dtype)
    losses = -jnp.sum(targets * log_probs, axis=-1)
    if not soft:  # added, so that the gradient's program, and with it its rounding, does not depend on the check
        losses += jnp.where(known, jnp.zeros_like(losses), jnp.nan)
    return losses if where is None else jnp.where(where, losses, 0)


def kl_divergence(logits, target_logits):
    """KL(softmax(target_logits) || softmax(logits)): TRADES' regulariser (Zhang et al. 2019, Eq. 5).

    Args:
      logits: [..., K], of the perturbed image.
      target_logits: [..., K], of the clean image.

    Returns:
      [...], >= 0, in nats.
    """
    check_shapes((..., None), '[..., K]', logits=logits, target_logits=target_logits)
    check_floats(logits=logits, target_logits=target_logits)
    target_log_probs = jax.nn.log_softmax(target_logits)
    difference = target_log_probs - jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(target_log_probs) * difference, axis=-1)


def margin(logits, labels):
    """z_y - max_{k != y} z_k: positive where the example is classified as `labels`.

    Args:
      logits: [..., K].
      labels: integers [...] in 0..K-1.

    Returns:
      [...]; NaN where a label is no class and JAX traces the labels.

    Raises:
      ValueError: shapes or dtypes that do not fit, also while tracing; labels that are no class, where they are concrete.
    """
    _check_labels(logits, labels)
    _refuse_others(labels, logits.shape[-1])
    labels, known = _as_classes(labels, logits.shape[-1])
    true, other = _true_and_best_other(logits, labels)
    return jnp.where(known, true - other, jnp.nan)


def correct(logits, labels):
    """argmax(logits) == labels.

    Args:
      logits: [..., K].
      labels: integers [...]; one that is no class, such as that of an ignored pixel, is never right.

    Returns:
      bool [...]; ValueError for other shapes or dtypes, also while tracing.
    """
    _check_labels(logits, labels)
    if (values := concrete(labels)) is not None:  # before JAX cuts 64 bits down to 32
        labels = np.where((values >= 0) & (values < logits.shape[-1]), values, -1).astype(np.int32)
    labels, _ = _as_classes(labels, logits.shape[-1])
    found = jnp.argmax(logits, axis=-1)
    return found == labels.astype(found.dtype)
