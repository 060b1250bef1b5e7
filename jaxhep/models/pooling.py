"""Max-pool, by XLA's window reduction or by comparing slices, whose gradient is far quicker on a CPU.

B batch, H layers (rows), W cells (columns), C channels; windows are given as (rows, columns).
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from .convolution import formulation_of, pad, sides, windows


def max_pool(x, window, strides, padding=0, formulation: str = "auto"):
    """Largest value of each window of x (B, H, W, C); the gradient goes to the first of equal values, as in PyTorch.

    formulation: a name of `FORMULATIONS` or "auto". "direct" is XLA's window reduction, "slices" compares the strided
    slices of the input one after the other, whose gradient is far quicker on a CPU.
    """
    padding = sides(padding)
    if formulation_of(formulation).max_pool == "direct":
        return nn.max_pool(x, window, strides, padding)
    if tuple(window) == tuple(strides) and padding == ((0, 0), (0, 0)):
        return largest_of_blocks(x, tuple(window))
    return largest_of(windows(pad(x, padding, -jnp.inf), window, strides))


def largest_of(arrays: list):
    """Elementwise maximum of several arrays."""
    largest, *others = arrays
    for other in others:
        # "or not a number" lets a diverged network show, as the window reduction does.
        largest = jnp.where((other > largest) | jnp.isnan(other), other, largest)
    return largest


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def largest_of_blocks(x, block: tuple[int, int]):
    """Maximum over blocks of (rows, columns) of x (B, H, W, C) that do not overlap; what does not fill one is left out."""
    return largest_of(windows(x, block, block))


def largest_of_blocks_forward(x, block):
    """The maximum, and what its gradient needs."""
    largest = largest_of_blocks(x, block)
    return largest, (x, largest)


def largest_of_blocks_backward(block, saved, gradient):
    """Gradient of x, written in one pass: autodiff would add one array with holes per cell of the block."""
    x, largest = saved
    taken, parts = jnp.zeros(largest.shape, bool), []
    for cell in windows(x, block, block):
        parts.append(jnp.where((cell == largest) & ~taken, gradient, 0))
        taken |= cell == largest
    rows = [jnp.stack(parts[first : first + block[1]], axis=3) for first in range(0, len(parts), block[1])]
    batch, height, width, channels = largest.shape
    spread = jnp.stack(rows, axis=2).reshape(batch, height * block[0], width * block[1], channels)
    return (pad(spread, ((0, x.shape[1] - spread.shape[1]), (0, x.shape[2] - spread.shape[2]))),)


largest_of_blocks.defvjp(largest_of_blocks_forward, largest_of_blocks_backward)
