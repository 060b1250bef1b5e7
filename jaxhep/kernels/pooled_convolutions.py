"""A chain of convolutions that keep the map's size, each followed by its bias, 2 x 2 max-pool and ReLU.

Both forms take x (B, H, W, C) and a list of (kernel (size, size, C, features), bias (features,)). Where a kernel is
even, the odd cell of padding goes below and to the right (as PyTorch's padding="same" and XLA's "SAME" both do).
B batch, H layers (rows), W cells (columns), C channels, F features.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxhep.kernels.bias import add_bias
from jaxhep.kernels.convolution import convolution
from jaxhep.kernels.max_pool import max_pool

# Measured on a CPU: of 16, 32, 64 and 128 events, the maps of 32 were the quickest that stay in the cache.
EVENTS_AT_A_TIME = 32


def pooled_convolutions(
    x: jax.Array,
    weights: Sequence[tuple[jax.Array, jax.Array]],
    convolution: Callable[..., jax.Array] = convolution,
    max_pool: Callable[..., jax.Array] = max_pool,
) -> jax.Array:
    """One after the other, from these forms of convolution and max-pool: (B, rows, columns, features)."""
    for kernel, bias in weights:
        x = add_bias(convolution(x, kernel, padding=padding_of(kernel.shape[0])), bias)
        # ReLU and maximum commute; pooling first leaves a quarter of the cells to ReLU.
        x = nn.relu(max_pool(x, (2, 2), (2, 2)))
    return x


def with_events_innermost(x: jax.Array, weights: Sequence[tuple[jax.Array, jax.Array]]) -> jax.Array:
    """The same with the events as innermost axis, some at a time, which is far quicker on a CPU for few channels.

    With twelve channels innermost, vector instructions of sixteen numbers run half empty and every shifted or strided
    read is of a few numbers; with the events innermost all reads are of whole rows of events.
    """

    def chain(x):
        x = x.transpose(3, 1, 2, 0)
        for kernel, bias in weights:
            x = pooled(convolved(x, kernel), bias)
        return x.transpose(3, 1, 2, 0)

    return in_chunks(chain, x)


def in_chunks(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
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
    """Padding before and after that keeps the size of a map under windows of `size`."""
    return (size - 1) // 2, size // 2


def pad(x: jax.Array, before: int, after: int) -> jax.Array:
    """Zeros around the rows and columns of x (..., H, W, B)."""
    edges = [(0, 0, 0)] * (x.ndim - 3) + [(before, after, 0)] * 2 + [(0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), edges)


def patches(x: jax.Array, size: int) -> jax.Array:
    """The window around every cell of x (C, H, W, B), of size x size: (size * size * C, H * W * B)."""
    height, width = x.shape[1:3]
    # The barriers here and below keep XLA from computing an array anew inside each of its many shifted reads.
    x = pad(lax.optimization_barrier(x), *padding_of(size))
    cells = [x[:, i : i + height, j : j + width] for i in range(size) for j in range(size)]
    return lax.optimization_barrier(jnp.concatenate(cells)).reshape(size * size * x.shape[0], -1)


@jax.custom_vjp
def convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of x (C, H, W, B) with a square kernel (size, size, C, F), padded to keep the size: (F, H, W, B)."""
    return _convolved_forward(x, kernel)[0]


def _convolved_forward(x, kernel):
    gathered = patches(x, kernel.shape[0])
    matrix = kernel.reshape(-1, kernel.shape[-1])
    return (matrix.T @ gathered).reshape(-1, *x.shape[1:]), (gathered, kernel, x)


def _convolved_backward(saved, gradient):
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


convolved.defvjp(_convolved_forward, _convolved_backward)


def quarters(y: jax.Array) -> list[jax.Array]:
    """The four cells of each 2 x 2 block of y (F, H, W, B), each (F, H // 2, W // 2, B)."""
    height, width = y.shape[1] // 2 * 2, y.shape[2] // 2 * 2
    return [y[:, i:height:2, j:width:2] for i in range(2) for j in range(2)]


@jax.custom_vjp
def pooled(y: jax.Array, bias: jax.Array) -> jax.Array:
    """ReLU of bias (F,) and the largest of each 2 x 2 block of y (F, H, W, B): (F, H // 2, W // 2, B).

    The gradient goes to the first of equal values, as in PyTorch.
    """
    return jnp.maximum(reduce(jnp.maximum, quarters(y)) + bias[:, None, None, None], 0)


def _pooled_forward(y, bias):
    found = pooled(y, bias)
    return found, (y, found)


def _pooled_backward(saved, gradient):
    y, found = saved
    gradient = lax.optimization_barrier(jnp.where(found > 0, gradient, 0))
    cells = quarters(y)
    largest = reduce(jnp.maximum, cells)
    taken: Any = jnp.zeros(largest.shape, bool)
    parts = []
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


pooled.defvjp(_pooled_forward, _pooled_backward)
