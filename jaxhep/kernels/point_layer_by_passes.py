"""The point layer in half precision as few passes over the points, with its gradient written by hand.

Forward: one pass for the moments of x, from which those of its product follow, and one for the values or their maximum.
Backward: one pass for the gradient of the matrix, from which that of the moments follows, and one for that of x. What
lies between layers is in bfloat16, and nothing else of the size of the points is stored; sums are in float32.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxhep.kernels.point_layer import COORDINATES, EPSILON, Found, Known, total
from jaxhep.kernels.point_operations import Passes

HALF = jnp.bfloat16


def by_passes(passes: Passes, otherwise: Callable[..., Found]) -> Callable[..., Found]:
    """Return the layer that makes these passes where points (B, P, C) are in bfloat16, and is `otherwise` elsewhere."""

    def layer(
        x: jax.Array,
        weight: jax.Array | None,
        kernel: jax.Array,
        scale: jax.Array,
        shift: jax.Array,
        known: Known,
        dtype: Any,
        pool: bool = False,
        axis_name: str | None = None,
        relu: bool = False,
    ) -> Found:
        if x.ndim != 3 or x.dtype != HALF or x.shape[-1] <= COORDINATES:
            return otherwise(x, weight, kernel, scale, shift, known, dtype, pool, axis_name, relu)
        weight = jnp.ones(x.shape[:2], kernel.dtype) if weight is None else weight
        y, mean, variance = _layer(passes, pool, axis_name, relu and not pool, x, weight, kernel, scale, shift, known)
        return (jax.nn.relu(y) if relu and pool else y), mean, variance

    return layer


def _fold_known(kernel, scale, shift, known):
    mean, variance = known
    factor = scale * lax.rsqrt(variance + EPSILON)
    return kernel * factor, shift - mean * factor, mean, variance


def _forward(passes, pool, axis_name, relu, x, weight, kernel, scale, shift, known):
    if known is None:
        sums = tuple(total(each, axis_name) for each in (*passes.moments(x, weight), jnp.sum(weight)))
        matrix, turned, offset, mean, variance = passes.fold(*sums, kernel, scale, shift)
    else:
        sums, (matrix, offset, mean, variance) = None, _fold_known(kernel, scale, shift, known)
        matrix = matrix.astype(x.dtype)
        turned = matrix.T
    folded = matrix, turned, offset, mean, variance
    if pool:
        most, place = passes.largest(x, matrix)
        y = most.astype(kernel.dtype) + offset
    else:
        (y,), place = passes.values(x, matrix, offset, relu=relu), None
    return (y, mean, variance), (x, weight, kernel, scale, shift, known, sums, folded, place)


def _backward(passes, pool, axis_name, relu, saved, gradients):
    x, weight, kernel, scale, shift, known, sums, (matrix, turned, offset, mean, variance), place = saved
    of_y, *of_statistics = gradients
    if pool:
        (given,) = passes.winners_matrix_gradient(x, place, of_y)
    else:
        of_y = of_y.astype(x.dtype)
        (given,) = passes.matrix_gradient(x, matrix, offset, of_y, relu=relu)

    of_shift, of_known = given[-1], None
    if known is None:
        found = passes.fold_gradient(*sums, kernel, scale, mean, variance, given, *of_statistics)
        of_kernel, of_scale, *of_statistics = found
        of_moments = passes.moments_gradient(*sums, kernel, *(total(each, axis_name) for each in of_statistics))
    else:
        back = jax.vjp(_fold_known, kernel, scale, shift, known)[1]
        of_kernel, of_scale, of_shift, of_known = back((given[:-1], of_shift, *of_statistics))
        of_moments = jnp.zeros((x.shape[-1],) * 2, x.dtype), jnp.zeros(x.shape[-1], kernel.dtype)
    if pool:
        (of_x,) = passes.winners_input_gradient(x, weight, turned, place, of_y, *of_moments)
    else:
        (of_x,) = passes.input_gradient(x, weight, matrix, turned, offset, of_y, *of_moments, relu=relu)
    return of_x, jnp.zeros_like(weight), of_kernel, of_scale, of_shift, of_known


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _layer(passes, pool, axis_name, relu, x, weight, kernel, scale, shift, known):
    return _forward(passes, pool, axis_name, relu, x, weight, kernel, scale, shift, known)[0]


_layer.defvjp(_forward, _backward)
