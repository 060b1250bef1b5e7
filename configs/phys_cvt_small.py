"""Phys+CvT with small kernels (3x1, 4x3, 3x3; strides 1x1, 2x1, 1x1): 4,895,489 parameters.

    python -m jaxhep.train --config configs/phys_cvt_small.py

It keeps every cell as a token, so it wants a cropped window: on full rows it has 1,296 tokens.

Measured on two shared CPU cores (jax 0.10.2): 237 s with the simulation; accuracy 0.84 at 0.2-1 TeV (trivial: 0.50),
AUC 0.866, rejection 5 (4 to 6) at 90 % electron efficiency, on 573 test events.
"""

from configs import phys_cvt


def get_config(variant: str = ""):
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    config = phys_cvt.get_config(variant)
    config.inputs.update({"window": 11, "window_mode": "crop"})
    if variant == "":
        config.train.epochs = 4
    config.model.settings.kernels = ((3, 1), (4, 3), (3, 3))
    config.model.settings.strides = ((1, 1), (2, 1), (1, 1))
    config.model.settings.paddings = ((1, 0), (1, 1), (1, 1))
    return config
