"""Scaled dot-product attention, written out or by the accelerator's fused kernel.

B batch, heads, T tokens, D width of one head.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def attention(query, key, value, scale: float, kind: str = "auto", chunk: int = 0):
    """softmax(scale * query key^T) value: three arrays (B, T, heads, D) -> (B, T, heads, D).

    kind: "explicit" writes the scores out, "fused" uses `jax.nn.dot_product_attention` (cuDNN's kernel for half
    precision on GPU), "auto" is fused there and explicit elsewhere. chunk: with the explicit kind, this many events at
    a time, recomputed for the gradient, so that the scores of one chunk alone are held (0: all at once).
    Raises ValueError for another kind.
    """
    if kind not in ("auto", "explicit", "fused"):
        raise ValueError(f"attention is {kind!r}; it must be auto, explicit or fused")
    half = query.dtype in (jnp.bfloat16, jnp.float16)
    cudnn = half and jax.default_backend() == "gpu"
    if kind == "fused" or (kind == "auto" and cudnn):
        implementation: Any = "cudnn" if cudnn else "xla"
        return jax.nn.dot_product_attention(query, key, value, scale=scale, implementation=implementation)
    query, key, value = (array.swapaxes(1, 2) for array in (query * scale, key, value))
    if chunk and chunk < query.shape[0]:
        one_event = jax.checkpoint(lambda event: explicit(*event))
        mixed = lax.map(one_event, (query, key, value), batch_size=chunk)
    else:
        mixed = explicit(query, key, value)
    return mixed.swapaxes(1, 2)


def explicit(query, key, value):
    """softmax(query key^T) value over (..., T, D), the softmax in float32 or wider."""
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("...td,...sd->...ts", query, key, preferred_element_type=wide)
    return jnp.einsum("...ts,...sd->...td", jax.nn.softmax(scores).astype(query.dtype), value)
