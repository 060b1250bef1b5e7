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

from jaxhep.kernels.product import product, rounded
from jaxhep.kernels.windows import events_at_a_time

Pair = tuple[jax.Array, jax.Array]
Function = Callable[[jax.Array], jax.Array]


def perceptron(
    tokens: jax.Array,
    norm: Pair,
    dense_1: Pair,
    dense_2: Pair,
    dtype: Any,
    drop: Function | None = None,
    product: Callable[..., jax.Array] = product,
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
    hidden = checkpoint_name(product(x, kernel_1, dtype) + bias_1.astype(x.dtype), "hidden")
    activated = drop(nn.gelu(hidden, approximate=False))
    return tokens + drop(product(activated, kernel_2, dtype) + bias_2.astype(x.dtype))


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
