"""Phys+CvT: the two-channel CvT on the cells around the track, from the five tracker variables: 4,896,641 parameters.

    python -m jaxhep.train --config configs/phys_cvt.py

How wide the published window is, and whether it crops or masks, is not known. Here each layer is cropped to the 21 cells
around the track. That is three times faster than the CvT on full rows. --config.inputs.window_mode=mask keeps all 72 cells
and sets those outside the window to zero.

Measured on two shared CPU cores (jax 0.10.2): 211 s with the simulation. At 0.2-1 TeV, on 573 test events: accuracy 0.91
(trivial: 0.50), AUC 0.983, rejection 18 (11 to 31) at 90 % electron efficiency.
"""

from ml_collections import ConfigDict

from jaxhep.ams_ecal.config import cvt


def get_config(variant: str = "") -> ConfigDict:
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    config = cvt(variant)
    config.data.recipe = "mc_200_2000_track"
    config.inputs.update({"channels": 2, "window": 21, "window_mode": "crop"})
    if variant == "":
        config.data.limit.update({"train": 600, "validation": 60, "test": 400})
        config.train.epochs = 3
    return config
