"""Convolution of x (B, H, W, C) with a kernel (rows, columns, C, features).

Every form takes (x, kernel, strides, padding, dtype), `dtype` the type of the products where that is not the type of x,
and gives the same numbers; on CPUs their speed differs by factors of tens.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxhep.kernels import windows as over
from jaxhep.kernels.product import rounded

# Measured on a CPU: patches of a small map are made all at once, those of a larger one for a few events at a time;
# without a loop or a batch of kernels around it, XLA's own convolution wins between TINY_MAP and SMALL_MAP.
TINY_MAP, SMALL_MAP = 8, 32


def convolution(
    x: jax.Array, kernel: jax.Array, strides: Any = (1, 1), padding: Any = 0, dtype: Any = None
) -> jax.Array:
    """XLA's convolution (cuDNN on a GPU), in the type of x."""
    del dtype
    sides = over.sides(padding)
    for axis in (0, 1):
        over.output_size(x.shape[1 + axis], kernel.shape[axis], strides[axis], sides[axis])  # says what does not fit
    return lax.conv_general_dilated(x, kernel, strides, sides, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def of_live_cells(
    x: jax.Array, kernel: jax.Array, strides: Any = (1, 1), padding: Any = 0, dtype: Any = None
) -> jax.Array:
    """XLA's convolution, without the cells of the kernel that only ever meet padding."""
    kernel, padding = live_part(x, kernel, strides, padding)
    return convolution(x, kernel, strides, padding, dtype)


def by_patches(
    x: jax.Array, kernel: jax.Array, strides: Any = (1, 1), padding: Any = 0, dtype: Any = None
) -> jax.Array:
    """Each window gathered into a row, and one product: for all events at once."""
    return multiplied(x, *live_part(x, kernel, strides, padding), strides, dtype, whole=True)


def by_chunks(x: jax.Array, kernel: jax.Array, strides: Any = (1, 1), padding: Any = 0, dtype: Any = None) -> jax.Array:
    """The same for some events at a time, whose patches stay in the cache and are gathered again for the gradient."""
    return multiplied(x, *live_part(x, kernel, strides, padding), strides, dtype, whole=False)


def by_size(own: bool) -> Callable[..., jax.Array]:
    """Return the convolution that takes the quickest form on a CPU for the size of the map.

    own: whether XLA's own, which is slow in loops and does not round its operands, is among them.
    """

    def convolve(
        x: jax.Array, kernel: jax.Array, strides: Any = (1, 1), padding: Any = 0, dtype: Any = None
    ) -> jax.Array:
        live, sides = live_part(x, kernel, strides, padding)
        positions, channels = number_of_positions(x, live, strides, sides), x.shape[-1]
        allowed = own and dtype in (None, x.dtype) and live.shape[:2] != (1, 1)
        if allowed and channels > 1 and TINY_MAP < positions <= SMALL_MAP:
            return of_live_cells(x, kernel, strides, padding)
        form = by_patches if positions <= SMALL_MAP or channels == 1 else by_chunks
        return form(x, kernel, strides, padding, dtype)

    return convolve


def live_part(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any) -> tuple[jax.Array, over.Sides]:
    """Return the part of the kernel that meets data, and its padding."""
    padding = over.sides(padding)
    rows, above_below = over.live(x.shape[1], kernel.shape[0], strides[0], padding[0])
    columns, left_right = over.live(x.shape[2], kernel.shape[1], strides[1], padding[1])
    return kernel[rows, columns], (above_below, left_right)


def number_of_positions(x: jax.Array, kernel: jax.Array, strides: Any, padding: over.Sides) -> int:
    """Return the number of cells of the map that the convolution gives."""
    rows = over.output_size(x.shape[1], kernel.shape[0], strides[0], padding[0])
    return rows * over.output_size(x.shape[2], kernel.shape[1], strides[1], padding[1])


def multiplied(
    x: jax.Array, kernel: jax.Array, padding: over.Sides, strides: Any, dtype: Any, whole: bool
) -> jax.Array:
    """Return patches times matrix, for the `whole` batch at once or some events at a time."""
    matrix = kernel.reshape(-1, kernel.shape[-1])

    def multiply(x, matrix):
        patches = jnp.concatenate(over.windows(over.pad(x, padding), kernel.shape[:2], strides), -1)
        return rounded(patches, matrix, x.dtype if dtype is None else dtype)

    batch = x.shape[0]
    chunk = batch if whole else over.events_at_a_time(batch, number_of_positions(x, kernel, strides, padding))
    if chunk == batch:
        return multiply(x, matrix)
    multiply = jax.checkpoint(multiply)
    y = lax.map(lambda events: multiply(events, matrix), x.reshape(batch // chunk, chunk, *x.shape[1:]))
    return y.reshape(batch, *y.shape[2:])
