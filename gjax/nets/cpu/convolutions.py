"""Convolutions, plain and transposed, whose values and gradients are fast on CPUs too, inside loops as outside."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gjax.nets.cpu import winograd

_NHWC = ('NHWC', 'HWIO', 'NHWC')
_THIN = 4  # channels; XLA's convolutions from and to so few are slow


def _conv(images, kernel, strides, padding, rhs_dilation=None, preferred_element_type=None):
    # XLA's CPU routines read beyond the images where padding is negative, so that is cut off here.
    cut = [[max(-side, 0) for side in sides] for sides in padding]
    if any(map(any, cut)):
        (top, bottom), (left, right) = cut
        images = images[:, top : images.shape[1] - bottom, left : images.shape[2] - right]
        padding = [[max(side, 0) for side in sides] for sides in padding]
    options = {'dimension_numbers': _NHWC, 'rhs_dilation': rhs_dilation, 'preferred_element_type': preferred_element_type}
    return lax.conv_general_dilated(images, kernel, strides, padding, **options)


def _transforms_pay(images, kernel_shape, strides, padding) -> bool:
    """Whether `gjax.nets.cpu.winograd` is faster on CPUs: with so many channels that the products outweigh what they need
    before and after, so many pixels that the kernel's part of that does not count, and few rows of tiles beyond the image.
    """
    if images.dtype != jnp.float32 or kernel_shape[:2] != (winograd.TAPS,) * 2 or tuple(strides) != (1, 1):
        return False
    rows = winograd.output_rows(images.shape[1], padding[0])
    few = len(images) * rows * images.shape[2] < 512
    return min(kernel_shape[2:]) >= 64 and not few and rows % winograd.TILE in (0, 3)


def _plain(images, kernel, padding):
    return _conv(images, kernel, (1, 1), padding)


def _rows_as_channels(images, kernel, strides, padding):
    """The convolution of thin images as one with a single row of taps: the rows that meet in an output become channels, so
    that the numbers each product takes lie side by side. Up to twice as fast.
    """
    (rows, columns, channels, features), (down, across) = kernel.shape, strides
    images = lax.pad(images, jnp.zeros((), images.dtype), ((0, 0, 0), (*padding[0], 0), (0, 0, 0), (0, 0, 0)))
    reach = images.shape[1] - rows + 1  # first rows of windows
    images = jnp.concatenate([images[:, i : i + reach : down] for i in range(rows)], 3)
    kernel = kernel.swapaxes(0, 1).reshape(1, columns, rows * channels, features)
    return _conv(images, kernel, (1, across), ((0, 0), padding[1]))


def _cpu_form(images, kernel_shape, strides, padding):
    """The function of images and kernel that is their convolution in the form that is the fastest on CPUs."""
    if _transforms_pay(images, kernel_shape, strides, padding):
        return partial(winograd.conv2d, padding=padding, conv=_plain)
    thin = images.shape[3] <= _THIN and kernel_shape[0] > 1
    return partial(_rows_as_channels if thin else _conv, strides=strides, padding=padding)


def _forward(images, kernel, strides, padding):
    native = partial(_conv, strides=strides, padding=padding)
    cpu = _cpu_form(images, kernel.shape, strides, padding)
    if cpu.func is _conv:
        return native(images, kernel)
    return lax.platform_dependent(images, kernel, cpu=cpu, default=native)


# Four forms of the input's gradient. Each is the fastest on CPUs for some shapes; `_input_gradient` chooses.


def _dilated_input_gradient(strides, padding, sizes, kernel, cotangent):
    """The convolution of the cotangent, zeros between its entries, with the flipped kernel."""
    pads = []
    axes = zip(sizes, kernel.shape[:2], strides, padding, cotangent.shape[1:3], strict=True)
    for size, taps, stride, (low, _), out in axes:
        pads.append((taps - 1 - low, size - (out - 1) * stride - 1 + low))
    flipped = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    if tuple(strides) == (1, 1):
        return _cpu_form(cotangent, flipped.shape, strides, pads)(cotangent, flipped)
    return lax.conv_general_dilated(cotangent, flipped, (1, 1), pads, lhs_dilation=strides, dimension_numbers=_NHWC)


def _shift(tap: int, low: int, size: int, out: int):
    """How `lax.pad` brings what an axis of a cotangent (`out`) gives through one tap to its place in images (`size`)."""
    return tap - low, size - out - tap + low, 0


def _summed_input_gradient(padding, sizes, kernel, cotangent):
    """Of stride 1: what each entry of the cotangent gives through each tap, one product of matrices, shifted and added."""
    given = jnp.einsum('bhwd,ijcd->bhwijc', cotangent, kernel, preferred_element_type=jnp.float32)
    total = 0.0
    for i, j in np.ndindex(kernel.shape[:2]):
        shifts = [
            _shift(tap, low, size, out)
            for tap, (low, _), size, out in zip((i, j), padding, sizes, cotangent.shape[1:3], strict=True)
        ]
        total += lax.pad(given[:, :, :, i, j], jnp.float32(0), ((0, 0, 0), *shifts, (0, 0, 0)))
    return total.astype(cotangent.dtype)


def _row_summed_input_gradient(padding, sizes, kernel, cotangent):
    """Of stride 1: what each row of the cotangent gives through each row of taps, a convolution with one such row, shifted
    and added. It takes no products with the padding above and below.
    """
    (rows, columns, channels, features), (low, _) = kernel.shape, padding[1]
    flipped = kernel[:, ::-1].transpose(1, 3, 0, 2).reshape(1, columns, features, rows * channels)
    pads = ((0, 0), (columns - 1 - low, sizes[1] - cotangent.shape[2] + low))
    given = _conv(cotangent, flipped, (1, 1), pads, preferred_element_type=jnp.float32)
    given = given.reshape(*given.shape[:3], rows, channels)
    total = 0.0
    for i in range(rows):
        shift = _shift(i, padding[0][0], sizes[0], cotangent.shape[1])
        total += lax.pad(given[:, :, :, i], jnp.float32(0), ((0, 0, 0), shift, (0, 0, 0), (0, 0, 0)))
    return total.astype(cotangent.dtype)


def _phases(size, taps, stride, low, out):
    """Along one axis, of the positions stride * m + r for r = 0, 1, ...: the taps that reach them, and how much padding
    of the cotangent makes a plain convolution with those, flipped, give one value for every m."""
    for r in range(stride):
        first = (r + low) % stride
        count = len(range(first, taps, stride))
        last = (r + low - first) // stride  # of the cotangent's entries that m = 0 takes
        yield slice(first, None, stride), (count - 1 - last, -(-size // stride) + last - out)


def _phased_input_gradient(strides, padding, sizes, kernel, cotangent):
    """One plain convolution with every stride-th tap for each phase of the positions: no products with zeros."""
    axes = zip(sizes, kernel.shape[:2], strides, padding, cotangent.shape[1:3], strict=True)
    rows, columns = (list(_phases(size, taps, stride, low, out)) for size, taps, stride, (low, _), out in axes)
    kernel, counts = jnp.swapaxes(kernel, 2, 3), [-(-size // stride) for size, stride in zip(sizes, strides, strict=True)]
    parts = []
    for row, high in rows:
        for column, wide in columns:
            own = kernel[row, column][::-1, ::-1]
            if own.size:
                part = _conv(cotangent, own, (1, 1), (high, wide))
            else:
                part = jnp.zeros((len(cotangent), *counts, kernel.shape[3]), cotangent.dtype)
            parts.append(part)
    # [B, H / s, W / s, C] of each phase to [B, H / s, s, W / s, s, C]
    whole = jnp.stack([jnp.stack(parts[r : r + strides[1]], 3) for r in range(0, len(parts), strides[1])], 2)
    height, width = (count * stride for count, stride in zip(counts, strides, strict=True))
    return whole.reshape(len(cotangent), height, width, -1)[:, : sizes[0], : sizes[1]]


def _input_gradient(strides, padding, sizes, kernel, cotangent):
    """The gradient of `conv2d` with respect to images of `sizes` (height, width), and so a transposed convolution."""
    channels = kernel.shape[2]  # if few, a convolution would have few products for every number that it reads
    if tuple(strides) != (1, 1):
        function = _dilated_input_gradient if channels <= _THIN else _phased_input_gradient
        return function(strides, padding, sizes, kernel, cotangent)
    # Where the cotangent is smaller than the images, as of 'VALID', the convolution would take many products with padding.
    positions = np.prod(sizes) / np.prod(cotangent.shape[1:3])
    few = 2 * _THIN if np.prod(kernel.shape[:2]) <= 9 else _THIN  # all taps' part of an image lies in memory at once
    if channels <= few or positions >= 4:
        return _summed_input_gradient(padding, sizes, kernel, cotangent)
    if channels <= 3 * _THIN or positions >= 1.4:
        return _row_summed_input_gradient(padding, sizes, kernel, cotangent)
    return _dilated_input_gradient(strides, padding, sizes, kernel, cotangent)


def _kernel_gradient(strides, padding, taps, images, cotangent):
    """The gradient of `conv2d` with respect to a kernel of so many taps, as a plain NHWC convolution: the one form that
    XLA's CPU backend runs fast inside a loop.
    """
    if _transforms_pay(images, (*taps, images.shape[3], cotangent.shape[3]), strides, padding):
        return winograd.kernel_gradient(images, cotangent, padding, _plain)
    kernel_padding = []
    axes = zip(images.shape[1:3], taps, strides, padding, cotangent.shape[1:3], strict=True)
    for size, tap, stride, (low, _), out in axes:
        kernel_padding.append((low, tap + (out - 1) * stride - size - low))
    kernel_bar = _conv(images.transpose(3, 1, 2, 0), cotangent.transpose(1, 2, 0, 3), (1, 1), kernel_padding, strides)
    return kernel_bar.transpose(1, 2, 0, 3)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv2d(images, kernel, strides, padding):
    """2-D convolution, NHWC by HWIO, equal to `lax.conv_general_dilated` in value and gradient.

    XLA's CPU backend brings convolutions into its fast layout only outside loops, so the gradients of an ordinary
    convolution run 3 to 40 times slower inside `lax.scan` and `lax.fori_loop` (jax issue 12868): just where attacks and
    fused training steps live. Here they are written in that layout. Where it pays, the convolution and its gradients are
    taken in Winograd's form (`gjax.nets.cpu.winograd`), and those of few channels in other forms of the same products. Other
    backends keep XLA's own rule.

    Args:
      images: [B, H, W, C].
      kernel: [kh, kw, C, D].
      strides: two ints.
      padding: two (low, high) pairs.

    Returns:
      [B, H', W', D]. Reverse mode (to any order) is defined, forward mode (`jax.jvp`) is not.
    """
    return _forward(images, kernel, strides, padding)


def _conv2d_fwd(images, kernel, strides, padding):
    return _forward(images, kernel, strides, padding), (images, kernel)


def _conv2d_bwd(strides, padding, residuals, cotangent):
    def xla(images, kernel, cotangent):
        return jax.vjp(lambda x, w: _conv(x, w, strides, padding), images, kernel)[1](cotangent)

    def own(images, kernel, cotangent):
        return (
            _input_gradient(strides, padding, images.shape[1:3], kernel, cotangent),
            _kernel_gradient(strides, padding, kernel.shape[:2], images, cotangent),
        )

    return lax.platform_dependent(*residuals, cotangent, cpu=own, default=xla)


conv2d.defvjp(_conv2d_fwd, _conv2d_bwd)


def _transposed_padding(taps, strides):
    """What `lax.conv_transpose` pads the dilated input with for 'SAME': outputs are strides times as large as inputs."""
    pads = []
    for tap, stride in zip(taps, strides, strict=True):
        total = tap + stride - 2
        low = tap - 1 if stride > tap - 1 else -(-total // 2)
        pads.append((low, total - low))
    return pads


def _conv_transpose(features, kernel, strides):
    padding = _transposed_padding(kernel.shape[:2], strides)
    return lax.conv_general_dilated(features, kernel, (1, 1), padding, lhs_dilation=strides, dimension_numbers=_NHWC)


def _strided(kernel, strides):
    """The kernel and padding of the strided convolution whose input gradient is the transposed one with `kernel`."""
    taps = kernel.shape[:2]
    pads = _transposed_padding(taps, strides)
    padding = tuple((tap - 1 - low, tap - 1 - high) for tap, (low, high) in zip(taps, pads, strict=True))
    return jnp.swapaxes(kernel[::-1, ::-1], 2, 3), padding


def _forward_transpose(features, kernel, strides):
    def phased(features, kernel):
        flipped, padding = _strided(kernel, strides)
        sizes = [size * stride for size, stride in zip(features.shape[1:3], strides, strict=True)]
        return _input_gradient(strides, padding, sizes, flipped, features)

    return lax.platform_dependent(features, kernel, cpu=phased, default=lambda x, w: _conv_transpose(x, w, strides))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv_transpose2d(features, kernel, strides):
    """Transposed convolution with 'SAME' padding, equal to `lax.conv_transpose` in value and gradient.

    It is the input gradient of a strided convolution of the flipped kernel, so its own gradients are that convolution and
    that convolution's kernel gradient. XLA's CPU backend does not find this for the kernel: 12 to 17 times slower. Nor
    does it leave out the products with the zeros between the features. Other backends keep XLA's own rules.

    Args:
      features: [B, H, W, C].
      kernel: [kh, kw, C, D].
      strides: two ints.

    Returns:
      [B, H s, W s, D]. Reverse mode (to any order) is defined, forward mode (`jax.jvp`) is not.
    """
    return _forward_transpose(features, kernel, strides)


def _conv_transpose2d_fwd(features, kernel, strides):
    return _forward_transpose(features, kernel, strides), (features, kernel)


def _conv_transpose2d_bwd(strides, residuals, cotangent):
    def strided(features, kernel, cotangent):
        flipped, padding = _strided(kernel, strides)
        flipped_bar = _kernel_gradient(strides, padding, flipped.shape[:2], cotangent, features)
        return conv2d(cotangent, flipped, strides, padding), jnp.swapaxes(flipped_bar[::-1, ::-1], 2, 3)

    def xla(features, kernel, cotangent):
        return jax.vjp(lambda x, w: _conv_transpose(x, w, strides), features, kernel)[1](cotangent)

    return lax.platform_dependent(*residuals, cotangent, cpu=strided, default=xla)


conv_transpose2d.defvjp(_conv_transpose2d_fwd, _conv_transpose2d_bwd)
