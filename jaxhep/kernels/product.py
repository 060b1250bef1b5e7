"""Product of activations and a matrix in the precision that was asked for, with sums in at least float32.

An accelerator keeps activations in bfloat16 and multiplies them as they are. A CPU computes everything but products in
float32, and converts bfloat16 before and after each operation: there activations stay in float32, and only the operands
of large products are rounded, which processors with instructions for it multiply up to twice as fast.
C inputs, F features.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

HALF = jnp.bfloat16
# Smaller matrices take longer to round than they save.
LEAST = 16
# Measured on a CPU: the gradient of a matrix from here on is quicker the other way round, which XLA gives another library.
WIDE = 192


def as_asked(dtype: Any) -> jnp.dtype:
    """Activation dtype of a network with products in `dtype`: the same."""
    return jnp.dtype(dtype)


def at_least_float32(dtype: Any) -> jnp.dtype:
    """Activation dtype on a CPU."""
    return jnp.promote_types(dtype, jnp.float32)


def product(
    x: jax.Array, matrix: jax.Array, dtype: Any = None, transposed: bool = False, precision: Any = None
) -> jax.Array:
    """x (..., C) times matrix (C, F), or (F, C) if `transposed`: (..., F) in the type of x, whatever `dtype` says.

    `precision` is XLA's.
    """
    del dtype
    return contract(x, matrix.astype(x.dtype), 1 if transposed else 0, precision=precision)


def rounded(
    x: jax.Array, matrix: jax.Array, dtype: Any = None, transposed: bool = False, precision: Any = None
) -> jax.Array:
    """The same with operands rounded to `dtype`, where that is bfloat16 and the product is large enough to gain by it.

    Operands are rounded for the values and for the gradient of x. That of the matrix stays in float32: its rounded
    operands would have to be transposed first, which takes as long, and XLA 0.10 fails on some.
    """
    axis = 1 if transposed else 0
    if x.dtype == jnp.float32 and dtype == HALF and min(x[..., 0].size, *matrix.shape) >= LEAST:
        return rounded_product(x, matrix.astype(x.dtype), axis)
    return contract(x, matrix.astype(x.dtype), axis, precision=precision)


def contract(x: jax.Array, matrix: jax.Array, axis: int, **options: Any) -> jax.Array:
    """Sum over the last axis of x and the given one of the matrix."""
    return lax.dot_general(x, matrix, (((x.ndim - 1,), (axis,)), ((), ())), **options)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def rounded_product(x: jax.Array, matrix: jax.Array, axis: int) -> jax.Array:
    """The sum in float32 of operands rounded to bfloat16."""
    return contract(x.astype(HALF), matrix.astype(HALF), axis, preferred_element_type=jnp.float32)


def _forward(x, matrix, axis):
    return rounded_product(x, matrix, axis), (x, matrix)


def _backward(axis, saved, gradient):
    x, matrix = saved
    left, right = (x, gradient) if axis == 0 else (gradient, x)
    rows = tuple(range(x.ndim - 1))
    dimensions = ((rows, rows), ((), ()))
    if min(matrix.shape) >= WIDE:
        of_matrix = lax.dot_general(right, left, dimensions).T
    else:
        of_matrix = lax.dot_general(left, right, dimensions)
    return rounded_product(gradient, matrix, 1 - axis), of_matrix


rounded_product.defvjp(_forward, _backward)
