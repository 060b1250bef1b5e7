"""Sliding windows over maps: what convolution, depthwise convolution and max-pool share.

B batch, H layers (rows), W cells (columns), C channels; windows are given as (rows, columns).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Sides = tuple[tuple[int, int], tuple[int, int]]


def sides(padding: Any) -> Sides:
    """Padding as ((above, below), (left, right)), from that form, from (before, after) for both axes, or one number."""
    if isinstance(padding, int):
        padding = (padding, padding)
    if isinstance(padding[0], int):
        padding = (padding, padding)
    return tuple(padding[0]), tuple(padding[1])


def output_size(size: int, window: int, stride: int, padding: tuple[int, int]) -> int:
    """Number of window positions along one axis. Raises ValueError where the window does not fit once."""
    positions = (size + padding[0] + padding[1] - window) // stride + 1
    if positions < 1:
        raise ValueError(f"a window of {window} does not fit into {size} cells padded by {padding[0]} and {padding[1]}")
    return positions


def live(size: int, window: int, stride: int, padding: tuple[int, int]) -> tuple[slice, tuple[int, int]]:
    """Part of the window that ever meets data rather than padding, and the padding that goes with it (negative: crop).

    On the 1 x 3 maps at the end of a ResNet two thirds of a 3 x 3 kernel only ever multiply zeros.
    """
    positions = output_size(size, window, stride, padding)
    span = (positions - 1) * stride
    first = max(0, padding[0] - span)
    last = min(window, size + padding[0])
    before = padding[0] - first
    return slice(first, last), (before, span + last - first - size - before)


def pad(x: jax.Array, padding: Sides, value: float = 0.0) -> jax.Array:
    """Pad the rows and columns of x (B, H, W, C); negative numbers crop."""
    (above, below), (left, right) = padding
    edges = ((0, 0, 0), (above, below, 0), (left, right, 0), (0, 0, 0))
    return lax.pad(x, jnp.asarray(value, x.dtype), edges)


def windows(x: jax.Array, window: Any, strides: Any) -> list[jax.Array]:
    """Every cell of a sliding window over x (B, H, W, C), row by row: each (B, rows, columns, C)."""
    rows = output_size(x.shape[1], window[0], strides[0], (0, 0))
    columns = output_size(x.shape[2], window[1], strides[1], (0, 0))
    return [
        x[
            :,
            i : i + (rows - 1) * strides[0] + 1 : strides[0],
            j : j + (columns - 1) * strides[1] + 1 : strides[1],
        ]
        for i in range(window[0])
        for j in range(window[1])
    ]


# Measured on a CPU: of 360, 720 and 1,500 positions at a time the middle was quickest, as they stay in the cache.
CHUNK_POSITIONS = 768


def events_at_a_time(batch: int, positions: int) -> int:
    """Largest divisor of the batch whose maps have at most `CHUNK_POSITIONS` positions together, at least 1."""
    most = max(1, min(batch, CHUNK_POSITIONS // positions))
    return next(chunk for chunk in range(most, 0, -1) if batch % chunk == 0)
