"""Convolutions of 3 rows of taps and stride 1 with half of the products: Winograd 1980, along the rows of an image.

Outputs come in tiles of 4 rows, of which each takes 6 rows of inputs: 6 combinations of these, 6 convolutions with a single
row of taps, 4 combinations of the results, where a plain convolution has 12 rows of products. (In both directions, as in
Lavin & Gray 2016, arXiv:1509.09308, it would be a quarter of the products, but 36 of them, which CPUs take longer to
prepare, and XLA four times longer to compile.) Rounding errors are a few times those of a plain convolution, 1e-5 of the
outputs' standard deviation at most: for float32 alone.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax

TILE, TAPS = 4, 3
_POINTS = np.array([0, 0.5, -0.5, 1.5, -1.5])  # of those tried, the ones that lose least in float32


def _transforms():
    """(data [6, 6], kernel [6, 3], outputs [4, 6]): matrices with which, for d [6] and g [3],

      outputs @ ((kernel @ g) * (data @ d)) = (sum_j g_j d_{i + j}) for i = 0..3.

    Polynomials of 4 and 3 coefficients are multiplied by their values at 6 points, the last one infinity, and interpolation
    (Toom-Cook); this is the transposed map.
    """

    def values(coefficients):
        return np.vstack([_POINTS[:, None] ** np.arange(coefficients), np.eye(coefficients)[-1:]])

    scales = [np.prod([a - b for b in _POINTS if b != a]) for a in _POINTS] + [1.0]  # without denominators in `data`
    scales = np.array(scales)[:, None]
    data = np.linalg.inv(values(TILE + TAPS - 1)).T * scales
    return np.where(abs(data) < 1e-12, 0, data), values(TAPS) / scales, values(TILE).T


DATA, KERNEL, OUTPUTS = _transforms()


def _combined(matrix, arrays):
    """The linear combinations of arrays that the rows of a matrix name."""
    combined = []
    for row in matrix.astype(np.float32):
        terms = [array if factor == 1 else factor * array for factor, array in zip(row, arrays, strict=True) if factor]
        combined.append(functools.reduce(jnp.add, terms))
    return combined


def output_rows(rows: int, pads) -> int:
    """How many rows come out of so many, padded (low, high)."""
    return rows + sum(pads) - TAPS + 1


def _windows(images, pads, axis: int):
    """The 6 combinations of the 6 rows (along `axis`) that each tile of outputs takes."""
    rows, low = images.shape[axis], pads[0]
    tiles = -(-output_rows(rows, pads) // TILE)
    fill = [(0, 0, 0)] * images.ndim
    fill[axis] = (low, TILE * tiles + TAPS - 1 - low - rows, 0)
    images = lax.pad(images, jnp.zeros((), images.dtype), fill)
    last = TILE * (tiles - 1) + 1
    return _combined(DATA, [lax.slice_in_dim(images, i, i + last, TILE, axis) for i in range(TILE + TAPS - 1)])


def conv2d(images, kernel, padding, conv):
    """The convolution of images [B, H, W, C] with a kernel [3, k, C, D], NHWC by HWIO: [B, H', W', D].

    padding: two (low, high) pairs; negative ones cut.
    conv: (images, kernel, padding) -> outputs, a plain convolution.
    """
    kernels = _combined(KERNEL, list(kernel))
    products = [
        conv(window, row[None], ((0, 0), padding[1]))
        for window, row in zip(_windows(images, padding[0], 1), kernels, strict=True)
    ]
    tiled = jnp.stack(_combined(OUTPUTS, products), 2)  # [B, H' / 4, 4, W', D]
    outputs = tiled.reshape(len(images), -1, *tiled.shape[3:])
    return outputs[:, : output_rows(images.shape[1], padding[0])]


def kernel_gradient(images, cotangent, padding, conv):
    """The gradient of `conv2d` with respect to its kernel, [3, k, C, D], of a cotangent [B, H', W', D]."""
    # Channels are the examples and examples the channels of the convolutions that give it.
    images, cotangent = images.transpose(3, 1, 2, 0), cotangent.transpose(1, 2, 0, 3)
    cotangent = jnp.pad(cotangent, ((0, -len(cotangent) % TILE), (0, 0), (0, 0), (0, 0)))
    bars = _combined(OUTPUTS.T, [cotangent[i::TILE] for i in range(TILE)])
    products = [
        conv(window, bar, ((0, 0), padding[1])) for window, bar in zip(_windows(images, padding[0], 1), bars, strict=True)
    ]
    return jnp.concatenate(_combined(KERNEL.T, products), 1).transpose(1, 2, 0, 3)
