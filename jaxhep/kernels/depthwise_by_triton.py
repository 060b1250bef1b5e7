"""The gradient of a depthwise convolution's kernel for NVIDIA GPUs (Triton): input and gradient are read once for all cells
of the window. XLA makes a sum of each cell, in four or five kernels that read both again.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxhep.kernels.partition import EVENTS, SUMMED, over_batch
from jaxhep.kernels.triton_tiles import call, load, power, store
from jaxhep.kernels.windows import Sides

WIDE = jnp.float32
CHANNELS = 64  # of a program


def _kernel_sums(x_ref, gradient_ref, found_ref, *, window, before):
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    (_, rows, columns, channels), (_, high, wide, _) = x_ref.shape, gradient_ref.shape
    event, size = pl.program_id(0), power(wide)
    start, width = pl.program_id(1) * CHANNELS, min(CHANNELS, power(channels))
    own = (start, width, channels)
    channel = start + lax.broadcasted_iota(jnp.int32, (size, width), 1)

    def cell(row, column):
        """Row of the input that meets a row of the gradient, from this column on; zeros outside the map."""
        place = column + lax.broadcasted_iota(jnp.int32, (size, width), 0)
        inside = (place >= 0) & (place < columns) & (channel < channels) & (row >= 0) & (row < rows)
        index = (event, jnp.clip(row, 0, rows - 1), jnp.clip(place, 0, columns - 1), jnp.minimum(channel, channels - 1))
        return triton.load(x_ref.at[index], mask=inside, other=jnp.zeros((), x_ref.dtype)).astype(WIDE)

    def add(row, sums):
        gradient = load(gradient_ref, event, row, (0, size, wide), own).astype(WIDE)
        cells = (cell(row + i - before[0], j - before[1]) for i in range(window[0]) for j in range(window[1]))
        return tuple(total + jnp.sum(values * gradient, axis=0) for total, values in zip(sums, cells, strict=True))

    sums = lax.fori_loop(0, high, add, (jnp.zeros(width, WIDE),) * (window[0] * window[1]))
    for number, total in enumerate(sums):
        store(found_ref, total, event, number, own)


def kernel_sums(x: jax.Array, gradient: jax.Array, window: tuple[int, int], padding: Sides) -> jax.Array:
    """As `depthwise.kernel_sums`."""

    def of_events(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
        (batch, *_, channels), cells = x.shape, window[0] * window[1]
        kernel = partial(_kernel_sums, window=window, before=(padding[0][0], padding[1][0]))
        results = [jax.ShapeDtypeStruct((batch, cells, channels), WIDE)]
        (found,) = call(kernel, (batch, -(-channels // CHANNELS)), results, 0.0, x, gradient)
        return (jnp.sum(found, axis=0),)

    (found,) = over_batch(of_events, (EVENTS, EVENTS), (SUMMED,))(x, gradient)
    return found
