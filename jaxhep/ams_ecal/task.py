"""What a calorimeter network is asked: cells of a batch -> its input, the loss, and arrays of a user -> cells.

Axes: B batch, H 18 layers, W cells, C channels.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxhep.ams_ecal.features import CODES_PER_UNIT, MEV, SHAPE, encode_cells, has_track
from jaxhep.ams_ecal.geometry import MEASURES_X, crossed_cells, crossed_positions
from jaxhep.errors import BadInput, one_of
from jaxhep.losses import binary_cross_entropy, is_correct
from jaxhep.models import IMAGES
from jaxhep.steps import Batch, Loss
from jaxhep.task import Task

MODES = ("crop", "mask")


def build(config: ConfigDict) -> Task:
    """Return the task of a config. Raises BadInput where its inputs do not exist."""
    build_inputs(config, {"log_cell_mean": 1.0})
    window = config.inputs.window
    cells = window if window and config.inputs.window_mode == "crop" else SHAPE[1]
    return Task(
        networks=IMAGES,
        columns=("cells", "track") if window else ("cells",),
        input_shape=(SHAPE[0], cells, config.inputs.channels),
        example=partial(example, config),
        inputs=partial(build_inputs, config),
        loss=build_loss,
        metric=is_correct,
        facts=partial(facts_of, config),
        describe=describe,
        check_columns=partial(check_columns, config),
        encode=partial(encode, config),
        arguments={"outputs": 1},
    )


def check_columns(config: ConfigDict, columns: Mapping[str, np.ndarray]) -> None:
    """Raise BadInput where the prepared columns lack what the inputs need."""
    if config.inputs.window and "track" not in columns:
        raise BadInput(
            f"config.inputs.window needs the track, which recipe {config.data.recipe!r} does not store; use mc_200_2000_track"
        )


def encode(config: ConfigDict, cells: np.ndarray, track: np.ndarray | None = None) -> Batch:
    """Return columns of cells (N, 18, 72) or (N, 1296) in config.data.cell_unit, and track (N, 5) for a window.

    track: x, y, z in cm at the calorimeter, zenith and azimuth in rad. Raises BadInput for other shapes, and for
    energies that are negative or not finite.
    """
    cells = np.asarray(cells)
    if cells.shape[1:] not in (SHAPE, (SHAPE[0] * SHAPE[1],)):
        raise BadInput(f"cells have shape {cells.shape}, wanted (N, {SHAPE[0]}, {SHAPE[1]}) or (N, 1296)")
    if not np.issubdtype(cells.dtype, np.floating):
        cells = cells.astype(np.float32)
    codes = encode_cells(cells.reshape(len(cells), -1), MEV[config.data.cell_unit], "cells")
    if not config.inputs.window:
        if track is not None:
            raise BadInput("track is given, but this network takes whole layers: it looks at no window around a track")
        return {"cells": codes}
    if track is None or np.shape(track) != (len(cells), 5):
        found = "no track" if track is None else f"a track of shape {np.shape(track)}"
        raise BadInput(f"{found}, wanted ({len(cells)}, 5): this network looks at a window around the track")
    track = np.asarray(track, np.float32)
    if not has_track(track.T).all():
        event = int(np.argmin(has_track(track.T)))
        raise BadInput(f"track of event {event} is {track[event]}, wanted a finite one within two metres")
    return {"cells": codes, "track": track}


def build_inputs(config: ConfigDict, scaling: dict[str, float]) -> Callable[[Batch], jax.Array]:
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
    one_of(window_mode, MODES, "config.inputs.window_mode")

    def inputs(batch: Batch) -> jax.Array:
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


def example(config: ConfigDict, events: int) -> Batch:
    """Return an empty batch of the right shapes, for initialising and compiling."""
    batch = {"cells": jnp.zeros((events, *SHAPE), jnp.uint16), "label": jnp.zeros(events, jnp.uint8)}
    return batch | ({"track": jnp.zeros((events, 5), jnp.float32)} if config.inputs.window else {})


def build_loss(facts: dict[str, Any]) -> Loss:
    """Return (logits, batch) -> cross-entropy per event, electrons weighted."""
    return lambda logits, batch: binary_cross_entropy(logits, batch["label"], facts["electron_weight"])


def facts_of(config: ConfigDict, labels: np.ndarray) -> dict[str, Any]:
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
        lines.append(f"note: {protons} training protons limit the rejection that can be learnt")
    return lines
