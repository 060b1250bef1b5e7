"""Layers that the networks share.

Layers hold parameters; what they compute with is `kernels`. B batch, H layers (rows), W cells (columns), C channels.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxhep.kernels import Kernels
from jaxhep.kernels.bias import add_bias
from jaxhep.models.initial_values import Initializer, bias_by_inputs, ones, uniform_by_inputs, zeros


def at_least_float32(dtype: Any) -> Any:
    """The type of statistics and of what a network gives."""
    return jnp.promote_types(dtype, jnp.float32)


class Compute(NamedTuple):
    """How a network computes: the types of its products and its parameters, the device axis under pmap, its operations."""

    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None
    kernels: Kernels = Kernels()

    def activations(self, x: jax.Array) -> jax.Array:
        """x in the activation dtype."""
        return x.astype(self.kernels.activation_dtype(self.dtype))

    def wide(self) -> "Compute":
        """The same with products in at least float32."""
        return self._replace(dtype=at_least_float32(self.dtype))


def how(network: Any) -> Compute:
    """Compute as the fields of a network say."""
    return Compute(network.dtype, network.param_dtype, network.axis_name, network.kernels)


def dense(
    width: int,
    x: jax.Array,
    compute: Compute,
    name: str,
    kernel_init: Initializer = uniform_by_inputs,
    bias_init: Initializer | None = None,
) -> jax.Array:
    """A Dense layer of input x (..., C): (..., width). Initial values are PyTorch's default unless given."""
    kernel, bias = Parameters(compute.param_dtype, name=name)(
        kernel=(kernel_init, (x.shape[-1], width)),
        bias=(bias_init or bias_by_inputs(x.shape[-1]), (width,)),
    )
    dtype = jnp.promote_types(x.dtype, compute.dtype)
    y = compute.kernels.product(x.astype(dtype), kernel.astype(dtype), compute.dtype)
    return add_bias(y, bias.reshape((1,) * (y.ndim - 1) + (-1,)))


def layer_norm(x: jax.Array, compute: Compute, name: str) -> jax.Array:
    """LayerNorm of x (..., C) over its channels, in its type, with the epsilon of PyTorch."""
    return nn.LayerNorm(epsilon=1e-5, dtype=x.dtype, param_dtype=compute.param_dtype, name=name)(x)


def squeezed(y: jax.Array) -> jax.Array:
    """Logits (B,) of (B, 1); others as they are."""
    return y[:, 0] if y.shape[-1] == 1 else y


class Parameters(nn.Module):
    """Two arrays by name with their initial values, for an operation that takes them rather than a layer."""

    param_dtype: Any

    @nn.compact
    def __call__(self, **wanted: tuple[Initializer, tuple[int, ...]]) -> tuple[jax.Array, ...]:
        """The arrays, in the order of the names."""
        return tuple(self.param(name, init, shape, self.param_dtype) for name, (init, shape) in wanted.items())


class Convolution(nn.Module):
    """Convolution layer: (B, H, W, C) -> (B, rows, columns, features); parameters `kernel` and, if wanted, `bias`."""

    features: int
    kernel_size: Sequence[int]
    strides: Sequence[int]
    padding: int | Sequence
    compute: Compute = Compute()
    kernel_init: Initializer = uniform_by_inputs
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (B, rows, columns, features) of the map x (B, H, W, C)."""
        shape, x = (*self.kernel_size, x.shape[-1], self.features), self.compute.activations(x)
        kernel = self.param("kernel", self.kernel_init, shape, self.compute.param_dtype).astype(x.dtype)
        y = self.compute.kernels.convolution(x, kernel, self.strides, self.padding, self.compute.dtype)
        if self.bias_init is not None:
            y = add_bias(y, self.param("bias", self.bias_init, (self.features,), self.compute.param_dtype))
        return y


def moving_statistics(module: nn.Module, width: int, dtype: Any) -> tuple[tuple[jax.Array, jax.Array], Callable]:
    """Moving mean and variance (width,) of a BatchNorm inside `module`, and what moves them: momentum 0.9.

    The second takes mean and variance of a batch; while initial values are made it does nothing.
    """
    mean = module.variable("batch_stats", "mean", zeros, None, (width,), dtype)
    variance = module.variable("batch_stats", "var", ones, None, (width,), dtype)

    def move(of_batch: jax.Array, variance_of_batch: jax.Array) -> None:
        if not module.is_initializing():
            mean.value = 0.9 * mean.value + 0.1 * of_batch
            variance.value = 0.9 * variance.value + 0.1 * variance_of_batch

    return (mean.value, variance.value), move


def batch_statistics(
    module: nn.Module, x: jax.Array, bias: jax.Array, axis_name: str | None, train: bool
) -> tuple[jax.Array, jax.Array]:
    """Mean and variance (C,) of a BatchNorm inside `module` over maps x (B, H, W, C), which lack their bias (C,).

    In training those of the batch, over all devices of `axis_name`, in at least float32; else the moving ones.
    """
    wide = at_least_float32(x.dtype)
    (moving_mean, moving_variance), move = moving_statistics(module, x.shape[-1], wide)
    if not train:
        return moving_mean - bias, moving_variance
    mean, square = jnp.mean(x, axis=(0, 1, 2), dtype=wide), jnp.mean(jnp.square(x.astype(wide)), axis=(0, 1, 2))
    if axis_name is not None and not module.is_initializing():
        mean, square = lax.pmean((mean, square), axis_name)
    variance = jnp.maximum(square - jnp.square(mean), 0.0)
    move(mean + lax.stop_gradient(bias), variance)
    return mean, variance
