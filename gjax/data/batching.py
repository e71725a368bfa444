"""Batches as pure functions of (seed, step), gathered and augmented on the device from uint8 images.

Nothing here has iterator state: a run that resumes at step t, or on another number of devices, sees the same examples.
"""

import jax
import jax.numpy as jnp
import numpy as np


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
    return _cropped(images, _offsets(rng, len(images), padding), padding, mode)


def _offsets(rng, batch: int, padding: int):
    return jax.random.randint(rng, (batch, 2), 0, 2 * padding + 1)


def _cropped(images, offsets, padding: int, mode: str, fill=0):
    _, height, width, channels = images.shape
    options = {'constant_values': fill} if mode == 'constant' else {}
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode=mode, **options)

    def crop(image, offset):
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), (height, width, channels))

    return jax.vmap(crop)(padded, offsets)


def flip(images, *, rng):
    """Mirrors each image left to right with probability 1/2; [B, H, W, C]."""
    return _mirrored(images, _mirrors(rng, len(images)))


def _mirrors(rng, batch: int):
    return jax.random.bernoulli(rng, 0.5, (batch, 1, 1, 1))


def _mirrored(images, mirrored):
    return jnp.where(mirrored, images[:, :, ::-1], images)


def augment(images, *, rng, padding: int = 0, padding_mode: str = 'reflect', mirror: bool = False):
    """pad_crop, then flip, as asked; any dtype, [B, H, W, C]."""
    return augment_batch({'image': images}, rng=rng, padding=padding, padding_mode=padding_mode, mirror=mirror)['image']


def augment_batch(
    batch: dict, *, rng, padding: int = 0, padding_mode: str = 'reflect', mirror: bool = False, ignore: int = 0
):
    """The batch with `augment`ed images and, if its labels are maps [B, H, W], these moved in the same way.

    ignore: the value of pixels of a map that padding with a constant brings in. A batch without images stays as it is.
    """
    if 'image' not in batch:
        return batch
    crop_rng, flip_rng = jax.random.split(rng)
    images, maps = batch['image'], batch.get('label')
    maps = maps[..., None] if maps is not None and maps.ndim == 3 else None
    if padding:
        offsets = _offsets(crop_rng, len(images), padding)
        images = _cropped(images, offsets, padding, padding_mode)
        maps = None if maps is None else _cropped(maps, offsets, padding, padding_mode, ignore)
    if mirror:
        mirrors = _mirrors(flip_rng, len(images))
        images = _mirrored(images, mirrors)
        maps = None if maps is None else _mirrored(maps, mirrors)
    return batch | {'image': images} | ({} if maps is None else {'label': maps[..., 0]})


def to_batch(columns, index) -> dict:
    """The batch of some examples: images, uint8 [B, H, W, C], become float32 in [0, 1]; labels and label maps become int32;
    points stay float32.

    Args:
      columns: {field: [B, ...]}.
      index: [B], the examples' own, which becomes 'index', int32.
    """
    batch = {}
    for name, values in columns.items():
        values = jnp.asarray(values)
        if name == 'image':
            batch[name] = values.astype(jnp.float32) / 255.0
        else:
            batch[name] = values.astype(jnp.int32) if name == 'label' else values
    return batch | {'index': jnp.asarray(index, jnp.int32)}


def to_levels(images) -> np.ndarray:
    """uint8 images of those in [0, 1]: the inverse of `to_batch`, on the host; what lies outside is clipped, NaN is 0."""
    return np.round(255 * np.clip(np.nan_to_num(np.asarray(images)), 0, 1)).astype(np.uint8)


def gather(columns: dict, index) -> dict:
    """The batch of these examples of a split's columns [N, ...], which lie on the devices."""
    return to_batch({name: values[index] for name, values in columns.items()}, index)
