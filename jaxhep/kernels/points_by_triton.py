"""The passes over points as kernels for NVIDIA GPUs (Triton), none of which stores what is as wide as the matrix's output.

Shapes and types are those of `point_operations`. Points of all events are one list of N = B P rows, taken in tiles; sums
are made by as many programs as a GPU has processors or so, each of its own share, and added up by XLA.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from jaxhep.kernels.fold_by_triton import FOLD, FOLD_GRADIENT, MOMENTS_GRADIENT
from jaxhep.kernels.partition import over_batch
from jaxhep.kernels.point_operations import Passes
from jaxhep.kernels.triton_tiles import call, dot, load, power, store

WIDE = jnp.float32
ROWS = 128  # of a tile of points, where each is for itself
POINTS = 64  # of a tile of one event's points
COLUMNS = 128  # of a tile of features
WINNERS = 64  # of a tile of features whose winners are fetched
PROGRAMS = 128


def _shares(rows: int) -> tuple[int, int]:
    """Programs, and tiles of each."""
    tiles = pl.cdiv(rows, ROWS)
    programs = min(tiles, PROGRAMS)
    return programs, pl.cdiv(tiles, programs)


def _moments(x_ref, weight_ref, found_ref, *, tiles):
    (rows, inputs), own = x_ref.shape, pl.program_id(0)
    size = power(inputs)

    def add(number, found):
        place = ((own * tiles + number) * ROWS, ROWS, rows)
        x, weight = load(x_ref, place, (0, size, inputs)), load(weight_ref, place)
        weighted = x * weight[:, None].astype(x.dtype)
        return found[0] + jnp.sum(weighted.astype(WIDE), axis=0), found[1] + dot(weighted.T, x)

    sums, squares = lax.fori_loop(0, tiles, add, (jnp.zeros(size, WIDE), jnp.zeros((size, size), WIDE)))
    store(found_ref, squares, own, (0, size, inputs), (0, size, inputs))
    store(found_ref, sums, own, inputs, (0, size, inputs))


def moments(x: jax.Array, weight: jax.Array) -> tuple[jax.Array]:
    """As `point_operations.moments`."""
    inputs = x.shape[-1]
    programs, tiles = _shares(x.shape[0] * x.shape[1])
    results = [jax.ShapeDtypeStruct((programs, inputs + 1, inputs), WIDE)]
    kernel = partial(_moments, tiles=tiles)
    (found,) = call(kernel, (programs,), results, 2.0 * x.size * inputs, x.reshape(-1, inputs), weight.reshape(-1))
    return (jnp.sum(found, 0),)


def _values(x_ref, matrix_ref, offset_ref, y_ref, *, relu):
    (rows, inputs), features = x_ref.shape, matrix_ref.shape[1]
    place, own = (pl.program_id(0) * ROWS, ROWS, rows), (0, power(inputs), inputs)
    width = min(COLUMNS, power(features))
    columns = (pl.program_id(1) * width if features > width else 0, width, features)
    y = dot(load(x_ref, place, own), load(matrix_ref, own, columns)) + load(offset_ref, columns)[None]
    store(y_ref, (jnp.maximum(y, 0) if relu else y).astype(y_ref.dtype), place, columns)


def values(x: jax.Array, matrix: jax.Array, offset: jax.Array, *, relu: bool) -> tuple[jax.Array]:
    """As `point_operations.values`."""
    features, rows = matrix.shape[1], x.shape[0] * x.shape[1]
    grid = (pl.cdiv(rows, ROWS), pl.cdiv(features, COLUMNS))
    results = [jax.ShapeDtypeStruct((rows, features), x.dtype)]
    (y,) = call(
        partial(_values, relu=relu), grid, results, 2.0 * x.size * features, x.reshape(rows, -1), matrix, offset
    )
    return (y.reshape(*x.shape[:2], features),)


def _largest(x_ref, matrix_ref, most_ref, place_ref):
    (_, points, inputs), features = x_ref.shape, matrix_ref.shape[1]
    event, own = pl.program_id(0), (0, power(inputs), inputs)
    width = min(COLUMNS, power(features))
    columns = (pl.program_id(1) * width if features > width else 0, width, features)
    matrix = load(matrix_ref, own, columns)

    def look(number, found):
        most, place = found
        start = number * POINTS
        y = dot(load(x_ref, event, (start, POINTS, points), own), matrix)
        point = start + lax.broadcasted_iota(jnp.int32, y.shape, 0)
        # Not a number counts as the largest of all, so that it shows; what is beyond the last point never wins.
        y = jnp.where(point < points, jnp.where(y == y, y, jnp.inf), -jnp.inf)
        here = jnp.max(y, axis=0)
        first = jnp.min(jnp.where(y == here[None], point, points - 1), axis=0)
        return jnp.maximum(most, here), jnp.where(here > most, first, place)

    start = jnp.full(width, -jnp.inf, WIDE), jnp.full(width, points - 1, jnp.int32)
    most, place = lax.fori_loop(0, pl.cdiv(points, POINTS), look, start)
    store(most_ref, most, event, columns)
    store(place_ref, place, event, columns)


def largest(x: jax.Array, matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As `point_operations.largest`, but NaN is told as infinity, and its place is the first."""
    shape = (x.shape[0], matrix.shape[1])
    results = [jax.ShapeDtypeStruct(shape, dtype) for dtype in (WIDE, jnp.int32)]
    most, place = call(_largest, (shape[0], pl.cdiv(shape[1], COLUMNS)), results, 2.0 * x.size * shape[1], x, matrix)
    return most, place


