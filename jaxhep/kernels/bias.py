"""A bias added to activations, whose gradient is a sum over all events and cells.

Autodiff sums in the type of the addition: in bfloat16 a sum stops growing after a few hundred equal terms, and a map's bias
sums over a million.
"""

import jax
import jax.numpy as jnp


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """x (..., F) plus bias (F,), added and its gradient summed in at least float32, rounded to the type of x."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return (x.astype(wide) + bias.astype(wide)).astype(x.dtype)
