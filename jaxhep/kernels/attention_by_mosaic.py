"""Attention as kernels for TPUs (Mosaic): the scores of one event and head at a time stay on the chip.

Written out, scores go through a TPU's memory in float32, forward and twice in the gradient. Queries, keys and values are
read as the network has them, (B, T, C) with heads side by side, so nothing is turned round. The gradient keeps these three
alone and makes the scores again.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from jaxhep.kernels.attention import attention
from jaxhep.kernels.partition import EVENTS, over_batch, pallas

WIDE = jnp.float32
MOST_SCORES = 1024**2  # of one head: a few arrays of so many fit on the chip
ALONG, ACROSS = (((1,), (1,)), ((), ())), (((0,), (0,)), ((), ()))  # which axes a product sums over


def by_mosaic(query: jax.Array, key: jax.Array, value: jax.Array, scale: float, dtype: Any = None) -> jax.Array:
    """Kernels of our own in bfloat16 where scores fit on the chip, else all scores written out."""
    (_, tokens, heads, width), others = query.shape, key.shape[1]
    if query.dtype != jnp.bfloat16 or tokens * others > MOST_SCORES:
        return attention(query, key, value, scale, dtype)
    arrays = (array.reshape(*array.shape[:2], heads * width) for array in (query, key, value))
    return on_chip(*arrays, scale, heads).reshape(query.shape)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def on_chip(query: jax.Array, key: jax.Array, value: jax.Array, scale: float, heads: int) -> jax.Array:
    """Attention of (B, T, C) and (B, S, C), heads side by side in C."""
    (out,) = over_batch(partial(_call, _forward, 4, 1, scale, heads), (EVENTS,) * 3, (EVENTS,))(query, key, value)
    return out


def _saved(query, key, value, scale, heads):
    return on_chip(query, key, value, scale, heads), (query, key, value)


def _gradients(scale, heads, saved, of_out):
    run = over_batch(partial(_call, _backward, 10, 3, scale, heads), (EVENTS,) * 4, (EVENTS,) * 3)
    return run(*saved, of_out)


on_chip.defvjp(_saved, _gradients)


def _call(
    kernel: Callable[..., None], per_score: int, results: int, scale: float, heads: int, *arrays: jax.Array
) -> tuple[jax.Array, ...]:
    """Results of the kernel, event by event, which are like the first arrays."""
    (events, tokens, channels), others = arrays[0].shape, arrays[1].shape[1]

    def block(array: Any) -> pl.BlockSpec:
        return pl.BlockSpec((1, *array.shape[1:]), lambda event: (event, 0, 0))

    cost = pl.CostEstimate(
        flops=per_score * events * tokens * others * channels,
        bytes_accessed=sum(array.size * array.dtype.itemsize for array in (*arrays, *arrays[:results])),
        transcendentals=events * heads * tokens * others,
    )

    def call(interpret: bool) -> Callable[..., Any]:
        return pl.pallas_call(
            partial(kernel, scale=scale, heads=heads),
            grid=(events,),
            in_specs=[block(array) for array in arrays],
            out_specs=[block(array) for array in arrays[:results]],
            out_shape=[jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays[:results]],
            interpret=interpret,
            cost_estimate=cost,
            name=f"attention{kernel.__name__}_{heads}_{tokens}_{channels}",
        )

    return tuple(pallas(call, *arrays))


def _dot(a, b, summed=(((1,), (0,)), ((), ()))):
    return lax.dot_general(a, b, summed, preferred_element_type=WIDE)


def _heads(heads, *refs):
    """Each head's place among the channels, and its part (T, D) of each array."""
    width = refs[0].shape[2] // heads
    for head in range(heads):
        lanes = slice(head * width, (head + 1) * width)
        yield lanes, *(ref[0, :, lanes] for ref in refs)


def _weights(query, key, scale):
    """exp(scores - largest) (T, S), and their sums (T, 1)."""
    scores = _dot(query, key, ALONG) * scale
    found = jnp.exp(scores - jnp.max(scores, axis=1, keepdims=True))
    return found, jnp.sum(found, axis=1, keepdims=True)


def _forward(query_ref, key_ref, value_ref, out_ref, *, scale, heads):
    for lanes, query, key, value in _heads(heads, query_ref, key_ref, value_ref):
        weights, sums = _weights(query, key, scale)
        out_ref[0, :, lanes] = (_dot(weights.astype(value.dtype), value) / sums).astype(out_ref.dtype)


def _backward(query_ref, key_ref, value_ref, of_out_ref, of_query_ref, of_key_ref, of_value_ref, *, scale, heads):
    given = (query_ref, key_ref, value_ref, of_out_ref)
    for lanes, query, key, value, of_out in _heads(heads, *given):
        weights, sums = _weights(query, key, scale)
        weights = weights / sums
        of_value_ref[0, :, lanes] = _dot(weights.astype(value.dtype), of_out, ACROSS).astype(value.dtype)
        of_weights = _dot(of_out, value, ALONG)
        mean = jnp.sum(weights * of_weights, axis=1, keepdims=True)
        of_scores = (weights * (of_weights - mean) * scale).astype(query.dtype)
        of_query_ref[0, :, lanes] = _dot(of_scores, key).astype(query.dtype)
        of_key_ref[0, :, lanes] = _dot(of_scores, query, ACROSS).astype(key.dtype)
