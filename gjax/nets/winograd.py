"""Convolutions of 3 x 3 taps and stride 1 with a quarter of the products: Winograd 1980, in the form of Lavin & Gray 2016
(arXiv:1509.09308).

Outputs come in tiles of 4 x 4. A tile takes 6 x 6 products for each pair of channels, in place of 16 x 9: at each of the 36
points of transformed tiles, one multiplication of matrices. Rounding errors are some ten times those of a plain
convolution, 2e-6 of the outputs' standard deviation with 256 channels, so it is for float32 alone.
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


def _transposed(rows):
    return [list(column) for column in zip(*rows, strict=True)]


def _transformed(matrix, images, tiles):
    """M w M' of the windows w, as large as M [n, k] has columns, TILE apart: n lists of n arrays [B, tiles, C]."""
    size = range(matrix.shape[1])
    height, width = (TILE * (count - 1) + 1 for count in tiles)
    rows = _combined(matrix, [images[:, i : i + height : TILE] for i in size])
    # Kept as they are: the compiler would compute each of them again for every column.
    rows = lax.optimization_barrier(rows)
    return [_combined(matrix, [row[:, :, j : j + width : TILE] for j in size]) for row in rows]


def _both_sides(matrix, entries):
    """M e M' of a square of arrays e."""
    rows = _transposed([_combined(matrix, column) for column in _transposed(entries)])
    return [_combined(matrix, row) for row in rows]


def output_sizes(sizes, padding) -> list[int]:
    """(H', W') of (H, W)."""
    return [size + sum(pads) - TAPS + 1 for size, pads in zip(sizes, padding, strict=True)]


def tiles_of(sizes, padding) -> list[int]:
    """How many tiles the outputs take along each axis."""
    return [-(-size // TILE) for size in output_sizes(sizes, padding)]


def _fit(images, lows, sizes):
    """Images with so many zeros before them (less than none: cut), zeros after them or cut to (H, W) of `sizes`."""
    fill = [(low, size - old - low, 0) for low, size, old in zip(lows, sizes, images.shape[1:3], strict=True)]
    return lax.pad(images, jnp.zeros((), images.dtype), ((0, 0, 0), *fill, (0, 0, 0)))


def _windows(images, padding, tiles):
    """The transformed windows of images, of which each makes a tile of outputs."""
    padded = _fit(images, [low for low, _ in padding], [TILE * count + TAPS - 1 for count in tiles])
    return _transformed(DATA, padded, tiles)


def conv2d(images, kernel, padding):
    """The convolution of images [B, H, W, C] with a kernel [3, 3, C, D], NHWC by HWIO: [B, H', W', D].

    padding: two (low, high) pairs; negative ones cut.
    """
    channels, features = kernel.shape[2:]
    height, width = output_sizes(images.shape[1:3], padding)
    tiles = tiles_of(images.shape[1:3], padding)
    kernels = _both_sides(KERNEL, [list(row) for row in kernel])
    products = [
        [(window.reshape(-1, channels) @ kernel).reshape(-1, *tiles, features) for window, kernel in zip(*rows, strict=True)]
        for rows in zip(_windows(images, padding, tiles), kernels, strict=True)
    ]
    parts = _both_sides(OUTPUTS, products)
    # [B, H / t, W / t, D] of each position in a tile to [B, H / t, t, W / t, t, D]
    whole = jnp.stack([jnp.stack(row, 3) for row in parts], 2)
    return whole.reshape(-1, TILE * tiles[0], TILE * tiles[1], features)[:, :height, :width]


def kernel_gradient(images, cotangent, padding):
    """The gradient of `conv2d` with respect to its kernel, [3, 3, C, D], of a cotangent [B, H', W', D]."""
    tiles = tiles_of(images.shape[1:3], padding)
    bars = _transformed(OUTPUTS.T, _fit(cotangent, (0, 0), [TILE * count for count in tiles]), tiles)
    products = [
        [jnp.einsum('bhwc,bhwd->cd', window, bar) for window, bar in zip(*rows, strict=True)]
        for rows in zip(_windows(images, padding, tiles), bars, strict=True)
    ]
    return jnp.stack([jnp.stack(row) for row in _both_sides(KERNEL.T, products)])
