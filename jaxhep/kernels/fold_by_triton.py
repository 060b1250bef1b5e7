"""What lies between the passes over points, as kernels for NVIDIA GPUs: a few hundred values, but a dozen XLA kernels each.

Shapes and types are those of `point_operations`. Each program has a tile of features, or of inputs.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from jaxhep.kernels.partition import over_batch
from jaxhep.kernels.point_layer import EPSILON
from jaxhep.kernels.triton_tiles import call, dot, load, power, store

HALF, WIDE, EXACT = jnp.bfloat16, jnp.float32, lax.Precision.HIGHEST
TILE = 16  # of features or inputs: small, so that many programs share the work


def _own_tile(size):
    return (pl.program_id(0) * TILE if size > TILE else 0, TILE, size)


def _moments_of_product(sums_ref, number_ref, kernel, inputs):
    """Centre (C,) of the input, mean of the product with kernel (C, T), and its covariance with the input (C, T)."""
    size = (0, power(inputs), inputs)
    number = number_ref[...]
    centre = load(sums_ref, inputs, size) / number
    mean = jnp.sum(centre[:, None] * kernel, axis=0)
    return centre, mean, dot(load(sums_ref, size, size), kernel, EXACT) / number - centre[:, None] * mean[None]


def _fold(
    sums_ref, number_ref, kernel_ref, scale_ref, shift_ref, matrix_ref, turned_ref, offset_ref, mean_ref, variance_ref
):
    inputs, features = kernel_ref.shape
    size, columns = (0, power(inputs), inputs), _own_tile(features)
    kernel = load(kernel_ref, size, columns)
    _, mean, covariance = _moments_of_product(sums_ref, number_ref, kernel, inputs)
    variance = jnp.maximum(jnp.sum(kernel * covariance, axis=0), 0)
    factor = load(scale_ref, columns) * lax.rsqrt(variance + EPSILON)
    matrix = (kernel * factor[None]).astype(HALF)
    store(matrix_ref, matrix, size, columns)
    store(turned_ref, matrix.T, columns, size)
    store(offset_ref, load(shift_ref, columns) - mean * factor, columns)
    store(mean_ref, mean, columns)
    store(variance_ref, variance, columns)


def fold(
    sums: jax.Array, number: jax.Array, kernel: jax.Array, scale: jax.Array, shift: jax.Array
) -> tuple[jax.Array, ...]:
    """As `point_operations.fold`."""
    features = kernel.shape[1]
    results = [jax.ShapeDtypeStruct(shape, HALF) for shape in (kernel.shape, kernel.shape[::-1])]
    results += [jax.ShapeDtypeStruct((features,), WIDE)] * 3
    return tuple(
        call(_fold, (pl.cdiv(features, TILE),), results, 2.0 * sums.size * features, sums, number, kernel, scale, shift)
    )


def _fold_gradient(
    sums_ref,
    number_ref,
    kernel_ref,
    scale_ref,
    mean_ref,
    variance_ref,
    given_ref,
    of_mean_ref,
    of_variance_ref,
    of_kernel_ref,
    of_scale_ref,
    of_mean_found_ref,
    of_variance_found_ref,
):
    inputs, features = kernel_ref.shape
    size, columns = (0, power(inputs), inputs), _own_tile(features)
    kernel, of_matrix, of_offset = (
        load(kernel_ref, size, columns),
        load(given_ref, size, columns),
        load(given_ref, inputs, columns),
    )
    centre, _, covariance = _moments_of_product(sums_ref, number_ref, kernel, inputs)
    scale, inverse = load(scale_ref, columns), lax.rsqrt(load(variance_ref, columns) + EPSILON)
    of_factor = jnp.sum(of_matrix * kernel, axis=0) - load(mean_ref, columns) * of_offset
    of_mean = load(of_mean_ref, columns) - scale * inverse * of_offset
    of_variance = load(of_variance_ref, columns) - 0.5 * of_factor * scale * inverse * inverse * inverse
    of_kernel = (
        of_matrix * (scale * inverse)[None] + centre[:, None] * of_mean[None] + 2 * covariance * of_variance[None]
    )
    store(of_kernel_ref, of_kernel, size, columns)
    store(of_scale_ref, of_factor * inverse, columns)
    store(of_mean_found_ref, of_mean, columns)
    store(of_variance_found_ref, of_variance, columns)


def fold_gradient(
    sums: jax.Array,
    number: jax.Array,
    kernel: jax.Array,
    scale: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    given: jax.Array,
    of_mean: jax.Array,
    of_variance: jax.Array,
) -> tuple[jax.Array, ...]:
    """As `point_operations.fold_gradient`."""
    features = kernel.shape[1]
    results = [jax.ShapeDtypeStruct(kernel.shape, WIDE)] + [jax.ShapeDtypeStruct((features,), WIDE)] * 3
    arrays = (sums, number, kernel, scale, mean, variance, given, of_mean, of_variance)
    return tuple(call(_fold_gradient, (pl.cdiv(features, TILE),), results, 2.0 * sums.size * features, *arrays))


def _moments_gradient(sums_ref, number_ref, kernel_ref, of_mean_ref, of_variance_ref, of_squares_ref, of_sums_ref):
    (inputs, features), number = kernel_ref.shape, number_ref[...]
    size, rows, width = (0, power(inputs), inputs), _own_tile(inputs), min(64, power(features))

    def add(step, found):
        columns = (step * width, width, features)
        own, every = load(kernel_ref, rows, columns), load(kernel_ref, size, columns)
        weighted = own * (load(of_variance_ref, columns) * (2 / number))[None]
        of_sums = jnp.sum(own * load(of_mean_ref, columns)[None], axis=1)
        return found[0] + dot(weighted, every.T, EXACT), found[1] + of_sums

    start = jnp.zeros((TILE, size[1]), WIDE), jnp.zeros(TILE, WIDE)
    of_squares, of_sums = lax.fori_loop(0, pl.cdiv(features, width), add, start)
    of_squares = of_squares.astype(HALF)
    about_mean = jnp.sum(of_squares.astype(WIDE) * load(sums_ref, inputs, size)[None], axis=1)
    store(of_squares_ref, of_squares, rows, size)
    store(of_sums_ref, (of_sums - about_mean) / number, rows)


def moments_gradient(
    sums: jax.Array, number: jax.Array, kernel: jax.Array, of_mean: jax.Array, of_variance: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """As `point_operations.moments_gradient`."""
    inputs = kernel.shape[0]
    results = [jax.ShapeDtypeStruct((inputs, inputs), HALF), jax.ShapeDtypeStruct((inputs,), WIDE)]
    arrays = (sums, number, kernel, of_mean, of_variance)
    of_squares, of_sums = call(
        _moments_gradient, (pl.cdiv(inputs, TILE),), results, 2.0 * kernel.size * inputs, *arrays
    )
    return of_squares, of_sums


FOLD = over_batch(fold, ("whole",) * 5, ("whole",) * 5)
FOLD_GRADIENT = over_batch(fold_gradient, ("whole",) * 9, ("whole",) * 4)
MOMENTS_GRADIENT = over_batch(moments_gradient, ("whole",) * 5, ("whole",) * 2)
