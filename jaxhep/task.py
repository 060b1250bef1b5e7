"""What a network is asked of a batch: inputs, loss, metric and decoded result; in JAX, made once for a config."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxhep.losses import cross_entropy, is_correct_class
from jaxhep.steps import Augment, Batch, Inputs, Loss, unchanged


class Task(NamedTuple):
    """Of a classification into K classes where nothing else is said: the network gives (B, K) logits."""

    networks: Mapping[str, Any]  # those that take these inputs: models.IMAGES or models.POINTS
    columns: tuple[str, ...]  # that the network's input is made of
    input_shape: tuple[int, ...]  # of one event
    example: Callable[[int], Batch]  # events -> a batch of zeros, all columns and targets
    inputs: Callable[[dict[str, float]], Inputs]  # scaling -> batch -> the network's input
    targets: tuple[str, ...] = ("label",)  # columns that loss and metric need beside
    loss: Callable[[dict[str, Any]], Loss] = lambda facts: cross_entropy_of_label  # facts -> (outputs, batch) -> (B,)
    metric: Loss = is_correct_class  # (outputs, batch) -> (B,), followed beside the loss
    metric_name: str = "accuracy"
    metric_label: str = "Accuracy"
    decode: Callable[[jax.Array, Batch], jax.Array] = unchanged  # outputs -> what is stored as a result
    augment: Augment | None = None  # (key, batch) -> a changed training batch
    arguments: Mapping[str, Any] = {}  # of the network, beyond its settings
    facts: Callable[[np.ndarray], dict[str, Any]] = lambda labels: {}  # of the training events, for the loss
    describe: Callable[[dict[str, Any]], list[str]] = lambda facts: []  # what is printed of them
    check_columns: Callable[[Mapping[str, np.ndarray]], None] = lambda columns: None  # raises BadInput for what lacks
    encode: Callable[..., Batch] | None = None  # arrays as users have them -> `columns`


def cross_entropy_of_label(logits: jax.Array, batch: Batch) -> jax.Array:
    """Return the cross-entropy (B,) of logits (B, K)."""
    return cross_entropy(logits, batch["label"])
