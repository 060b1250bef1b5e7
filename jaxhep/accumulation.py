"""Gradients of a batch taken in parts, one after the other: memory, or the caches of a CPU, need to hold one part only."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxhep.errors import BadInput

FIRST_KEY = 2  # of a part's dropout: 1 is augmentation's


def check_parts(parts: int, batch_size: int, devices: int) -> None:
    """Raise BadInput unless the batch divides into the parts, and each of these among the devices."""
    if parts < 1:
        raise BadInput(f"config.train.accumulate is {parts}, wanted at least 1")
    if batch_size % (parts * devices):
        among = f" on each of {devices} devices" if devices > 1 else ""
        raise BadInput(f"config.train.batch_size {batch_size} does not divide into {parts} parts{among}")


def in_parts(gradient: Callable, parts: int) -> Callable:
    """Return `gradient` as means over parts of the batch: the same numbers where events do not see each other.

    gradient: (params, batch_stats, batch, key) -> ((value, (metric, batch_stats)), gradients), as `value_and_grad` has
    it. BatchNorm takes the statistics of each part, and its running averages move on with each; each part draws its own
    dropout.
    """
    if parts == 1:
        return gradient

    def take(array):
        # Part p has the events p, p + parts, ...: where a batch is split among devices, so is each part.
        return jnp.moveaxis(array.reshape(-1, parts, *array.shape[1:]), 1, 0)

    def whole(params: Any, batch_stats: Any, batch: dict[str, Any], key: jax.Array):
        def add(carry, part):
            batch_stats, total = carry
            number, events = part
            found = gradient(params, batch_stats, events, jax.random.fold_in(key, FIRST_KEY + number))
            (value, (metric, batch_stats)), gradients = found
            return (batch_stats, jax.tree.map(jnp.add, total, (value, metric, gradients))), None

        pieces = jax.tree.map(take, batch)
        one = jax.eval_shape(gradient, params, batch_stats, jax.tree.map(lambda piece: piece[0], pieces), key)
        (value, (metric, _)), gradients = one
        zeros = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), (value, metric, gradients))
        (batch_stats, total), _ = jax.lax.scan(add, (batch_stats, zeros), (jnp.arange(parts), pieces))
        value, metric, gradients = jax.tree.map(lambda array: array / parts, total)
        return (value, (metric, batch_stats)), gradients

    return whole
