"""Batches as pure functions of (seed, step), gathered and augmented on the device from uint8 images.

Nothing here has iterator state: a run that resumes at step t, or on another number of devices, sees the same examples.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class DeviceData(NamedTuple):
    """A split on the devices: images uint8 [N, H, W, C], labels int32 [N]."""

    images: jax.Array
    labels: jax.Array


def epoch_order(rng, epoch, num_examples: int):
    """The permutation of 0..N-1 in which epoch `epoch` visits the examples, int32 [N]."""
    return jax.random.permutation(jax.random.fold_in(rng, epoch), num_examples)


def batch_index(rng, step, num_examples: int, batch_size: int):
    """The examples of batch `step`: [batch_size] distinct indices.

    Every epoch is a fresh permutation; the examples left over by the last whole batch wait for another epoch.
    """
    steps_per_epoch = num_examples // batch_size
    order = epoch_order(rng, step // steps_per_epoch, num_examples)
    return jax.lax.dynamic_slice_in_dim(order, (step % steps_per_epoch) * batch_size, batch_size)


def pad_crop(images, *, rng, padding: int, mode: str = 'reflect'):
    """Pads every side by `padding`, then crops each image at its own random offset; [B, H, W, C] in and out.

    mode: 'reflect', 'edge' or 'constant' (zeros), as in numpy.pad.
    """
    batch, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode=mode)
    offsets = jax.random.randint(rng, (batch, 2), 0, 2 * padding + 1)

    def crop(image, offset):
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), (height, width, channels))

    return jax.vmap(crop)(padded, offsets)


def flip(images, *, rng):
    """Mirrors each image left to right with probability 1/2; [B, H, W, C]."""
    mirrored = jax.random.bernoulli(rng, 0.5, (images.shape[0], 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def augment(images, *, rng, padding: int = 0, padding_mode: str = 'reflect', mirror: bool = False):
    """pad_crop, then flip, as asked; any dtype, [B, H, W, C]."""
    crop_rng, flip_rng = jax.random.split(rng)
    if padding:
        images = pad_crop(images, rng=crop_rng, padding=padding, mode=padding_mode)
    return flip(images, rng=flip_rng) if mirror else images


def to_batch(images, labels, index):
    """The batch dict of uint8 images [B, H, W, C], labels [B] and indices [B]; images become float32 in [0, 1]."""
    images = jnp.asarray(images).astype(jnp.float32) / 255.0
    return {'image': images, 'label': jnp.asarray(labels, jnp.int32), 'index': jnp.asarray(index, jnp.int32)}


def to_levels(images) -> np.ndarray:
    """uint8 images of those in [0, 1]: the inverse of `to_batch`, on the host; what lies outside is clipped, NaN is 0."""
    return np.round(255 * np.clip(np.nan_to_num(np.asarray(images)), 0, 1)).astype(np.uint8)


def gather(data: DeviceData, index):
    """The batch dict of these examples; images float32 in [0, 1]."""
    return to_batch(data.images[index], data.labels[index], index)
