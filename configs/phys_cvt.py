"""Phys+CvT: the two-channel CvT on the cells around the track, from the five tracker variables: 4,896,641 parameters.

    python -m jaxhep.train --config configs/phys_cvt.py

How wide the published window is, and whether it crops or masks, is not known. Here the cells outside 21 around the
track are set to zero, so that the network and its cost are those of the CvT; crop with
--config.inputs.window_mode=crop.

RESULT
"""

from configs import cvt


def get_config(variant: str = ""):
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    config = cvt.get_config(variant)
    config.data.recipe = "mc_200_2000_track"
    config.inputs.update({"channels": 2, "window": 21, "window_mode": "mask"})
    return config
