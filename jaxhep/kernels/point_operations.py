"""The passes over the points that a point layer makes in half precision, each in plain operations.

`Passes()` are the plain forms; a platform may have kernels of its own for some (`points_by_triton`, `points_by_mosaic`).
x (B, P, C), matrix (C, F), `turned` its transpose, offset (F,); B events, P points, C inputs, F features. x and matrix are in bfloat16, sums,
offset and weights in float32. weight (B, P) is 1 for real points and 0 for padding. Gradients `of_y` (B, P, F) are in
bfloat16, `of_largest` (B, F) in float32. Sums are over all points, or those of a device (`partition.over_batch`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxhep.kernels.point_layer import EPSILON

HALF, WIDE = jnp.bfloat16, jnp.float32
EXACT = lax.Precision.HIGHEST


def moments(x: jax.Array, weight: jax.Array) -> tuple[jax.Array]:
    """Sums of weight times the products of x with itself, and in the last row times x: (C + 1, C)."""
    weight = weight.astype(x.dtype)
    weighted = x * weight[..., None]
    squares = lax.dot_general(weighted, x, (((0, 1), (0, 1)), ((), ())), preferred_element_type=WIDE)
    # As a product, as a TPU adds up slowly what it could multiply.
    of_x = lax.dot_general(weight, x, (((0, 1), (0, 1)), ((), ())), preferred_element_type=WIDE)
    return (jnp.concatenate([squares, of_x[None]]),)


def fold(
    sums: jax.Array, number: jax.Array, kernel: jax.Array, scale: jax.Array, shift: jax.Array
) -> tuple[jax.Array, ...]:
    """Normalisation folded into the product: matrix (C, F), its transpose, offset, and mean and variance (F,) of x kernel.

    `sums` are those of `moments`, over points of so large a `number`; kernel (C, F), scale and shift (F,) in float32.
    """
    # Values in half precision have so few digits that a difference of float32 sums loses none of them.
    centre, covariance = _centre_and_covariance(sums, number)
    mean = jnp.matmul(centre, kernel, precision=EXACT)
    variance = jnp.maximum(jnp.sum(kernel * jnp.matmul(covariance, kernel, precision=EXACT), axis=0), 0)
    factor = scale * lax.rsqrt(variance + EPSILON)
    matrix = (kernel * factor).astype(HALF)
    return matrix, matrix.T, shift - mean * factor, mean, variance


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
    """Gradients of kernel (C, F) and scale (F,), and those of mean and variance (F,) in all, through the fold too.

    `given` (C + 1, F) are those of matrix and, in the last row, offset.
    """
    centre, covariance = _centre_and_covariance(sums, number)
    inverse, of_offset = lax.rsqrt(variance + EPSILON), given[-1]
    of_factor = jnp.sum(given[:-1] * kernel, axis=0) - mean * of_offset
    of_mean = of_mean - scale * inverse * of_offset
    of_variance = of_variance - 0.5 * of_factor * scale * inverse**3
    of_kernel = given[:-1] * (scale * inverse) + centre[:, None] * of_mean
    of_kernel = of_kernel + 2 * jnp.matmul(covariance, kernel, precision=EXACT) * of_variance
    return of_kernel, of_factor * inverse, of_mean, of_variance


def moments_gradient(
    sums: jax.Array, number: jax.Array, kernel: jax.Array, of_mean: jax.Array, of_variance: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Gradients by which points get theirs, x times (C, C) in bfloat16 plus (C,), from those of mean and variance (F,)."""
    of_squares = jnp.matmul(kernel * (2 * of_variance / number), kernel.T, precision=EXACT).astype(HALF)
    # The rounded products are taken about the mean, so that rounding acts on deviations alone.
    of_sums = jnp.matmul(kernel, of_mean, precision=EXACT)
    return of_squares, (of_sums - jnp.matmul(of_squares.astype(WIDE), sums[-1], precision=EXACT)) / number


def _centre_and_covariance(sums, number):
    centre = sums[-1] / number
    return centre, sums[:-1] / number - centre[:, None] * centre


