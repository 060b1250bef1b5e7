"""Columns of a batch -> input of the network, inside the compiled step: decoding, channels, window around the track.

Axes: B batch, H 18 layers, W cells, C channels.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxhep.ams_ecal.features import CODES_PER_UNIT, SHAPE
from jaxhep.ams_ecal.geometry import MEASURES_X, crossed_cells, crossed_positions
from jaxhep.errors import BadInput, nearest

MODES = ("crop", "mask")


def build_inputs(
    channels: int, window: int, window_mode: str, scale: float
) -> Callable[[dict[str, jax.Array]], jax.Array]:
    """Return batch -> (B, 18, W, C) float32: log(1 + E / MeV) over `scale`, its mean over hit cells in training.

    channels: 1, or 2 with the y-measuring layers in channel 0 and the x-measuring ones in channel 1, the other view
    zero. window: 0 for all 72 cells (W = 72); odd for that many around the cell that the track crosses in each
    layer, cropped (W = window, cells beyond the edge zero) or with the cells outside masked to zero (W = 72).
    Raises BadInput for other values.
    """
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


def example(batch_size: int, track: bool) -> dict[str, jax.Array]:
    """Return an empty batch of the right shapes, for initialising and compiling."""
    batch = {"cells": jnp.zeros((batch_size, *SHAPE), jnp.uint16), "label": jnp.zeros(batch_size, jnp.uint8)}
    return batch | ({"track": jnp.zeros((batch_size, 5), jnp.float32)} if track else {})
