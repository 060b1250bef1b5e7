"""Dense layer shared by all points with its BatchNorm over real points and, if wanted, the maximum over points.

All forms take (x, weight, kernel, scale, shift, known, dtype, pool, axis_name, relu) and give (y, mean, variance).
x (B, P, C), or (B, C) after the maximum; weight (B, P) 1 for real points and 0 for padding, or None; padding must repeat
a real point of its event, so that it cannot win alone. kernel (C, F); scale, shift (F,) and `known` mean and variance
(F,), None in training, are of the BatchNorm; dtype is of the products, pool asks for the maximum, axis_name is the device
axis under pmap, relu asks for the ReLU of y. y is (B, P, F) or (B, F). B events, P points, C inputs, F features.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxhep.kernels.product import product

COORDINATES = 3
EPSILON = 1e-5
Known = tuple[jax.Array, jax.Array] | None
Found = tuple[jax.Array, jax.Array, jax.Array]


def point_layer(
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
    product: Callable[..., jax.Array] = product,
) -> Found:
    """Everything written out."""
    y = product(x, kernel, dtype, precision=precision_for(x)).astype(kernel.dtype)
    mean, variance = mean_and_variance(y, weight, axis_name) if known is None else known
    y = (y - mean) * (scale * lax.rsqrt(variance + EPSILON)) + shift
    if pool:
        # Through the place of the maximum: the gradient of jnp.max compares y again, which XLA may have computed
        # anew with another rounding, so that no point equals the maximum.
        y = jnp.take_along_axis(y, jnp.argmax(y, axis=1)[:, None], axis=1)[:, 0]
    return (jax.nn.relu(y) if relu else y), mean, variance


def by_covariance(product: Callable[..., jax.Array], each_event: Callable[..., Any]) -> Callable[..., Found]:
    """Return the form that never stores the widest array, with this product and `at_once` or `in_turn`.

    Mean and covariance of the input give those of its product, the normalisation is folded into the weights, and, where
    the maximum follows, only the winning points are kept for the gradient.
    """

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
        precision = precision_for(x)
        if known is not None:
            mean, variance = known
        elif x.ndim == 3:
            of_input, covariance = mean_and_covariance(x.astype(kernel.dtype), weight, axis_name, each_event)
            mean = jnp.matmul(of_input, kernel, precision=precision)
            variance = jnp.sum(kernel * jnp.matmul(covariance, kernel, precision=precision), axis=0)
        else:  # a covariance pays where points outnumber inputs, which one row per event does not
            return point_layer(x, weight, kernel, scale, shift, known, dtype, pool, axis_name, relu, product)
        factor = scale * lax.rsqrt(variance + EPSILON)
        offset = shift - mean * factor
        if pool:
            largest = largest_product(x, (kernel * factor).astype(x.dtype), dtype, product, each_event)
            y = largest.astype(kernel.dtype) + offset
        else:
            y = product(x, kernel * factor, dtype, precision=precision).astype(kernel.dtype) + offset
        return (jax.nn.relu(y) if relu else y), mean, variance

    return layer


def of_few(
    x: jax.Array, matrix: jax.Array, dtype: Any = None, transposed: bool = False, precision: Any = None
) -> jax.Array:
    """`product` where coordinates are multiples of rows: accelerators make that part of what comes next, and store less."""
    if x.shape[-1] > COORDINATES:
        return product(x, matrix, dtype, transposed, precision)
    return sum((x[..., number, None] * matrix[number] for number in range(1, x.shape[-1])), x[..., :1] * matrix[0])


def at_once(function: Callable[..., Any], x: Any) -> Any:
    """`function` of each event of the arrays x (B, ...), all together."""
    return jax.vmap(function)(x)


def in_turn(function: Callable[..., Any], x: Any) -> Any:
    """`function` of each event, one after the other: a CPU's cache holds one."""
    return lax.map(function, x)


def precision_for(x: jax.Array) -> lax.Precision | None:
    """Precision of a product with x (..., C): of coordinates all digits, as accelerators would round z by millimetres."""
    return lax.Precision.HIGHEST if x.shape[-1] <= COORDINATES else None