def values(x: jax.Array, matrix: jax.Array, offset: jax.Array, relu: bool) -> tuple[jax.Array]:
    """x times matrix plus offset, and its ReLU if wanted: (B, P, F) in the type of x."""
    y = jnp.matmul(x, matrix, preferred_element_type=WIDE) + offset
    return ((jnp.maximum(y, 0) if relu else y).astype(x.dtype),)


def largest(x: jax.Array, matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maximum over points of x times matrix (B, F) in float32, and the first point that has it (B, F), the last for NaN."""
    y = jnp.matmul(x, matrix, preferred_element_type=WIDE)
    most, place = jnp.max(y, axis=1), jnp.arange(x.shape[1])[:, None]
    return most, jnp.min(jnp.where(y == most[:, None], place, x.shape[1] - 1), axis=1)


def matrix_gradient(
    x: jax.Array, matrix: jax.Array, offset: jax.Array, of_y: jax.Array, relu: bool
) -> tuple[jax.Array]:
    """Gradients of matrix and, in the last row, offset from that of `values`: (C + 1, F)."""
    of_y = _through_relu(x, matrix, offset, of_y, relu)
    of_matrix = lax.dot_general(x, of_y, (((0, 1), (0, 1)), ((), ())), preferred_element_type=WIDE)
    return (jnp.concatenate([of_matrix, jnp.sum(of_y, (0, 1), dtype=WIDE)[None]]),)


def input_gradient(
    x: jax.Array,
    weight: jax.Array,
    matrix: jax.Array,
    turned: jax.Array,
    offset: jax.Array,
    of_y: jax.Array,
    of_squares: jax.Array,
    of_sums: jax.Array,
    relu: bool,
) -> tuple[jax.Array]:
    """Gradient of x (B, P, C) from that of `values`, and by `of_squares` and `of_sums` from its moments."""
    of_y = _through_relu(x, matrix, offset, of_y, relu)
    own = jnp.matmul(of_y, turned, preferred_element_type=WIDE)
    return (_add_moments(own, x, weight, of_squares, of_sums),)


def winners_matrix_gradient(x: jax.Array, place: jax.Array, of_largest: jax.Array) -> tuple[jax.Array]:
    """Gradients of matrix and, in the last row, offset from that of `largest`: (C + 1, F)."""
    points = jnp.take_along_axis(x, place[..., None], axis=1)
    of_matrix = jnp.sum(points * of_largest[..., None], axis=0).T
    return (jnp.concatenate([of_matrix, jnp.sum(of_largest, 0, keepdims=True)]),)


def winners_input_gradient(
    x: jax.Array,
    weight: jax.Array,
    turned: jax.Array,
    place: jax.Array,
    of_largest: jax.Array,
    of_squares: jax.Array,
    of_sums: jax.Array,
) -> tuple[jax.Array]:
    """Gradient of x (B, P, C) from that of `largest`, which goes to the winners, and from its moments."""
    at_winners = of_largest.astype(x.dtype)[..., None] * turned
    own = jax.vmap(lambda place, given: jnp.zeros(x.shape[1:], WIDE).at[place].add(given))(place, at_winners)
    return (_add_moments(own, x, weight, of_squares, of_sums),)


def _through_relu(x, matrix, offset, of_y, relu):
    if not relu:
        return of_y
    return jnp.where(jnp.matmul(x, matrix, preferred_element_type=WIDE) + offset > 0, of_y, 0)


def _add_moments(own, x, weight, of_squares, of_sums):
    of_moments = jnp.matmul(x, of_squares, preferred_element_type=WIDE) + of_sums
    return (own + of_moments * weight[..., None]).astype(x.dtype)


class Passes(NamedTuple):
    """What a point layer in half precision computes with."""

    moments: Callable[..., Any] = moments
    fold: Callable[..., Any] = fold
    fold_gradient: Callable[..., Any] = fold_gradient
    moments_gradient: Callable[..., Any] = moments_gradient
    values: Callable[..., Any] = values
    largest: Callable[..., Any] = largest
    matrix_gradient: Callable[..., Any] = matrix_gradient
    input_gradient: Callable[..., Any] = input_gradient
    winners_matrix_gradient: Callable[..., Any] = winners_matrix_gradient
    winners_input_gradient: Callable[..., Any] = winners_input_gradient
