"""Columns of a batch -> input of the network, inside the compiled step: decoding, channels, window around the track.

Axes: B batch, H 18 layers, W cells, C channels.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxhep.ams_ecal.features import CODES_PER_UNIT, SHAPE
from jaxhep.ams_ecal.geometry import MEASURES_X, crossed_cells, crossed_positions
from jaxhep.errors import BadInput, nearest
from jaxhep.losses import binary_cross_entropy, is_correct

MODES = ("crop", "mask")
NETWORKS = ("mlp", "cnn", "resnet10", "resnet18", "cvt")  # of MODELS, those that take images of cells
FIGURE = "accuracy"  # what is followed beside the loss
FIGURE_LABEL = "Accuracy"


def check(config: Any) -> None:
    """Raise BadInput where the config's inputs do not exist."""
    build_inputs(config, {"log_cell_mean": 1.0})


def missing(config: Any, columns: dict[str, np.ndarray]) -> None:
    """Raise BadInput where the prepared columns lack what the inputs need."""
    if config.inputs.window and "track" not in columns:
        raise BadInput(
            f"config.inputs.window needs the track, which recipe {config.data.recipe!r} does not store; use mc_200_2000_track"
        )


def column_names(config: Any) -> tuple[str, ...]:
    """Return the columns that a batch needs."""
    return ("cells", "label", "track") if config.inputs.window else ("cells", "label")


def input_shape(config: Any) -> tuple[int, int, int]:
    """Return layers, cells and channels of the network's input."""
    chosen = config.inputs
    cells = chosen.window if chosen.window and chosen.window_mode == "crop" else SHAPE[1]
    return SHAPE[0], cells, chosen.channels


def model_arguments(config: Any) -> dict[str, Any]:
    """Return what the network must be told beyond its settings: nothing."""
    return {}


def build_inputs(config: Any, scaling: dict[str, float]) -> Callable[[dict[str, jax.Array]], jax.Array]:
    """Return batch -> (B, 18, W, C) float32: log(1 + E / MeV) over its mean over hit cells in training.

    Of `config.inputs`, channels: 1, or 2 with the y-measuring layers in channel 0 and the x-measuring ones in channel 1, the other view
    zero. window: 0 for all 72 cells (W = 72); odd for that many around the cell that the track crosses in each
    layer, cropped (W = window, cells beyond the edge zero) or with the cells outside masked to zero (W = 72).
    Raises BadInput for other values.
    """
    channels, window, window_mode = config.inputs.channels, config.inputs.window, config.inputs.window_mode
    scale = scaling["log_cell_mean"]
    if channels not in (1, 2):
        raise BadInput(f"config.inputs.channels is {channels}, wanted 1 or 2")
    if window < 0 or window > SHAPE[1] or (window and window % 2 == 0):
        raise BadInput(
            f"config.inputs.window is {window}, wanted 0 (all cells) or an odd number of cells up to {SHAPE[1] - 1}"
        )
    if window_mode not in MODES:
        raise BadInput(
            f"config.inputs.window_mode is {window_mode!r}, wanted one of {', '.join(MODES)}{nearest(window_mode, MODES)}"
        )

    def inputs(batch: dict[str, jax.Array]) -> jax.Array:
        image = batch["cells"].astype(jnp.float32) / (CODES_PER_UNIT * scale)
        if window:
            image = around_track(image, cells_of_track(batch["track"]), window, window_mode)
        if channels == 1:
            return image[..., None]
        measures_x = jnp.asarray(MEASURES_X)[:, None]
        return jnp.stack([jnp.where(measures_x, 0, image), jnp.where(measures_x, image, 0)], axis=-1)

    return inputs


def cells_of_track(track: jax.Array) -> jax.Array:
    """Return the cell (B, 18) that the track (B, 5: x, y, z in cm, zenith, azimuth in rad) crosses in each layer."""
    return crossed_cells(crossed_positions(*(track[:, index] for index in range(5)))).astype(jnp.int32)


def around_track(image: jax.Array, cells: jax.Array, window: int, mode: str) -> jax.Array:
    """Return the image (B, 18, 72) cropped to `window` cells around `cells` (B, 18), or masked outside them."""
    half = window // 2
    if mode == "mask":
        distance = jnp.abs(jnp.arange(SHAPE[1]) - cells[..., None])
        return jnp.where(distance <= half, image, 0)
    wanted = cells[..., None] + jnp.arange(-half, half + 1)
    inside = (wanted >= 0) & (wanted < SHAPE[1])
    taken = jnp.take_along_axis(image, jnp.clip(wanted, 0, SHAPE[1] - 1), axis=2)
    return jnp.where(inside, taken, 0)


def example(config: Any, events: int) -> dict[str, jax.Array]:
    """Return an empty batch of the right shapes, for initialising and compiling."""
    batch = {"cells": jnp.zeros((events, *SHAPE), jnp.uint16), "label": jnp.zeros(events, jnp.uint8)}
    return batch | ({"track": jnp.zeros((events, 5), jnp.float32)} if config.inputs.window else {})


def build_augment(config: Any) -> None:
    """Return no change of training batches."""


def build_loss(config: Any, facts: dict[str, Any]) -> Callable:
    """Return (logits, batch) -> weighted cross-entropy per event."""

    def loss(logits, batch):
        return binary_cross_entropy(logits, batch["label"], facts["electron_weight"])

    return loss


def build_figure(config: Any) -> Callable:
    """Return (logits, batch) -> whether each event is on the right side of zero."""
    return is_correct


def finish(config: Any) -> Callable:
    """Return (logits, batch) -> what is stored: the logits."""
    return lambda logits, batch: logits


def training_facts(config: Any, labels: np.ndarray) -> dict[str, Any]:
    """Return what the loss needs to know of the training events, from their labels (N,)."""
    electrons, protons = int(np.sum(labels == 1)), int(np.sum(labels == 0))
    return {
        "electron_weight": config.train.electron_weight or protons / electrons,
        "electrons": electrons,
        "protons": protons,
    }


def describe(facts: dict[str, Any]) -> list[str]:
    """Return what is printed of the training events, one line each."""
    protons = facts["protons"]
    lines = [f"{facts['electrons']} electrons, {protons} protons, electron weight {facts['electron_weight']:.3g}"]
    if protons < 10_000:
        lines.append(f"note: {protons} training protons bound the rejection that can be learnt")
    return lines
