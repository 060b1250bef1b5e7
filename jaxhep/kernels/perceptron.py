"""The perceptron of a transformer block with its LayerNorm and shortcut: tokens (B, T, C) -> (B, T, C).

Both forms take (tokens, norm, dense_1, dense_2, dtype, drop): three pairs of weights, (scale, bias), (kernel (C, H), bias)
and (kernel (H, C), bias), the type of the products, and the dropout of hidden and output layer or None.
B batch, T tokens, C channels, H hidden width (4 C).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxhep.kernels.bias import add_bias
from jaxhep.kernels.product import product, rounded
from jaxhep.kernels.windows import events_at_a_time

Pair = tuple[jax.Array, jax.Array]
Function = Callable[[jax.Array], jax.Array]


def biased_gelu(y: jax.Array, bias: jax.Array) -> jax.Array:
    """Exact GELU of y (..., H) plus a bias (H,)."""
    return nn.gelu(checkpoint_name(add_bias(y, bias), "hidden"), approximate=False)


def perceptron(
    tokens: jax.Array,
    norm: Pair,
    dense_1: Pair,
    dense_2: Pair,
    dtype: Any,
    drop: Function | None = None,
    product: Callable[..., jax.Array] = product,
    activated: Callable[[jax.Array, jax.Array], jax.Array] = biased_gelu,
) -> jax.Array:
    """LayerNorm (epsilon 1e-5), linear, exact GELU, linear, for all tokens at once."""
    drop = drop or (lambda x: x)
    wide = jnp.promote_types(tokens.dtype, jnp.float32)
    x = tokens.astype(wide)
    mean = jnp.mean(x, -1, keepdims=True)
    variance = jnp.maximum(jnp.mean(jnp.square(x), -1, keepdims=True) - jnp.square(mean), 0)
    scale, bias = norm
    x = ((x - mean) * (lax.rsqrt(variance + 1e-5) * scale) + bias).astype(tokens.dtype)
    (kernel_1, bias_1), (kernel_2, bias_2) = dense_1, dense_2
    hidden = drop(activated(product(x, kernel_1, dtype), bias_1))
    return tokens + drop(add_bias(product(hidden, kernel_2, dtype), bias_2))


@jax.custom_vjp
def gelu_from_product(y: jax.Array, bias: jax.Array) -> jax.Array:
    """`biased_gelu` whose gradient keeps y alone: autodiff keeps three arrays, which memory pays for."""
    z = _wide(y) + _wide(bias)
    return (z * _integral(z)).astype(y.dtype)


def _wide(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _integral(z):
    return 0.5 * lax.erfc(-z * 0.5**0.5)  # of the normal distribution, up to z


def _gelu_backward(saved, gradient):
    # The first barrier keeps XLA from storing what both passes compute of y, which is wider than y; the second from
    # storing the gradient in float32 for the sum.
    y, bias = lax.optimization_barrier(saved)
    z = _wide(y) + _wide(bias)
    slope = _integral(z) + z * jnp.exp(-0.5 * z * z) * (2 * jnp.pi) ** -0.5
    gradient = lax.optimization_barrier((gradient * slope).astype(y.dtype))
    return gradient, jnp.sum(_wide(gradient), axis=range(y.ndim - 1)).astype(bias.dtype)


gelu_from_product.defvjp(lambda y, bias: (gelu_from_product(y, bias), (y, bias)), _gelu_backward)


def by_events(
    tokens: jax.Array, norm: Pair, dense_1: Pair, dense_2: Pair, dtype: Any, drop: Function | None = None
) -> jax.Array:
    """Some events at a time, so that a CPU's cache holds the hidden layer; without dropout only.

    Of each event only tokens and hidden layer are kept for the gradient, all else is made again in the cache.
    """
    whole = partial(perceptron, norm=norm, dense_1=dense_1, dense_2=dense_2, dtype=dtype, drop=drop, product=rounded)
    if drop is not None:
        return whole(tokens)
    batch, count = tokens.shape[:2]
    chunk = events_at_a_time(batch, count)
    one = jax.checkpoint(whole, policy=jax.checkpoint_policies.save_only_these_names("hidden"))
    return lax.map(one, tokens.reshape(batch // chunk, chunk, *tokens.shape[1:])).reshape(tokens.shape)
