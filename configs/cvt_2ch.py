"""CvT with two input channels, one for each view of the calorimeter: 4,896,641 parameters.

    python -m jaxhep.train --config configs/cvt_2ch.py

Measured on two shared CPU cores (jax 0.10.2), busy with other work: 350 s after another run had simulated. At 0.2-1 TeV, on
175 test events: accuracy 0.75 (trivial: 0.52), AUC 0.814, rejection 3 (2 to 4) at 90 % electron efficiency. It trains for
60 steps on 480 events and only begins to learn.
"""

from ml_collections import ConfigDict

from jaxhep.ams_ecal.config import cvt


def get_config(variant: str = "") -> ConfigDict:
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    config = cvt(variant)
    config.inputs.channels = 2
    if variant == "":
        config.data.limit.train = 240  # per class: half of the CvT's, some four minutes on two cores
    return config