def total(value: jax.Array, axis_name: str | None) -> jax.Array:
    """Sum over devices, where there is a device axis."""
    return value if axis_name is None else lax.psum(value, axis_name)


def mean_and_variance(
    y: jax.Array, weight: jax.Array | None, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """Mean and variance (F,) of y (..., F) over points of weight 1, all devices together."""
    weight = jnp.ones(y.shape[:-1], y.dtype) if weight is None else weight.astype(y.dtype)
    y, weight = y.reshape(-1, y.shape[-1]), weight.reshape(-1, 1)
    number = total(jnp.sum(weight), axis_name)
    mean = total(jnp.sum(weight * y, 0), axis_name) / number
    return mean, total(jnp.sum(weight * (y - mean) ** 2, 0), axis_name) / number


def mean_and_covariance(
    x: jax.Array, weight: jax.Array | None, axis_name: str | None, each_event: Callable[..., Any]
) -> tuple[jax.Array, jax.Array]:
    """Mean (C,) and covariance (C, C) of x (B, P, C) over points of weight (B, P) 1, all devices together."""
    weight = jnp.ones(x.shape[:-1], x.dtype) if weight is None else weight
    number = total(jnp.sum(weight), axis_name)
    mean = total(jnp.einsum("...c,...->c", x, weight), axis_name) / number
    # Sums of squares about the mean keep the digits that a difference of sums would lose. The mean's own share of the
    # gradient vanishes, as the deviations add up to nothing.
    return mean, total(squares(x, weight, lax.stop_gradient(mean), each_event), axis_name) / number


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def squares(x: jax.Array, weight: jax.Array, centre: jax.Array, each_event: Callable[..., Any]) -> jax.Array:
    """Sum over points of weight times the products (C, C) of the deviations of x (B, P, C) from the `centre` (C,)."""

    def one_event(event):
        x, weight = event
        x = x - centre
        return jnp.matmul((x * weight[:, None]).T, x, precision=precision_for(x))

    return jnp.sum(each_event(one_event, (x, weight)), axis=0)


def _squares_forward(x, weight, centre, each_event):
    return squares(x, weight, centre, each_event), (x, weight, centre)


def _squares_backward(each_event, saved, gradient):
    # One product, where autodiff would make two.
    x, weight, centre = saved
    gradient, precision = gradient + gradient.T, precision_for(x)
    of_points, of_centre = (jnp.matmul(values, gradient, precision=precision) for values in (x, centre))
    return (of_points - of_centre) * weight[..., None], None, None


squares.defvjp(_squares_forward, _squares_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def largest_product(
    x: jax.Array, kernel: jax.Array, dtype: Any, product: Callable[..., jax.Array], each_event: Callable[..., Any]
) -> jax.Array:
    """Maximum over points of x (B, P, C) times kernel (C, F), by products in `dtype`: (B, F).

    The gradient goes to the first of equal values.
    """
    return each_event(lambda x: jnp.max(product(x, kernel, dtype), axis=0), x)


def _largest_forward(x, kernel, dtype, product, each_event):
    def one_event(x):
        y = product(x, kernel, dtype)
        largest = jnp.max(y, axis=0)
        # The first point that equals the maximum: two plain reductions are quicker than one for pairs, as in argmax.
        place = jnp.arange(len(x))[:, None]
        # A diverged network has no such point; the last one then stands for it.
        return largest, jnp.min(jnp.where(y == largest, place, len(x) - 1), axis=0)

    largest, winner = each_event(one_event, x)
    return largest, (x, kernel, winner)


def _largest_backward(dtype, product, each_event, saved, gradient):
    # Only the winning points matter.
    x, kernel, winner = saved
    points = jnp.take_along_axis(x, winner[..., None], axis=1)
    kernel_gradient = jnp.einsum("bfc,bf->cf", points, gradient)
    one_event = jax.vmap(lambda winner, values: jnp.zeros(x.shape[1:], x.dtype).at[winner].add(values))
    return one_event(winner, gradient[..., None] * kernel.T), kernel_gradient


largest_product.defvjp(_largest_forward, _largest_backward)
