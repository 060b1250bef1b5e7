"""Products of activations and matrices in the precision that was asked for, with sums in at least float32.

An accelerator keeps activations in bfloat16 and multiplies them as they are. A CPU computes everything but products in
float32, and converts bfloat16 before and after each operation: there activations stay in float32, and only the operands
of large products are rounded, which processors with instructions for it multiply up to twice as fast.
C inputs, F features.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

HALF = jnp.bfloat16
# Formulations that keep activations in the type of the products on every back end.
AS_ASKED = ("direct", "accelerator", "plain")
# Smaller matrices take longer to round than they save.
LEAST = 16
# Measured on a CPU: the gradient of a matrix from here on is quicker the other way round, which XLA gives another library.
WIDE = 192


def kept_dtype(dtype, formulation: str):
    """Type that a network with products in `dtype` keeps its activations in where JAX runs."""
    if jax.default_backend() != "cpu" or formulation in AS_ASKED:
        return jnp.dtype(dtype)
    return jnp.promote_types(dtype, jnp.float32)


def product(x, matrix, dtype, transposed: bool = False, precision=None):
    """x (..., C) times matrix (C, F), or (F, C) if `transposed`, with operands in `dtype`: (..., F) in the type of x.

    `precision` is XLA's, of products that are not rounded here.
    Where x is wider than `dtype`, operands are rounded for the values and for the gradient of x. That of the matrix stays
    in float32: its rounded operands would have to be transposed first, which takes as long, and XLA 0.10 fails on some.
    """
    axis = 1 if transposed else 0
    if x.dtype == jnp.float32 and dtype == HALF and min(x[..., 0].size, *matrix.shape) >= LEAST:
        return rounded_product(x, matrix.astype(x.dtype), axis)
    return contract(x, matrix.astype(x.dtype), axis, precision=precision)


def contract(x, matrix, axis: int, **options):
    """Sum over the last axis of x and the given one of the matrix."""
    return lax.dot_general(x, matrix, (((x.ndim - 1,), (axis,)), ((), ())), **options)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def rounded_product(x, matrix, axis: int):
    """The sum in float32 of operands rounded to bfloat16."""
    return contract(x.astype(HALF), matrix.astype(HALF), axis, preferred_element_type=jnp.float32)


def rounded_product_forward(x, matrix, axis: int):
    """The product, and what its gradient needs."""
    return rounded_product(x, matrix, axis), (x, matrix)


def rounded_product_backward(axis: int, saved, gradient):
    """Gradients of x and matrix."""
    x, matrix = saved
    left, right = (x, gradient) if axis == 0 else (gradient, x)
    rows = tuple(range(x.ndim - 1))
    dimensions = ((rows, rows), ((), ()))
    if min(matrix.shape) >= WIDE:
        of_matrix = lax.dot_general(right, left, dimensions).T
    else:
        of_matrix = lax.dot_general(left, right, dimensions)
    return rounded_product(gradient, matrix, 1 - axis), of_matrix


rounded_product.defvjp(rounded_product_forward, rounded_product_backward)


def dot_general_in(dtype) -> Callable | None:
    """What a Flax Dense layer multiplies with for products in `dtype`."""

    def multiply(x, kernel, dimensions, precision=None, preferred_element_type=None):
        assert dimensions == (((x.ndim - 1,), (0,)), ((), ())), "a Dense layer contracts the last axis"
        return product(x, kernel, dtype)

    return multiply if dtype == HALF else None
