"""Linear classifiers with a known answer, shared by the attack and method tests."""

import jax.numpy as jnp
import numpy as np


def binary_model(rng: np.random.Generator, size: int):
    """(w [size], b, logits_fn): two-class logits (0, w.x + b) of images [B, H, W, C] with H W C = size."""
    w = rng.normal(size=size).astype(np.float32)
    b = np.float32(rng.normal() * 0.1)

    def logits_fn(images):
        score = images.reshape(images.shape[0], -1) @ jnp.asarray(w) + b
        return jnp.stack([jnp.zeros_like(score), score], axis=1)

    return w, b, logits_fn
