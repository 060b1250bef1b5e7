"""The passes over points that give a maximum, as kernels for TPUs (Mosaic): nothing as wide as its output is stored.

Shapes and types are those of `point_operations`. One program an event, one after the other. XLA's own products are good
at all other passes. Winners are written as a matrix of points and features with the gradient where a point has won: two
products with it give both gradients, where XLA would sort and gather.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from jaxhep.kernels.partition import over_batch, pallas
from jaxhep.kernels.point_operations import Passes

WIDE = jnp.float32


def _call(
    kernel: Callable[..., None], events: int, results: list[Any], flops: float, *arrays: tuple[bool, jax.Array]
) -> Any:
    """Results of the kernel for each event, of arrays whose leading axis is of events or not."""

    def block(shape: tuple[int, ...], split: bool) -> pl.BlockSpec:
        if split:
            return pl.BlockSpec((1, *shape[1:]), lambda event: (event, *(0,) * (len(shape) - 1)))
        return pl.BlockSpec(shape, lambda event: (0,) * len(shape))

    every = [jnp.size(array) * array.dtype.itemsize for _, array in arrays]
    cost = pl.CostEstimate(flops=int(flops), bytes_accessed=sum(every), transcendentals=0)

    def call(interpret: bool) -> Callable[..., Any]:
        return pl.pallas_call(
            kernel,
            grid=(events,),
            in_specs=[block(array.shape, split) for split, array in arrays],
            out_specs=[block(result.shape, result.shape[0] == events and len(result.shape) == 3) for result in results],
            out_shape=results,
            interpret=interpret,
            cost_estimate=cost,
            name="_".join([kernel.__name__.strip("_"), *map(str, (arrays[0][1].shape[-1], results[0].shape[-1]))]),
        )

    return pallas(call, *(array for _, array in arrays))


def _largest(x_ref, matrix_ref, most_ref, place_ref):
    y = jnp.dot(x_ref[0], matrix_ref[...], preferred_element_type=WIDE)
    most, last = jnp.max(y, axis=0, keepdims=True), y.shape[0] - 1
    point = lax.broadcasted_iota(jnp.int32, y.shape, 0)
    most_ref[0] = most
    place_ref[0] = jnp.min(jnp.where(y == most, point, last), axis=0, keepdims=True)


def largest(x: jax.Array, matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As `point_operations.largest`."""
    (events, points, inputs), features = x.shape, matrix.shape[1]
    results = [jax.ShapeDtypeStruct((events, 1, features), dtype) for dtype in (WIDE, jnp.int32)]
    flops = 2.0 * events * points * inputs * features
    most, place = _call(_largest, events, results, flops, (True, x), (False, matrix))
    return most[:, 0], place[:, 0]


def _winners_matrix_gradient(x_ref, place_ref, of_largest_ref, of_matrix_ref):
    @pl.when(pl.program_id(0) == 0)
    def _start():
        of_matrix_ref[...] = jnp.zeros_like(of_matrix_ref)

    at_winners = _at_winners(x_ref, place_ref, of_largest_ref)
    contracted = (((0,), (0,)), ((), ()))
    of_matrix_ref[...] += lax.dot_general(x_ref[0], at_winners, contracted, preferred_element_type=WIDE)


def _at_winners(x_ref, place_ref, of_largest_ref):
    """Gradient of the product (P, F): that of the maximum where a point has won, and else zero."""
    point = lax.broadcasted_iota(jnp.int32, (x_ref.shape[1], place_ref.shape[2]), 0)
    return jnp.where(point == place_ref[0], of_largest_ref[0], 0).astype(x_ref.dtype)


def winners_matrix_gradient(x: jax.Array, place: jax.Array, of_largest: jax.Array) -> tuple[jax.Array]:
    """As `point_operations.winners_matrix_gradient`."""
    (events, points, inputs), features = x.shape, place.shape[1]
    results = [jax.ShapeDtypeStruct((inputs, features), WIDE)]
    flops = 2.0 * events * points * inputs * features
    arrays = (True, x), (True, place[:, None]), (True, of_largest[:, None])
    (of_matrix,) = _call(_winners_matrix_gradient, events, results, flops, *arrays)
    return (jnp.concatenate([of_matrix, jnp.sum(of_largest, 0, keepdims=True)]),)


def _winners_input_gradient(x_ref, weight_ref, turned_ref, place_ref, of_largest_ref, squares_ref, sums_ref, of_x_ref):
    of_moments = jnp.dot(x_ref[0], squares_ref[...], preferred_element_type=WIDE) + sums_ref[...]
    at_winners = _at_winners(x_ref, place_ref, of_largest_ref)
    own = jnp.dot(at_winners, turned_ref[...], preferred_element_type=WIDE)
    # Weights lie along lanes, as a column of them would fill a tile each: this product turns and repeats them.
    ones = jnp.ones((1, of_x_ref.shape[2]), weight_ref.dtype)
    weight = lax.dot_general(weight_ref[0], ones, (((0,), (0,)), ((), ())), preferred_element_type=WIDE)
    of_x_ref[0] = (own + of_moments * weight).astype(of_x_ref.dtype)


def winners_input_gradient(
    x: jax.Array,
    weight: jax.Array,
    turned: jax.Array,
    place: jax.Array,
    of_largest: jax.Array,
    of_squares: jax.Array,
    of_sums: jax.Array,
) -> tuple[jax.Array]:
    """As `point_operations.winners_input_gradient`."""
    flops = 2.0 * x.size * (turned.shape[0] + x.shape[-1])
    arrays = (True, x), (True, weight.astype(x.dtype)[:, None]), (False, turned), (True, place[:, None])
    more = (True, of_largest[:, None]), (False, of_squares), (False, of_sums[None])
    results = [jax.ShapeDtypeStruct(x.shape, x.dtype)]
    return tuple(_call(_winners_input_gradient, x.shape[0], results, flops, *arrays, *more))


PASSES = Passes(
    largest=over_batch(largest, ("events", "whole"), ("events", "events")),
    winners_matrix_gradient=over_batch(winners_matrix_gradient, ("events",) * 3, ("summed",)),
    winners_input_gradient=over_batch(
        winners_input_gradient, ("events", "events", "whole", "events", "events", "whole", "whole"), ("events",)
    ),
)
