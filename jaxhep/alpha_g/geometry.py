"""Geometry of the ALPHA-g radial time projection chamber (arXiv 2412.00961): cylinders, wires, pads, field.

Coordinates: z along the axis of the cylinders, which is vertical, with z = 0 in the middle; the field of 1 T points
along +z. Electrons of the gas drift outwards to 256 anode wires parallel to z, beyond which cathode pads measure z.
"""

import numpy as np

FIELD_TESLA = 1.0
HALF_LENGTH_MM = 1152.0  # active length: |z| below this
WALL_RADIUS_MM = 22.275  # inner wall of the trap, on which antihydrogen annihilates
INNER_RADIUS_MM = 109.2  # inner cathode, where the gas begins
WIRE_RADIUS_MM = 182.0  # anode wires
PAD_RADIUS_MM = 190.0  # cathode pads, where the gas ends

WIRES = 256
WIRE_PITCH_RAD = 2 * np.pi / WIRES
PAD_PITCH_MM = 4.0
TIME_BIN_NS = 16.0

MEV_PER_TESLA_MM = 0.299792458
"""Transverse momentum in MeV/c of a unit charge on a circle of 1 mm radius in a field of 1 T (speed of light)."""


def wire_azimuth(wire: np.ndarray | int) -> np.ndarray:
    """Return the azimuth in rad, 0 to 2 pi, of wires by number (0 to 255, any shape)."""
    return (np.asarray(wire) + 0.5) * WIRE_PITCH_RAD
