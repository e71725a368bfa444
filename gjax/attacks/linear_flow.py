"""Attacks on a linear flow x = mu + A z, z ~ N(0, I), and the fits that resist them, in closed form (Pope, Balaji & Feizi
2020, arXiv:1911.08654): the truth that attacks and adversarial training of flows are checked against.

Sigma = A A' is the covariance of x; perturbations are bounded in l2, in the units of x, and not clipped to [0, 1].
Arrays are float32 or, under jax_enable_x64, float64. Every function raises ValueError for shapes and dtypes that do not fit,
and for a concrete eps that is negative.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from gjax.checks import check_eps, check_floats, check_shape

_BISECTIONS = 64
_matmul = partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def _check_points(points, mean, covariance) -> None:
    check_shape('points', points, (None, None), '[B, D]')
    size = points.shape[1]
    check_shape('mean', mean, (size,), f'({size},), for points {tuple(points.shape)}')
    _check_covariance(covariance, size)
    check_floats(points=points, mean=mean)


def _check_covariance(covariance, size: int | None = None) -> None:
    check_shape('covariance', covariance, (None, None), '[D, D]')
    size = covariance.shape[0] if size is None else size
    check_shape('covariance', covariance, (size, size))
    check_floats(covariance=covariance)


def gaussian_nll(points, mean, covariance):
    """1/2 (x - mu)' Sigma^-1 (x - mu) + 1/2 log det(2 pi Sigma), in nats.

    Args:
      points: [B, D].
      mean: [D].
      covariance: [D, D], positive definite.

    Returns:
      [B].
    """
    _check_points(points, mean, covariance)
    factor = jnp.linalg.cholesky(covariance)
    whitened = jax.scipy.linalg.solve_triangular(factor, (points - mean[None]).T, lower=True)
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(factor)))
    return 0.5 * (jnp.sum(whitened**2, axis=0) + log_det + len(mean) * jnp.log(2 * jnp.pi))


def sample_perturbation(points, mean, covariance, eps):
    """The delta of each point with |delta|_2 <= eps that raises its NLL most.

    With P = Sigma^-1 and r = x - mu it is (eta I - P)^-1 P r for the eta > lambda_max(P) that gives it length eps (a
    trust-region problem). Where r is orthogonal to the top eigenvectors of P no eta may do; one of them then makes up the
    length.

    Args:
      points: [B, D].
      mean: [D].
      covariance: [D, D], positive definite.
      eps: float or [B], >= 0.

    Returns:
      [B, D].
    """
    _check_points(points, mean, covariance)
    check_eps('eps', eps, 'l2')
    if jnp.ndim(eps):
        check_shape('eps', eps, (len(points),), f'() or ({len(points)},)')
    variances, basis = jnp.linalg.eigh(covariance)  # ascending, so precision falls
    precision = 1 / variances
    pull = _matmul(points - mean[None], basis) * precision[None]  # P r in the eigenbasis
    gaps = (precision[0] - precision)[None]  # eta - lambda_i = gap_i + (eta - lambda_max)
    eps = jnp.broadcast_to(jnp.asarray(eps, points.dtype), points.shape[:1])[:, None]

    def delta(excess):
        return pull / (gaps + excess)

    def length(excess):
        return jnp.linalg.norm(delta(excess), axis=1, keepdims=True)

    tiny = jnp.finfo(points.dtype).tiny ** 0.5
    radius = jnp.maximum(eps, tiny)
    # |delta| falls in the excess, and is between the top component's length and |P r| / excess.
    low = jnp.maximum(jnp.abs(pull[:, :1]) / radius, jnp.finfo(points.dtype).eps * precision[0] * 1e-3)
    high = jnp.maximum(jnp.linalg.norm(pull, axis=1, keepdims=True) / radius, low)

    def halve(_, bounds):
        low, high = bounds
        middle = jnp.sqrt(low) * jnp.sqrt(high)
        too_long = length(middle) > radius
        return jnp.where(too_long, middle, low), jnp.where(too_long, high, middle)

    _, excess = lax.fori_loop(0, _BISECTIONS, halve, (low, high))
    found = delta(excess)
    missing = jnp.sqrt(jnp.maximum(radius[:, 0] ** 2 - jnp.sum(found[:, 1:] ** 2, axis=1), 0))
    found = found.at[:, 0].set(jnp.where(pull[:, 0] < 0, -missing, missing))
    return _matmul(jnp.where(eps > 0, found, 0), basis.T)


def universal_perturbation(covariance, eps):
    """The one delta [D] with |delta|_2 <= eps that raises the mean NLL most, by 1/2 eps^2 / lambda_min(Sigma), whatever the
    points' distribution if its mean is mu: eps along the eigenvector of Sigma's smallest eigenvalue.
    """
    _check_covariance(covariance)
    check_eps('eps', eps, 'l2')
    return eps * jnp.linalg.eigh(covariance)[1][:, 0]


def universal_increase(covariance, eps):
    """By how much `universal_perturbation` raises the mean NLL: 1/2 eps^2 / lambda_min(Sigma), in nats."""
    _check_covariance(covariance)
    check_eps('eps', eps, 'l2')
    return 0.5 * eps**2 / jnp.linalg.eigvalsh(covariance)[0]


def maximum_likelihood(points):
    """The mean [D] and covariance [D, D] (divided by B) of points [B, D]: the linear flow that is likeliest."""
    check_shape('points', points, (None, None), '[B, D]')
    mean = jnp.mean(points, axis=0)
    centred = points - mean[None]
    return mean, _matmul(centred.T, centred) / len(points)


def water_level(values, volume):
    """The level w with sum max(w - values, 0) = volume.

    Args:
      values: [D].
      volume: float, >= 0; at 0 the level is the smallest value.
    """
    check_shape('values', values, (None,), '[D]')
    values = jnp.sort(values)
    counts = 1.0 + jnp.arange(len(values), dtype=values.dtype)
    levels = (volume + jnp.cumsum(values)) / counts  # if so many of the smallest were filled
    filled = jnp.sum(levels > values)
    return levels[jnp.maximum(filled - 1, 0)]


def robust_covariance(covariance, eps):
    """The Sigma of the linear flow whose mean NLL is best under random perturbations common to all points,
    E|delta|^2 <= eps^2:

      min over Sigma of max over Q >= 0 with tr Q <= eps^2 of tr(Sigma^-1 (K + Q)) + log det Sigma.

    At the saddle Sigma = K + Q, and Q lifts the smallest eigenvalues of K to a common level.

    Args:
      covariance: K [D, D], of the points.
      eps: float, >= 0.
    """
    _check_covariance(covariance)
    check_eps('eps', eps, 'l2')
    variances, basis = jnp.linalg.eigh(covariance)
    lifted = jnp.maximum(variances, water_level(variances, eps**2))
    return _matmul(basis * lifted[None], basis.T)


def trade_off(covariance, train_eps, eps):
    """What robustness costs: the mean NLL in nats, clean and under the worst universal perturbation of length eps, of
    `robust_covariance(covariance, train_eps)`, on points of that covariance. The first rises with train_eps; the second
    falls up to train_eps = eps.
    """
    check_eps('train_eps', train_eps, 'l2')
    fitted = robust_covariance(covariance, train_eps)
    size = len(covariance)
    _, log_det = jnp.linalg.slogdet(fitted)
    clean = 0.5 * (jnp.trace(jnp.linalg.solve(fitted, covariance)) + log_det + size * jnp.log(2 * jnp.pi))
    return clean, clean + universal_increase(fitted, eps)
