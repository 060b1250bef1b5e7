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
    """cuDNN's kernel where it takes the shapes, else all scores written out.

    JAX's gradient of it refuses odd numbers of tokens: those get one more, which is masked.
    """
    if not cudnn_takes(query):
        return attention(query, key, value, scale, dtype)
    tokens = query.shape[1]
    lengths: dict[str, Any] = {}
    if tokens % 2 or key.shape[1] % 2:
        # Lengths come from the query, for under vmap the kernel wants all that it is given to have the mapped axis.
        none = nothing_of(query)[:, 0, 0, 0].astype(jnp.int32)
        lengths = {"query_seq_lengths": none + tokens, "key_value_seq_lengths": none + key.shape[1]}
        query, key, value = (_to_even(array) for array in (query, key, value))
    out = jax.nn.dot_product_attention(query, key, value, scale=scale, implementation="cudnn", **lengths)
    return tied(out[:, :tokens], query)


def cudnn_takes(query: jax.Array) -> bool:
    """Whether cuDNN's kernel takes queries (B, T, heads, D): half precision, D a multiple of 8 up to 128."""
    half = query.dtype in (jnp.bfloat16, jnp.float16)
    return half and query.shape[-1] % 8 == 0 and query.shape[-1] <= 128


def nothing_of(x: jax.Array) -> jax.Array:
    """Zeros (B, 1, 1, 1) that belong to x (B, ...) for vmap, and cost nothing: XLA knows what an integer times zero is."""
    return lax.stop_gradient(x[:, :1, :1, :1]).astype(jnp.int32) * 0


@jax.custom_vjp
def tied(out: jax.Array, query: jax.Array) -> jax.Array:
    """`out` (B, T, heads, D), whose gradient has the mapped axis of the query under vmap: the kernel's gradient wants it."""
    return out


tied.defvjp(
    lambda out, query: (out, query),
    lambda query, gradient: (gradient + nothing_of(query).astype(gradient.dtype), jnp.zeros_like(query)),
)


def _to_even(array: jax.Array) -> jax.Array:
    return jnp.pad(array, ((0, 0), (0, array.shape[1] % 2), (0, 0), (0, 0)))


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
