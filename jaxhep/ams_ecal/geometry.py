"""Geometry of the AMS-02 electromagnetic calorimeter: 18 layers of 72 cells, and where a straight track crosses them.

Coordinates: the z axis points along the flight of a particle that comes from above, with z = 0 at the calorimeter's
front face; layer 0 is the first one crossed and lies at positive z. A track is given as in the ROOT tree `t1` by a
point (`Trk_Ecal_Inci_X`, `_Y`, `_Z`, in cm) and a direction (`Trk_Ecal_Inci_Zenith`, `_Azimutal`, in rad), with

    x_k = X + (z_k - Z) tan(zenith) cos(azimuth),    y_k = Y + (z_k - Z) tan(zenith) sin(azimuth)

Files whose Z is measured in the AMS frame (axis upwards, origin in the tracker) have to be converted first.
"""

from typing import Any

import numpy as np

Array = Any  # of NumPy or JAX

LAYERS = 18
CELLS = 72
CELL_MM = 9.0
HALF_WIDTH_MM = CELLS * CELL_MM / 2
THICKNESS_MM = 166.5
LAYER_MM = THICKNESS_MM / LAYERS
FRONT_FACE_CM = 0.0

LAYERS_MEASURING_X = (2, 3, 6, 7, 10, 11, 14, 15)
MEASURES_X = np.isin(np.arange(LAYERS), LAYERS_MEASURING_X)
"""(18,) bool: True where the layer's fibres run along y, so that its cells measure x."""

LAYER_EDGES_MM = np.linspace(0.0, THICKNESS_MM, LAYERS + 1)
LAYER_CENTRES_MM = (LAYER_EDGES_MM[1:] + LAYER_EDGES_MM[:-1]) / 2
CELL_EDGES_MM = np.linspace(-HALF_WIDTH_MM, HALF_WIDTH_MM, CELLS + 1)


def crossed_positions(x_cm: Array, y_cm: Array, z_cm: Array, zenith: Array, azimuth: Array) -> Array:
    """Return where straight tracks cross the middle of each layer, in the coordinate which that layer measures.

    Arguments are arrays of one shape, (N,) or (N, 1), of numpy or JAX: a point of each track in cm and its zenith and
    azimuth in rad. Returns (N, 18) in mm: x in the layers that measure x, y in the others; it may lie outside the
    calorimeter (beyond +-324 mm). Formula: module docstring.
    """
    x_mm, y_mm, z_mm = (10.0 * value.reshape(-1, 1) for value in (x_cm, y_cm, z_cm))
    zenith, azimuth = zenith.reshape(-1, 1), azimuth.reshape(-1, 1)
    numbers = zenith.__array_namespace__()
    depth_mm = LAYER_CENTRES_MM.astype(np.float32)[None, :] - (z_mm - 10.0 * FRONT_FACE_CM)
    travelled = depth_mm * numbers.tan(zenith)
    return numbers.where(
        MEASURES_X[None, :], x_mm + travelled * numbers.cos(azimuth), y_mm + travelled * numbers.sin(azimuth)
    )


def crossed_cells(positions_mm: Array) -> Array:
    """Return the cell index floor((position + 324 mm) / 9 mm), same shape, float: outside 0..71 where no cell is."""
    return (positions_mm + HALF_WIDTH_MM) // CELL_MM
