"""Layers over sets of points: shared dense layer with BatchNorm over real points, and maximum over points.

Two formulations with the same numbers. "plain" writes everything out. "gram" takes the BatchNorm statistics of a dense
layer from mean and covariance of its input, folds the normalisation into the weights, and, where the maximum over
points follows, keeps only the winning points for the gradient: the widest array is never stored.
B events, P points, C inputs, F features.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from .initial_values import bias_by_inputs, uniform_by_inputs
from .products import kept_dtype, product

FORMULATIONS = ("plain", "gram")
COORDINATES = 3


def formulation_of(name: str) -> str:
    """The formulation called `name`, "gram" for every purpose. Raises ValueError for another name."""
    if name in ("auto", "one step"):
        return "gram"
    if name not in FORMULATIONS:
        raise ValueError(f"formulation is {name!r}; it must be 'auto' or one of {', '.join(FORMULATIONS)}")
    return name


def total(value, axis_name: str | None):
    """Sum over devices, where there is a device axis."""
    return value if axis_name is None else lax.psum(value, axis_name)


def precision_for(x):
    """Precision of a product with x (..., C): of coordinates all digits, as accelerators would round z by millimetres."""
    return lax.Precision.HIGHEST if x.shape[-1] <= COORDINATES else None


def rows(x, weight):
    """All points of all events as rows (N, C), and their weights (N, 1), 1 for real and 0 for padded points."""
    weight = jnp.ones(x.shape[:-1], x.dtype) if weight is None else weight.astype(x.dtype)
    return x.reshape(-1, x.shape[-1]), weight.reshape(-1, 1)


def mean_and_variance(y, weight, axis_name: str | None = None):
    """Mean and variance (F,) of y (..., F) over points of weight 1, all devices together."""
    y, weight = rows(y, weight)
    number = total(jnp.sum(weight), axis_name)
    mean = total(jnp.sum(weight * y, 0), axis_name) / number
    return mean, total(jnp.sum(weight * (y - mean) ** 2, 0), axis_name) / number


def mean_and_covariance(x, weight, axis_name: str | None = None):
    """Mean (C,) and covariance (C, C) of x (B, P, C) over points of weight (B, P) 1, all devices together."""
    weight = jnp.ones(x.shape[:-1], x.dtype) if weight is None else weight
    number = total(jnp.sum(weight), axis_name)
    mean = total(jnp.einsum("...c,...->c", x, weight), axis_name) / number
    # Sums of squares about the mean keep the digits that a difference of sums would lose. The mean's own share of the
    # gradient vanishes, as the deviations add up to nothing.
    return mean, total(squares(x, weight, lax.stop_gradient(mean)), axis_name) / number


@jax.custom_vjp
def squares(x, weight, centre):
    """Sum over points of weight times the products (C, C) of the deviations of x (B, P, C) from the `centre` (C,)."""

    def one_event(event):
        x, weight = event
        x = x - centre
        return jnp.matmul((x * weight[:, None]).T, x, precision=precision_for(x))

    return jnp.sum(by_event(one_event, (x, weight)), axis=0)


def squares_backward(saved, gradient):
    """Gradient of x: one product, where autodiff would make two."""
    x, weight, centre = saved
    gradient, precision = gradient + gradient.T, precision_for(x)
    of_points, of_centre = (jnp.matmul(values, gradient, precision=precision) for values in (x, centre))
    return (of_points - of_centre) * weight[..., None], None, None


squares.defvjp(lambda *inputs: (squares(*inputs), inputs), squares_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def largest_product(x, kernel, dtype):
    """Maximum over points of x (B, P, C) times kernel (C, F), by products in `dtype`: (B, F).

    The gradient goes to the first of equal values.
    """
    return by_event(lambda x: jnp.max(product(x, kernel, dtype), axis=0), x)


def largest_product_forward(x, kernel, dtype):
    """The maximum, and what its gradient needs: the point (B, F) that won each feature."""

    def one_event(x):
        y = product(x, kernel, dtype)
        largest = jnp.max(y, axis=0)
        # The first point that equals the maximum: two plain reductions are quicker than one for pairs, as in argmax.
        place = jnp.arange(len(x))[:, None]
        # A diverged network has no such point; the last one then stands for it.
        return largest, jnp.min(jnp.where(y == largest, place, len(x) - 1), axis=0)

    largest, winner = by_event(one_event, x)
    return largest, (x, kernel, winner)


def largest_product_backward(dtype, saved, gradient):
    """Gradients of x and kernel: only the winning points matter."""
    del dtype
    x, kernel, winner = saved
    points = jnp.take_along_axis(x, winner[..., None], axis=1)
    kernel_gradient = jnp.einsum("bfc,bf->cf", points, gradient)
    one_event = jax.vmap(lambda winner, values: jnp.zeros(x.shape[1:], x.dtype).at[winner].add(values))
    return one_event(winner, gradient[..., None] * kernel.T), kernel_gradient


largest_product.defvjp(largest_product_forward, largest_product_backward)


def by_event(function, x):
    """`function` of each event of the arrays x (B, ...): in turn on a CPU, whose cache holds one event, else at once."""
    return lax.map(function, x) if jax.default_backend() == "cpu" else jax.vmap(function)(x)


class PointLayer(nn.Module):
    """Dense layer shared by all points, then BatchNorm over the real points, ReLU, and the maximum over points if `pool`.

    Parameters kernel (C, F), bias (F,), norm_scale, norm_bias (F,); running mean and variance in batch_stats.
    Statistics are in at least float32, whatever the `dtype` of the products.
    """

    features: int
    relu: bool = True
    pool: bool = False
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    formulation: str = "auto"

    @nn.compact
    def __call__(self, x, weight=None, train: bool = False):
        """Features (..., F) of x (..., C), or (B, F) of (B, P, C) with `pool`.

        weight (...,) is 1 for real points, 0 for padding; padding must repeat a real point of its event, so that it
        cannot win alone.
        """
        wide = jnp.promote_types(self.dtype, jnp.float32)
        vector = (self.features,)
        kernel = self.param("kernel", uniform_by_inputs, (x.shape[-1], self.features), self.param_dtype)
        bias = self.param("bias", bias_by_inputs(x.shape[-1]), vector, self.param_dtype)
        scale = self.param("norm_scale", nn.initializers.ones_init(), vector, self.param_dtype).astype(wide)
        shift = self.param("norm_bias", nn.initializers.zeros_init(), vector, self.param_dtype).astype(wide)
        running_mean = self.variable("batch_stats", "mean", lambda: jnp.zeros(vector, wide))
        running_var = self.variable("batch_stats", "var", lambda: jnp.ones(vector, wide))
        kernel, bias = kernel.astype(wide), bias.astype(wide)
        x = x.astype(kept_dtype(self.dtype, self.formulation))
        precision = precision_for(x)
        multiply = partial(product, dtype=self.dtype, precision=precision)
        # A covariance pays where points outnumber inputs, which one row per event does not.
        fast = formulation_of(self.formulation) == "gram" and x.ndim == 3

        y = None
        if not train:
            mean, variance = running_mean.value - bias, running_var.value
        elif fast:
            of_input, covariance = mean_and_covariance(x.astype(wide), weight, self.axis_name)
            mean = jnp.matmul(of_input, kernel, precision=precision)
            variance = jnp.sum(kernel * jnp.matmul(covariance, kernel, precision=precision), axis=0)
        else:
            y = multiply(x, kernel).astype(wide)
            mean, variance = mean_and_variance(y, weight, self.axis_name)
        if train and not self.is_initializing():
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * (mean + bias)
            running_var.value = keep * running_var.value + (1 - keep) * variance

        # The layer's bias is in the mean too and cancels: without it in the sum its gradient is exactly zero.
        factor = scale * lax.rsqrt(variance + self.epsilon)
        offset = shift - mean * factor
        if y is not None:
            y = (y - mean) * factor + shift
            # Through the place of the maximum: the gradient of jnp.max compares y again, which XLA may have computed
            # anew with another rounding, so that no point equals the maximum.
            y = jnp.take_along_axis(y, jnp.argmax(y, axis=1)[:, None], axis=1)[:, 0] if self.pool else y
        elif self.pool:
            y = largest_product(x, (kernel * factor).astype(x.dtype), self.dtype).astype(wide) + offset
        else:
            y = multiply(x, kernel * factor).astype(wide) + offset
        y = nn.relu(y) if self.relu else y
        return y.astype(x.dtype)
