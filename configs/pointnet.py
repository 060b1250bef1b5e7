"""PointNet on the spacepoints, for z of the annihilation: 2,658,369 parameters.

    python -m jaxhep.train --config configs/pointnet.py

Measured on two shared CPU cores (jax 0.10.2): 507 s, simulation, compilation and Helix Fit included. Residual in z on 2,560
events: FWHM 29.6 mm (25.6 to 34.3), Gaussian sigma 17.2 mm, trimmed mean -2.4 mm. The Helix Fit finds a vertex in 88 % of
them and has FWHM 11.8 mm. On Geant4 events (approximate low-energy tables) the network has 30.2 mm. The published
ensemble has 6.62 mm, trained on 135 times the events for up to 500 epochs. No GPU was measured.
"""

from ml_collections import ConfigDict

from jaxhep.alpha_g.config import pointnet


def get_config(variant: str = "") -> ConfigDict:
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    return pointnet(variant)
