"""Stochastic gates: a learnt binary mask for every domain on what enters some layers of a network (Chattopadhyay et al.
2020, arXiv:2008.12839, "Domain-specific Masks for Generalization").

Trees have one entry a masked layer. Mask logits are {layer: t [p, *units]}, one mask for each of p domains; a unit is kept
with probability q = sigmoid(t). Gates are {layer: m [B, *units]}, one mask for each example, and multiply what enters the
layer. They are not rescaled by 1 / q.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from gjax.checks import check_floats, check_integers, check_key, check_shape, check_shapes, concrete, one_of

REDUCTIONS = ('mean', 'sum')
SMOOTHING = 1e-6  # of `soft_iou`, as in the authors' code; the paper's formula has none


def _check_logits(logits) -> int:
    """The number of domains of mask logits; ValueError unless all are float [p, *units] of one p >= 1."""
    domains = 0
    if not isinstance(logits, dict) or not logits:
        raise ValueError(f'logits is {logits!r:.60}; allowed: a dict {{layer: [p, *units]}} of at least one layer')
    for layer, own in logits.items():
        check_shape(f'logits of {layer}', own, (None, None, ...), '[p, *units]')
        check_floats(**{f'logits of {layer}': own})
        domains = domains or own.shape[0]
        if own.shape[0] != domains or not own.size:
            raise ValueError(
                f'the shape of logits of {layer} is {tuple(own.shape)}; allowed: at least one unit of each of '
                f'{max(domains, 1)} domains, as in the first layer'
            )
    return domains


def of_examples(logits, domain):
    """The logits of the mask of each example's domain.

    Args:
      logits: {layer: [p, *units]}.
      domain: integers [B] in 0..p-1.

    Returns:
      {layer: [B, *units]}.

    Raises:
      ValueError: another shape or dtype; a domain outside its range, where it is concrete.
    """
    domains = _check_logits(logits)
    check_shape('domain', domain, (None,), '[B]')
    check_integers(domain=domain)
    values = concrete(domain)
    if values is not None and ((values < 0) | (values >= domains)).any():
        found = values[(values < 0) | (values >= domains)][0]
        raise ValueError(f'domain has the value {found}; allowed: 0..{domains - 1}')
    return {layer: own[domain] for layer, own in logits.items()}


def sample_gates(logits, *, rng):
    """Gates m ~ Bernoulli(q), drawn independently for every entry; the gradient is that of q ("straight through").

    m enters the forward pass, but dm / dt = q (1 - q). For a loss that is linear in m the gradient is that of the expected
    loss; for others it is biased.

    Args:
      logits: {layer: t [B, *units]}, of examples, as `of_examples` gives them.
      rng: one key.

    Returns:
      {layer: [B, *units]}, exactly 0 or 1, of the logits' dtype.
    """
    _check_logits(logits)
    check_key('rng', rng)
    gates = {}
    for number, (layer, own) in enumerate(sorted(logits.items())):
        kept = jax.nn.sigmoid(own)
        drawn = jax.random.uniform(jax.random.fold_in(rng, number), own.shape, own.dtype) < kept
        # The last difference is exactly zero, so that the value is exactly that of the draw.
        gates[layer] = jax.lax.stop_gradient(drawn.astype(own.dtype)) + (kept - jax.lax.stop_gradient(kept))
    return gates


def expected_gates(logits):
    """Gates q, the expectation of `sample_gates` ("softscale"): {layer: [..., *units]} in [0, 1], of the logits' shapes."""
    _check_logits(logits)
    return {layer: jax.nn.sigmoid(own) for layer, own in logits.items()}


def hard_gates(logits):
    """Gates 1 where q > 0.5, and 0 elsewhere ("greedy"); a logit of exactly 0 is off. Shapes and dtypes as of the logits."""
    _check_logits(logits)
    return {layer: (own > 0).astype(own.dtype) for layer, own in logits.items()}


def soft_iou(first, second, *, smoothing: float = SMOOTHING):
    """(sum q r + s) / (sum (q + r - q r) + s), the soft intersection over union of two masks.

    Of binary masks it is their intersection over union. Of two equal masks of constant q it is q / (2 - q), not 1.

    Args:
      first, second: keep probabilities q and r [..., units] in [0, 1], of one shape.
      smoothing: s.

    Returns:
      [...], in [0, 1].
    """
    check_shapes((..., None), '[..., units]', first=first, second=second)
    check_floats(first=first, second=second)
    both = first * second
    return (jnp.sum(both, axis=-1) + smoothing) / (jnp.sum(first + second - both, axis=-1) + smoothing)


def _pairs(domains: int) -> tuple[np.ndarray, np.ndarray]:
    """The first and the second domains of all pairs, int [p (p - 1) / 2] each."""
    pairs = np.asarray(list(itertools.combinations(range(domains), 2)), np.int32).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def overlap(logits, *, reduction: str = 'mean'):
    """The soft overlap of the domains' masks in every layer: `soft_iou` of all pairs of domains, averaged or added.

    The penalty of the paper is the sum of this over layers. Its figure draws the sum over pairs, the authors' code takes the
    mean: with p domains the sum is p (p - 1) / 2 times as large.

    Args:
      logits: {layer: [p, *units]}.
      reduction: 'mean' or 'sum', over pairs.

    Returns:
      {layer: scalar}; 0 for a single domain, which has no pairs.
    """
    one_of('reduction', reduction, REDUCTIONS)
    domains = _check_logits(logits)
    if domains == 1:
        return {layer: jnp.zeros((), own.dtype) for layer, own in logits.items()}
    first, second = _pairs(domains)
    reduce = jnp.mean if reduction == 'mean' else jnp.sum

    def of_layer(own):
        kept = jax.nn.sigmoid(own).reshape(domains, -1)
        return reduce(soft_iou(kept[first], kept[second]))

    return {layer: of_layer(own) for layer, own in logits.items()}


def mask_statistics(logits) -> dict[str, dict]:
    """What the hard masks (`hard_gates`) of p domains look like, layer by layer.

    Args:
      logits: {layer: [p, *units]}.

    Returns:
      {layer: {name: scalar}} with
        'on': the share of units that are on, averaged over domains.
        'specific': the share of units that are on in at least one domain, but not in all.
        'exclusive': the share of units that are on in exactly one domain of several.
        'empty': the number of domains in whose mask no unit is on, int32.
        'units_of_N' for N = 0..p: the share of units that are on in exactly N domains.
      and, for p >= 2, 'iou': the intersection over union of two domains' masks, averaged over pairs; 1 for two empty masks,
      for they are the same.
    """
    domains = _check_logits(logits)
    first, second = _pairs(domains)

    def of_layer(own):
        on = (own > 0).reshape(domains, -1)
        count = jnp.sum(on, axis=0)  # of each unit
        shares = {f'units_of_{n}': jnp.mean(count == n, dtype=jnp.float32) for n in range(domains + 1)}
        found = {
            'on': jnp.mean(on, dtype=jnp.float32),
            'specific': sum((shares[f'units_of_{n}'] for n in range(1, domains)), jnp.zeros(())),
            'exclusive': shares['units_of_1'] if domains > 1 else jnp.zeros(()),
            'empty': jnp.sum(~jnp.any(on, axis=1), dtype=jnp.int32),
            **shares,
        }
        if domains > 1:
            both = jnp.sum(on[first] & on[second], axis=1)
            either = jnp.sum(on[first] | on[second], axis=1)
            found['iou'] = jnp.mean(jnp.where(either > 0, both / jnp.maximum(either, 1), 1.0))
        return found

    return {layer: of_layer(own) for layer, own in logits.items()}
