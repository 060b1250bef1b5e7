"""Tiles of arrays as kernels for NVIDIA GPUs (Triton) load, multiply and store them: powers of two, masked at the ends."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from jaxhep.kernels.partition import pallas

WIDE = jnp.float32
Axis = Any  # a number, or the (start, size, end) of a tile


def call(
    kernel: Callable[..., None], grid: tuple[int, ...], results: list[Any], flops: float, *arrays: jax.Array
) -> Any:
    """Results of the kernel, whose programs see whole arrays and load what is theirs; flops of its products, as a fact."""
    from jax.experimental.pallas import triton

    def compiled(interpret: bool) -> Callable[..., Any]:
        parameters = None if interpret else triton.CompilerParams(num_warps=8, num_stages=2)
        return pl.pallas_call(
            kernel,
            grid=grid,
            out_shape=results,
            interpret=interpret,
            compiler_params=parameters,
            cost_estimate=cost,
            name=name,
        )

    sizes = (array.size * array.dtype.itemsize for array in (*arrays, *results))
    cost = pl.CostEstimate(flops=int(flops), bytes_accessed=sum(sizes), transcendentals=0)
    name = (kernel.func if isinstance(kernel, partial) else kernel).__name__.strip("_")
    name = "_".join([name, *map(str, (arrays[0].shape[-1], results[0].shape[-1]))])
    return pallas(compiled, *arrays)


def power(size: int) -> int:
    """The least power of two that holds so many, and is at least 16: the shapes that Triton knows."""
    return max(16, 1 << (size - 1).bit_length())


def _places(axes):
    """Index of the product of axes, and the mask of what is there."""
    tiles = [axis for axis in axes if isinstance(axis, tuple)]
    shape, index, mask, number = tuple(size for _, size, _ in tiles), [], None, 0
    for axis in axes:
        if not isinstance(axis, tuple):
            index.append(axis)
            continue
        start, size, end = axis
        place = start + lax.broadcasted_iota(jnp.int32, shape, number)
        index.append(place)
        if not (isinstance(start, int) and start + size <= end):
            mask = place < end if mask is None else mask & (place < end)
        number += 1
    return tuple(index), mask


def load(ref: Any, *axes: Axis) -> jax.Array:
    """Load the product of axes, with zeros beyond their ends."""
    from jax.experimental.pallas import triton

    index, mask = _places(axes)
    return triton.load(ref.at[index], mask=mask, other=None if mask is None else jnp.zeros((), ref.dtype))


def store(ref: Any, value: jax.Array, *axes: Axis) -> None:
    """Store the product of axes, as far as it lies inside their ends."""
    from jax.experimental.pallas import triton

    index, mask = _places(axes)
    triton.store(ref.at[index], value, mask=mask)


def dot(a: jax.Array, b: jax.Array, precision: Any = None) -> jax.Array:
    """Product with sums in float32."""
    return jnp.dot(a, b, precision=precision, preferred_element_type=WIDE)