def _matrix_gradient(x_ref, matrix_ref, offset_ref, of_y_ref, found_ref, *, tiles, relu):
    (rows, inputs), features, own = x_ref.shape, matrix_ref.shape[1], pl.program_id(0)
    size = (0, power(inputs), inputs)
    width = min(COLUMNS, power(features))
    columns = (pl.program_id(1) * width if features > width else 0, width, features)
    matrix, offset = load(matrix_ref, size, columns), load(offset_ref, columns)

    def add(number, found):
        place = ((own * tiles + number) * ROWS, ROWS, rows)
        x, of_y = load(x_ref, place, size), load(of_y_ref, place, columns)
        if relu:
            of_y = jnp.where(dot(x, matrix) + offset[None] > 0, of_y, jnp.zeros_like(of_y))
        return found[0] + dot(x.T, of_y), found[1] + jnp.sum(of_y.astype(WIDE), axis=0)

    start = jnp.zeros((size[1], width), WIDE), jnp.zeros(width, WIDE)
    of_matrix, of_offset = lax.fori_loop(0, tiles, add, start)
    store(found_ref, of_matrix, own, size, columns)
    store(found_ref, of_offset, own, inputs, columns)


def matrix_gradient(
    x: jax.Array, matrix: jax.Array, offset: jax.Array, of_y: jax.Array, *, relu: bool
) -> tuple[jax.Array]:
    """As `point_operations.matrix_gradient`."""
    inputs, features = matrix.shape
    programs, tiles = _shares(x.shape[0] * x.shape[1])
    results = [jax.ShapeDtypeStruct((programs, inputs + 1, features), WIDE)]
    kernel, grid = partial(_matrix_gradient, tiles=tiles, relu=relu), (programs, pl.cdiv(features, COLUMNS))
    flops = (4.0 if relu else 2.0) * x.size * features
    (found,) = call(kernel, grid, results, flops, x.reshape(-1, inputs), matrix, offset, of_y.reshape(-1, features))
    return (jnp.sum(found, 0),)


def _input_gradient(
    x_ref, weight_ref, matrix_ref, turned_ref, offset_ref, of_y_ref, squares_ref, sums_ref, of_x_ref, *, relu
):
    (rows, inputs), features = x_ref.shape, matrix_ref.shape[1]
    place, size = (pl.program_id(0) * ROWS, ROWS, rows), (0, power(inputs), inputs)
    width = min(COLUMNS, power(features))
    x = load(x_ref, place, size)
    found = dot(x, load(squares_ref, size, size)) + load(sums_ref, size)[None]
    found = found * load(weight_ref, place)[:, None]
    for start in range(0, features, width):
        columns = (start, width, features)
        of_y = load(of_y_ref, place, columns)
        if relu:
            y = dot(x, load(matrix_ref, size, columns)) + load(offset_ref, columns)[None]
            of_y = jnp.where(y > 0, of_y, jnp.zeros_like(of_y))
        found = found + dot(of_y, load(turned_ref, columns, size))
    store(of_x_ref, found.astype(of_x_ref.dtype), place, size)


def input_gradient(
    x: jax.Array,
    weight: jax.Array,
    matrix: jax.Array,
    turned: jax.Array,
    offset: jax.Array,
    of_y: jax.Array,
    of_squares: jax.Array,
    of_sums: jax.Array,
    *,
    relu: bool,
) -> tuple[jax.Array]:
    """As `point_operations.input_gradient`."""
    (inputs, features), rows = matrix.shape, x.shape[0] * x.shape[1]
    results = [jax.ShapeDtypeStruct((rows, inputs), x.dtype)]
    arrays = (x.reshape(rows, inputs), weight.reshape(rows), matrix, turned, offset, of_y.reshape(rows, features))
    kernel, grid = partial(_input_gradient, relu=relu), (pl.cdiv(rows, ROWS),)
    flops = 2.0 * x.size * (inputs + (2 if relu else 1) * features)
    (of_x,) = call(kernel, grid, results, flops, *arrays, of_squares, of_sums)
    return (of_x.reshape(x.shape),)


