"""Losses per event, unreduced, and the one place where weights and padding are applied."""

import jax
import jax.numpy as jnp


def binary_cross_entropy(logits: jax.Array, labels: jax.Array, electron_weight: float | jax.Array = 1.0) -> jax.Array:
    """Return the weighted binary cross-entropy of each event, shape (B,).

    `logits` (B,) are the network's outputs before the sigmoid, `labels` (B,) are 1 for electrons and 0 for
    protons. Electrons count `electron_weight` times; softplus keeps both tails exact for large logits.
    """
    labels = labels.astype(logits.dtype)
    return electron_weight * labels * jax.nn.softplus(-logits) + (1 - labels) * jax.nn.softplus(logits)


def weighted_sums(weight: jax.Array, **values: jax.Array) -> dict[str, jax.Array]:
    """Return the sum over events of weight times each value, and the `weight` sum itself.

    Padded events carry weight 0. The caller adds sums over batches and divides once, so that each event counts
    exactly once whatever the batch size.
    """
    return {"weight": jnp.sum(weight)} | {name: jnp.sum(weight * value) for name, value in values.items()}
