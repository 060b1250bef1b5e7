"""Maps (B, H, W, C) as rows (B, H * W * C) in another type: what a dense layer after a map takes."""

from typing import Any

import jax
from jax import lax


def flat(x: jax.Array, dtype: Any) -> jax.Array:
    """Rows, then their type; XLA may do either first."""
    return x.reshape(x.shape[0], -1).astype(dtype)


def flat_first(x: jax.Array, dtype: Any) -> jax.Array:
    """The same in this order: a TPU converts a map of one channel with a single number in each of its vectors."""
    return lax.optimization_barrier(x.reshape(x.shape[0], -1)).astype(dtype)