def _winners_matrix_gradient(x_ref, place_ref, of_largest_ref, found_ref, *, share):
    from jax.experimental.pallas import triton

    (events, _, inputs), features, own = x_ref.shape, place_ref.shape[1], pl.program_id(0)
    size = power(inputs)
    width = min(WINNERS, power(features))
    columns = (pl.program_id(1) * width if features > width else 0, width, features)

    def add(number, found):
        event = own * share + number
        inside = event < events
        event = jnp.minimum(event, events - 1)
        place, given = load(place_ref, event, columns), load(of_largest_ref, event, columns)
        column = lax.broadcasted_iota(jnp.int32, (width, size), 1)
        index = (event, jnp.broadcast_to(place[:, None], column.shape), column)
        points = triton.load(x_ref.at[index], mask=column < inputs, other=jnp.zeros((), x_ref.dtype))
        given = jnp.where(inside, given, 0)
        return found[0] + points.astype(WIDE) * given[:, None], found[1] + given

    turned, of_offset = lax.fori_loop(0, share, add, (jnp.zeros((width, size), WIDE), jnp.zeros(width, WIDE)))
    store(found_ref, turned.T, own, (0, size, inputs), columns)
    store(found_ref, of_offset, own, inputs, columns)


def winners_matrix_gradient(x: jax.Array, place: jax.Array, of_largest: jax.Array) -> tuple[jax.Array]:
    """As `point_operations.winners_matrix_gradient`."""
    (events, features), inputs = place.shape, x.shape[-1]
    tiles = pl.cdiv(features, WINNERS)
    groups = min(events, max(1, 2 * PROGRAMS // tiles))
    kernel = partial(_winners_matrix_gradient, share=pl.cdiv(events, groups))
    results = [jax.ShapeDtypeStruct((groups, inputs + 1, features), WIDE)]
    (found,) = call(kernel, (groups, tiles), results, 0, x, place, of_largest)
    return (jnp.sum(found, 0),)


def _winners_input_gradient(x_ref, weight_ref, turned_ref, place_ref, of_largest_ref, squares_ref, sums_ref, of_x_ref):
    (_, points, inputs), features, event = x_ref.shape, turned_ref.shape[0], pl.program_id(0)
    start, size = pl.program_id(1) * POINTS, (0, power(inputs), inputs)
    tile, width = (start, POINTS, points), min(COLUMNS, power(features))
    point = start + lax.broadcasted_iota(jnp.int32, (POINTS, width), 0)
    found = dot(load(x_ref, event, tile, size), load(squares_ref, size, size)) + load(sums_ref, size)[None]
    found = found * load(weight_ref, event, tile)[:, None]

    def add(number, found):
        columns = (number * width, width, features)
        given = load(of_largest_ref, event, columns)
        at_winners = jnp.where(load(place_ref, event, columns)[None] == point, given[None], 0)
        return found + dot(at_winners.astype(x_ref.dtype), load(turned_ref, columns, size))

    found = lax.fori_loop(0, pl.cdiv(features, width), add, found)
    store(of_x_ref, found.astype(of_x_ref.dtype), event, tile, size)


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
    grid, results = (x.shape[0], pl.cdiv(x.shape[1], POINTS)), [jax.ShapeDtypeStruct(x.shape, x.dtype)]
    flops = 2.0 * x.size * (turned.shape[0] + x.shape[-1])
    (of_x,) = call(
        _winners_input_gradient, grid, results, flops, x, weight, turned, place, of_largest, of_squares, of_sums
    )
    return (of_x,)


def _split(function: Callable[..., Any], arguments: str, results: str) -> Callable[..., Any]:
    """The function of arrays, each of (e)vents or (w)hole, with results of (e)vents or (s)ummed over them."""
    names = {"e": "events", "w": "whole", "s": "summed"}
    kinds = [tuple(names[letter] for letter in kind) for kind in (arguments, results)]
    return lambda *arrays, **chosen: over_batch(partial(function, **chosen), *kinds)(*arrays)


PASSES = Passes(
    moments=_split(moments, "ee", "s"),
    fold=FOLD,
    fold_gradient=FOLD_GRADIENT,
    moments_gradient=MOMENTS_GRADIENT,
    values=_split(values, "eww", "e"),
    largest=_split(largest, "ew", "ee"),
    matrix_gradient=_split(matrix_gradient, "ewwe", "s"),
    input_gradient=_split(input_gradient, "eewwweww", "e"),
    winners_matrix_gradient=_split(winners_matrix_gradient, "eee", "s"),
    winners_input_gradient=_split(winners_input_gradient, "eeweeww", "e"),
)
