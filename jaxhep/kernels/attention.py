"""Scaled dot-product attention: softmax(scale * query key^T) value of arrays (B, T, heads, D) -> (B, T, heads, D).

Every form takes (query, key, value, scale, dtype), `dtype` the type of the products where that is not the type of the
arrays. B batch, T tokens, D width of one head.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxhep.kernels.product import rounded


def attention(query: jax.Array, key: jax.Array, value: jax.Array, scale: float, dtype: Any = None) -> jax.Array:
    """All scores written out, the softmax in float32 or wider."""
    del dtype
    return _over_heads(explicit, query, key, value, scale)


def by_head(query: jax.Array, key: jax.Array, value: jax.Array, scale: float, dtype: Any = None) -> jax.Array:
    """The scores of one event and head at a time, which stay in a CPU's cache, and again for the gradient."""
    multiply = explicit if dtype in (None, query.dtype) else partial(_explicit_rounded, dtype=dtype)

    def each_head(query, key, value):
        heads = tuple(array.reshape(-1, *array.shape[2:]) for array in (query, key, value))
        one_head = jax.checkpoint(lambda head: multiply(*head))
        return lax.map(one_head, heads).reshape(query.shape)

    return _over_heads(each_head, query, key, value, scale)


def fused(query: jax.Array, key: jax.Array, value: jax.Array, scale: float, dtype: Any = None) -> jax.Array:
    """JAX's own attention as XLA writes it."""
    del dtype
    return jax.nn.dot_product_attention(query, key, value, scale=scale, implementation="xla")


def by_cudnn(query: jax.Array, key: jax.Array, value: jax.Array, scale: float, dtype: Any = None) -> jax.Array:
    """cuDNN's kernel where it takes the shapes, else all scores written out."""
    if not cudnn_takes(query, key):
        return attention(query, key, value, scale, dtype)
    return jax.nn.dot_product_attention(query, key, value, scale=scale, implementation="cudnn")


def cudnn_takes(query: jax.Array, key: jax.Array) -> bool:
    """Whether cuDNN's kernel takes these, gradients included.

    It wants half precision and D a multiple of 8 up to 128. JAX's gradient rule refuses odd numbers of tokens.
    """
    half, even = query.dtype in (jnp.bfloat16, jnp.float16), query.shape[1] % 2 == key.shape[1] % 2 == 0
    return half and even and query.shape[-1] % 8 == 0 and query.shape[-1] <= 128


def _over_heads(attend: Callable[..., jax.Array], query, key, value, scale: float) -> jax.Array:
    query, key, value = (array.swapaxes(1, 2) for array in (query * scale, key, value))
    return attend(query, key, value).swapaxes(1, 2)


def explicit(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """softmax(query key^T) value over (..., T, D)."""
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("...td,...sd->...ts", query, key, preferred_element_type=wide)
    return jnp.einsum("...ts,...sd->...td", jax.nn.softmax(scores).astype(query.dtype), value)


def _explicit_rounded(query, key, value, dtype):
    return rounded(jax.nn.softmax(rounded(query, key, dtype, transposed=True)), value, dtype)
