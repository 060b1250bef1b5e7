"""The perceptron of a transformer block, all at once or some events at a time, so that a CPU's cache holds its hidden layer.

B batch, T tokens, C channels, H hidden width (4 C).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from .convolution import events_at_a_time
from .products import product


class NormParameters(nn.Module):
    """Parameters of a LayerNorm over C channels: scale (C,) and bias (C,)."""

    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, channels: int):
        """Scale and bias."""
        scale = self.param("scale", nn.initializers.ones_init(), (channels,), self.param_dtype)
        return scale, self.param("bias", nn.initializers.zeros_init(), (channels,), self.param_dtype)


class LinearParameters(nn.Module):
    """Parameters of a linear layer: kernel (inputs, features) and bias (features,)."""

    features: int
    kernel_init: nn.initializers.Initializer
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: int):
        """Kernel and bias."""
        kernel = self.param("kernel", self.kernel_init, (inputs, self.features), self.param_dtype)
        return kernel, self.param("bias", nn.initializers.zeros_init(), (self.features,), self.param_dtype)


class Weights(NamedTuple):
    """Parameters of LayerNorm and both linear layers."""

    norm: tuple
    dense_1: tuple
    dense_2: tuple


def by_events(tokens, weights: Weights, dtype):
    """tokens (B, T, C) plus the perceptron of their LayerNorm, some events at a time.

    Of each event only tokens and hidden layer are kept for the gradient, all else is made again in the cache.
    """
    batch, count = tokens.shape[:2]
    chunk = events_at_a_time(batch, count)
    policy = jax.checkpoint_policies.save_only_these_names("hidden")
    one = jax.checkpoint(lambda events: perceptron(events, weights, dtype), policy=policy)
    return lax.map(one, tokens.reshape(batch // chunk, chunk, *tokens.shape[1:])).reshape(tokens.shape)


def perceptron(tokens, weights: Weights, dtype, drop: Callable = lambda x: x):
    """tokens (..., C) plus the perceptron of their LayerNorm: linear, exact GELU, linear. Epsilon is 1e-5.

    Products are in `dtype`; `drop` is the dropout of hidden and output layer.
    """
    wide = jnp.promote_types(tokens.dtype, jnp.float32)
    x = tokens.astype(wide)
    mean = jnp.mean(x, -1, keepdims=True)
    variance = jnp.maximum(jnp.mean(jnp.square(x), -1, keepdims=True) - jnp.square(mean), 0)
    scale, bias = weights.norm
    x = ((x - mean) * (lax.rsqrt(variance + 1e-5) * scale) + bias).astype(tokens.dtype)
    (kernel_1, bias_1), (kernel_2, bias_2) = weights.dense_1, weights.dense_2
    hidden = checkpoint_name(product(x, kernel_1, dtype) + bias_1.astype(x.dtype), "hidden")
    activated = drop(nn.gelu(hidden, approximate=False))
    return tokens + drop(product(activated, kernel_2, dtype) + bias_2.astype(x.dtype))
