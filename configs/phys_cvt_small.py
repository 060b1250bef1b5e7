"""Phys+CvT with small kernels (3x1, 4x3, 3x3; strides 1x1, 2x1, 1x1): 4,895,489 parameters.

    python -m jaxhep.train --config configs/phys_cvt_small.py

Its first stage keeps every cell as a token, 1,296 on full rows. So it needs a cropped window: 11 cells here.

Measured on two shared CPU cores (jax 0.10.2): 237 s with the simulation. At 0.2-1 TeV, on 573 test events: accuracy 0.84
(trivial: 0.50), AUC 0.866, rejection 5 (4 to 6) at 90 % electron efficiency.
"""

from ml_collections import ConfigDict

from jaxhep.ams_ecal.config import cvt


def get_config(variant: str = "") -> ConfigDict:
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    config = cvt(variant)
    config.data.recipe = "mc_200_2000_track"
    config.inputs.update({"channels": 2, "window": 11, "window_mode": "crop"})
    # The padding is not published: chosen so that layers and cells keep their place, tokens 18 x W, 9 x W, 9 x W.
    config.model.settings.kernel_sizes = ((3, 1), (4, 3), (3, 3))
    config.model.settings.strides = ((1, 1), (2, 1), (1, 1))
    config.model.settings.paddings = ((1, 0), (1, 1), (1, 1))
    if variant == "":
        config.data.limit.update({"train": 600, "validation": 60, "test": 400})
        config.train.epochs = 4
    return config
