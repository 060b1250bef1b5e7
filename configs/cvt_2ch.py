"""CvT with two input channels, one for each view of the calorimeter: 4,896,641 parameters.

    python -m jaxhep.train --config configs/cvt_2ch.py

RESULT
"""

from configs import cvt


def get_config(variant: str = ""):
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    config = cvt.get_config(variant)
    config.inputs.channels = 2
    if variant == "":
        config.data.limit.train = 240  # per class: half of the CvT's, some four minutes on two cores
    return config
