"""Convolutional vision transformer (CvT) on the 18 x 72 cells: 4,895,873 parameters.

    python -m jaxhep.train --config configs/cvt.py

Measured on two shared CPU cores (jax 0.10.2): 305 s, simulation and compilation included. At 0.2-1 TeV, on 175 test events:
accuracy 0.87 (trivial: 0.52), AUC 0.946, rejection 8 (5 to 14) at 90 % electron efficiency. The number of protons, 91,
bounds the rejection. No GPU was measured.
"""

from ml_collections import ConfigDict

from jaxhep.ams_ecal.config import cvt


def get_config(variant: str = "") -> ConfigDict:
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    return cvt(variant)
