"""Losses per event, unreduced, and the one place where weights and padding are applied.

B events, D coordinates, K classes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

LOG_WIDTH_RANGE = (-9.0, 9.0)  # beyond it a width would overflow before the gradient brings it back


def binary_cross_entropy(logits: jax.Array, labels: jax.Array, positive_weight: float | jax.Array = 1.0) -> jax.Array:
    """Return the weighted binary cross-entropy of each event, shape (B,).

    `logits` (B,) are the network's outputs before the sigmoid, `labels` (B,) are 1 or 0; events of label 1 count
    `positive_weight` times. Both tails are exact for large logits.
    """
    weights = jnp.where(labels > 0, positive_weight, 1.0)
    return weights * optax.losses.sigmoid_binary_cross_entropy(logits, labels)


def is_correct(logits: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    """Return whether the sign of each logit (B,) agrees with the `label` (1 or 0) of the batch."""
    return (logits > 0) == (batch["label"] > 0)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return -log of the softmax of `logits` (B, K) at the class `labels` (B,), integers from 0 to K - 1: shape (B,).

    It is NaN where a label is no class, which stops training there.
    """
    labels = labels.astype(jnp.int32)
    labels = jnp.where(labels < 0, logits.shape[-1], labels)  # a negative index would count from the last class
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)


def is_correct_class(logits: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    """Return whether the largest of each event's logits (B, K) is that of its `label` (B,) in the batch."""
    return jnp.argmax(logits, axis=-1) == batch["label"]


def huber(residual: jax.Array, delta: float) -> jax.Array:
    """Return the mean over D of Huber's loss (Ann. Math. Stat. 35, 73, 1964) of residuals (B, D), shape (B,).

    Quadratic, r^2 / 2, up to `delta` and linear beyond it; `delta` has the residual's unit.
    """
    size = jnp.abs(residual)
    # optax's gradient is delta + (r - delta): of a residual of delta / 1000 it keeps five digits only.
    return jnp.mean(jnp.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta)), axis=-1)


def l1(residual: jax.Array) -> jax.Array:
    """Return the mean absolute residual of each event, (B, D) -> (B,)."""
    return jnp.mean(jnp.abs(residual), axis=-1)


def l2(residual: jax.Array) -> jax.Array:
    """Return the length of each residual, (B, D) -> (B,); its gradient at zero is zero."""
    squared = jnp.sum(residual**2, axis=-1)
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)


def mean_squared(residual: jax.Array) -> jax.Array:
    """Return the mean squared residual of each event, (B, D) -> (B,)."""
    return jnp.mean(residual**2, axis=-1)


def gaussian_nll(residual: jax.Array, log_width: jax.Array) -> jax.Array:
    """Return -log of a Gaussian of width exp(log_width) at each residual, without its constant: (B, D) -> (B,)."""
    log_width = jnp.clip(log_width, *LOG_WIDTH_RANGE)
    return jnp.sum(0.5 * (residual * jnp.exp(-log_width)) ** 2 + log_width, axis=-1)


def laplace_nll(residual: jax.Array, log_width: jax.Array) -> jax.Array:
    """Return -log of exp(-|r|/b) / 2b, b = exp(log_width), at each residual: (B, D) -> (B,), without its constant."""
    log_width = jnp.clip(log_width, *LOG_WIDTH_RANGE)
    return jnp.sum(jnp.abs(residual) * jnp.exp(-log_width) + log_width, axis=-1)


RESIDUAL_LOSSES: dict[str, Callable] = {"huber": huber, "l1": l1, "l2": l2, "mean_squared": mean_squared}
WIDTH_LOSSES: dict[str, Callable] = {"gaussian_nll": gaussian_nll, "laplace_nll": laplace_nll}


def weighted_sums(weight: jax.Array, **values: jax.Array) -> dict[str, jax.Array]:
    """Return the sum over events of weight times each value, and the `weight` sum itself.

    Padded events carry weight 0. The caller adds sums over batches and divides once, so that each event counts
    exactly once whatever the batch size.
    """
    return {"weight": jnp.sum(weight)} | {name: jnp.sum(weight * value) for name, value in values.items()}
