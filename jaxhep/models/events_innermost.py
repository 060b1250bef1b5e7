"""Convolution and max-pool of maps with few channels on a CPU: the events are the innermost axis.

With twelve channels innermost, vector instructions of sixteen numbers run half empty and every shifted or strided read
is of a few numbers; with the events innermost all reads are of whole rows of events. The numbers are those of
`jaxhep.models.convolution`. C channels, H layers (rows), W cells (columns), B batch, F features.
"""

from collections.abc import Callable
from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax

# Measured on a CPU: of 16, 32, 64 and 128 events, the maps of 32 were the quickest that stay in the cache.
EVENTS_AT_A_TIME = 32


def in_chunks(function: Callable, x):
    """The function of maps x (B, H, W, C), some events at a time and once more for the gradient; its result is (B, ...).

    What the last chunk lacks is filled with zeros, which are cut off again.
    """
    events = x.shape[0]
    chunks = -(-events // EVENTS_AT_A_TIME)
    if chunks == 1:
        return function(x)
    size = -(-events // chunks)
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, chunks * size - events, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0)))
    found = lax.map(jax.checkpoint(function), x.reshape(chunks, size, *x.shape[1:]))
    return found.reshape(chunks * size, *found.shape[2:])[:events]


def padding_of(size: int) -> tuple[int, int]:
    """Padding before and after that keeps the size of a map under windows of `size`; the odd cell goes behind."""
    return (size - 1) // 2, size // 2


def pad(x, before: int, after: int):
    """Zeros around the rows and columns of x (..., H, W, B)."""
    edges = [(0, 0, 0)] * (x.ndim - 3) + [(before, after, 0)] * 2 + [(0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), edges)


def patches(x, size: int):
    """The window around every cell of x (C, H, W, B), of size x size: (size * size * C, H * W * B)."""
    height, width = x.shape[1:3]
    # The barriers here and below keep XLA from computing an array anew inside each of its many shifted reads.
    x = pad(lax.optimization_barrier(x), *padding_of(size))
    cells = [x[:, i : i + height, j : j + width] for i in range(size) for j in range(size)]
    return lax.optimization_barrier(jnp.concatenate(cells)).reshape(size * size * x.shape[0], -1)


@jax.custom_vjp
def convolution(x, kernel):
    """Convolution of x (C, H, W, B) with a square kernel (size, size, C, F), padded to keep the size: (F, H, W, B)."""
    return convolution_forward(x, kernel)[0]


def convolution_forward(x, kernel):
    """The convolution, and what its gradient needs."""
    gathered = patches(x, kernel.shape[0])
    matrix = kernel.reshape(-1, kernel.shape[-1])
    return (matrix.T @ gathered).reshape(-1, *x.shape[1:]), (gathered, kernel, x)


def convolution_backward(saved, gradient):
    """Gradients of x and kernel."""
    gathered, kernel, x = saved
    size, features = kernel.shape[0], kernel.shape[-1]
    (before, after), (height, width) = padding_of(size), x.shape[1:3]
    gradient = lax.optimization_barrier(gradient).reshape(features, -1)
    of_kernel = (gathered @ gradient.T).reshape(kernel.shape)
    # Each cell collects what the windows that hold it say of it: shifts the other way round, in one pass.
    of_patches = (kernel.reshape(-1, features) @ gradient).reshape(size, size, *x.shape)
    of_patches = lax.optimization_barrier(pad(of_patches, after, before))
    shifts = [(i, j, after + before - i, after + before - j) for i in range(size) for j in range(size)]
    of_x = sum(of_patches[i, j, :, row : row + height, column : column + width] for i, j, row, column in shifts)
    return of_x, of_kernel


convolution.defvjp(convolution_forward, convolution_backward)


def quarters(y) -> list:
    """The four cells of each 2 x 2 block of y (F, H, W, B), each (F, H // 2, W // 2, B)."""
    height, width = y.shape[1] // 2 * 2, y.shape[2] // 2 * 2
    return [y[:, i:height:2, j:width:2] for i in range(2) for j in range(2)]


@jax.custom_vjp
def pooled(y, bias):
    """ReLU of bias (F,) and the largest of each 2 x 2 block of y (F, H, W, B): (F, H // 2, W // 2, B).

    The gradient goes to the first of equal values, as in PyTorch.
    """
    return jnp.maximum(reduce(jnp.maximum, quarters(y)) + bias[:, None, None, None], 0)


def pooled_forward(y, bias):
    """The result, and what its gradient needs."""
    found = pooled(y, bias)
    return found, (y, found)


def pooled_backward(saved, gradient):
    """Gradients of y and bias."""
    y, found = saved
    gradient = lax.optimization_barrier(jnp.where(found > 0, gradient, 0))
    cells = quarters(y)
    largest = reduce(jnp.maximum, cells)
    taken, parts = jnp.zeros(largest.shape, bool), []
    for cell in cells:
        parts.append(jnp.where((cell == largest) & ~taken, gradient, 0))
        taken |= cell == largest
    features, height, width, events = largest.shape
    rows = [jnp.stack(parts[first : first + 2], axis=3) for first in (0, 2)]
    spread = jnp.stack(rows, axis=2).reshape(features, 2 * height, 2 * width, events)
    edges = ((0, 0, 0), (0, y.shape[1] - 2 * height, 0), (0, y.shape[2] - 2 * width, 0), (0, 0, 0))
    wide = jnp.promote_types(y.dtype, jnp.float32)
    of_bias = jnp.sum(gradient, axis=(1, 2, 3), dtype=wide).astype(y.dtype)
    return lax.pad(spread, jnp.zeros((), spread.dtype), edges), of_bias


pooled.defvjp(pooled_forward, pooled_backward)
