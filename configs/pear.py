"""Ensemble of PointNets trained as one program, whose mean is the prediction: 8 members in `paper`.

    python -m jaxhep.train --config configs/pear.py

The field config.ensemble.members makes an ensemble of any other network too.

Measured on two shared CPU cores (jax 0.10.2) with 2 members: 695 s after another run had simulated. On 2,560 events: FWHM
32.0 mm (27.2 to 37.7), Gaussian sigma 18.8 mm, trimmed mean -1.6 mm. One member alone has FWHM 34.4 mm (29.6 to 39.9).
"""

from ml_collections import ConfigDict

from jaxhep.alpha_g.config import pointnet


def get_config(variant: str = "") -> ConfigDict:
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    config = pointnet(variant, epochs=5)
    config.ensemble.members = 8 if variant == "paper" else 2
    return config
