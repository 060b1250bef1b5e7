"""Scaled dot-product attention, written out or by the accelerator's fused kernel.

B batch, heads, T tokens, D width of one head.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .products import product

KINDS = ("auto", "explicit", "by_head", "fused")


def attention(query, key, value, scale: float, kind: str = "auto", dtype=None):
    """softmax(scale * query key^T) value: three arrays (B, T, heads, D) -> (B, T, heads, D).

    kind: "explicit" writes all scores out; "by_head" those of one event and head at a time, which stay in a CPU's
    cache, and again for the gradient; "fused" uses `jax.nn.dot_product_attention` (on a GPU in half precision cuDNN's
    kernel); "auto" is by_head on a CPU, fused where cuDNN takes the shapes, else explicit. Raises ValueError for
    another kind. dtype: type of by_head's products, where that is not the type of the arrays; see `products`.
    """
    if kind not in KINDS:
        raise ValueError(f"attention is {kind!r}; it must be one of {', '.join(KINDS)}")
    cudnn = on_cudnn(query)
    if kind == "auto":
        kind = "fused" if cudnn else "by_head" if jax.default_backend() == "cpu" else "explicit"
    if kind == "fused":
        implementation: Any = "cudnn" if cudnn else "xla"
        return jax.nn.dot_product_attention(query, key, value, scale=scale, implementation=implementation)
    query, key, value = (array.swapaxes(1, 2) for array in (query * scale, key, value))
    if kind == "explicit":
        return explicit(query, key, value).swapaxes(1, 2)
    heads = tuple(array.reshape(-1, *array.shape[2:]) for array in (query, key, value))
    multiply = explicit if dtype in (None, query.dtype) else partial(rounded, dtype=dtype)
    one_head = jax.checkpoint(lambda head: multiply(*head))
    return lax.map(one_head, heads).reshape(query.shape).swapaxes(1, 2)


def on_cudnn(query) -> bool:
    """Whether cuDNN's kernel takes queries (B, T, heads, D): half precision, D a multiple of 8 up to 128."""
    half = query.dtype in (jnp.bfloat16, jnp.float16)
    return half and jax.default_backend() == "gpu" and query.shape[-1] % 8 == 0 and query.shape[-1] <= 128


def explicit(query, key, value):
    """softmax(query key^T) value over (..., T, D), the softmax in float32 or wider."""
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("...td,...sd->...ts", query, key, preferred_element_type=wide)
    return jnp.einsum("...ts,...sd->...td", jax.nn.softmax(scores).astype(query.dtype), value)


def rounded(query, key, value, dtype):
    """The same over (T, D) of wider type, with products in `dtype`."""
    return product(jax.nn.softmax(product(query, key, dtype, transposed=True)), value, dtype)
