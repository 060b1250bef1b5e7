"""Drift of electrons to the anode wires: radius and Lorentz angle against time, by region of |z|.

`drift_table.npz` is the table of the ALPHA-g collaboration for 70 % argon and 30 % carbon dioxide in 1 T, copyright
ALPHA-g collaboration, MIT licence, from github.com/ALPHA-g-Experiment/alpha-g (see NOTICE), resampled to 16 ns:
`z` (92,) upper bounds of |z| in mm; `radius` (92, 270) in mm and `lorentz` (92, 270) in rad where an electron started
that arrives in that time bin; `last` (92,) the longest time in ns. NumPy only: the simulation looks drift times up in
`times_by_radius`, the readout looks radii up in `radius` and `lorentz`.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxhep.alpha_g.geometry import TIME_BIN_NS

RADIUS_GRID_MM = np.arange(108.5, 182.6, 0.25)
"""Radii at which drift times are tabulated."""


class DriftTable(NamedTuple):
    """Upper bounds of |z| (Z,) mm; radius (Z, T) mm and Lorentz angle (Z, T) rad at times 16 ns x column; longest
    time (Z,) ns; and the inverse: drift time in ns at the radii `RADIUS_GRID_MM`, (Z, R)."""

    z: np.ndarray
    radius: np.ndarray
    lorentz: np.ndarray
    last: np.ndarray
    times_by_radius: np.ndarray


@cache
def drift_table() -> DriftTable:
    """Return the table and its inverse: read and inverted by the first call, kept by the process."""
    with np.load(Path(__file__).with_name("drift_table.npz")) as file:
        z, radius, lorentz, last = (file[name] for name in ("z", "radius", "lorentz", "last"))
    time = TIME_BIN_NS * np.arange(radius.shape[1])
    inverse = np.stack([_times(row, time, end) for row, end in zip(radius, last, strict=True)])
    return DriftTable(z, radius, lorentz, last, inverse.astype(np.float32))


def _times(radius: np.ndarray, time: np.ndarray, last: float) -> np.ndarray:
    """Return the drift time at `RADIUS_GRID_MM`; beyond the table's radii in a straight line."""
    inside = int(np.searchsorted(time, last, side="right"))  # beyond `last` the radius stays as it was
    radius, time = radius[:inside].astype(float), time[:inside]
    found = np.interp(-RADIUS_GRID_MM, -radius, time)
    slope = (time[-1] - time[-9]) / (radius[-9] - radius[-1])
    return found + np.maximum(radius[-1] - RADIUS_GRID_MM, 0) * slope


def region(z: np.ndarray) -> np.ndarray:
    """Return the row of the table, 0 to 91, for z in mm (any shape; beyond the detector the last one)."""
    bounds = drift_table().z
    return np.minimum(np.searchsorted(bounds, np.abs(z)), len(bounds) - 1)


def radius_and_lorentz(time_bin: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the radius in mm and the Lorentz angle in rad that time bins (16 ns, from 0) stand for at z in mm."""
    table = drift_table()
    row, column = region(z), np.clip(time_bin, 0, table.radius.shape[1] - 1)
    return table.radius[row, column], table.lorentz[row, column]
