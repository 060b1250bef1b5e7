"""Largest value of each window of x (B, H, W, C); the gradient goes to the first of equal values, as in PyTorch.

Both forms take (x, window, strides, padding); windows are given as (rows, columns).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxhep.kernels.windows import pad, sides, windows


def max_pool(x: jax.Array, window: Any, strides: Any, padding: Any = 0) -> jax.Array:
    """XLA's window reduction."""
    return nn.max_pool(x, window, strides, sides(padding))


def by_slices(x: jax.Array, window: Any, strides: Any, padding: Any = 0) -> jax.Array:
    """The strided slices of the input compared one after the other, whose gradient is far quicker on a CPU."""
    padding = sides(padding)
    if tuple(window) == tuple(strides) and padding == ((0, 0), (0, 0)):
        return largest_of_blocks(x, tuple(window))
    return largest_of(windows(pad(x, padding, -jnp.inf), window, strides))


def largest_of(arrays: list[jax.Array]) -> jax.Array:
    """Elementwise maximum of several arrays."""
    largest, *others = arrays
    for other in others:
        # "or not a number" lets a diverged network show, as the window reduction does.
        largest = jnp.where((other > largest) | jnp.isnan(other), other, largest)
    return largest


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def largest_of_blocks(x: jax.Array, block: tuple[int, int]) -> jax.Array:
    """Maximum over blocks of (rows, columns) that do not overlap; what does not fill one is left out."""
    return largest_of(windows(x, block, block))


def _forward(x, block):
    largest = largest_of_blocks(x, block)
    return largest, (x, largest)


def _backward(block, saved, gradient):
    # Written in one pass: autodiff would add one array with holes per cell of the block.
    x, largest = saved
    taken, parts = jnp.zeros(largest.shape, bool), []
    for cell in windows(x, block, block):
        parts.append(jnp.where((cell == largest) & ~taken, gradient, 0))
        taken |= cell == largest
    rows = [jnp.stack(parts[first : first + block[1]], axis=3) for first in range(0, len(parts), block[1])]
    batch, height, width, channels = largest.shape
    spread = jnp.stack(rows, axis=2).reshape(batch, height * block[0], width * block[1], channels)
    return (pad(spread, ((0, x.shape[1] - spread.shape[1]), (0, x.shape[2] - spread.shape[2]))),)


largest_of_blocks.defvjp(_forward, _backward)
