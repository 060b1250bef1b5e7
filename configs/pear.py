"""Ensemble of PointNets trained as one program, whose mean is the prediction: 8 members in `paper`.

    python -m jaxhep.train --config configs/pear.py

The same field, config.ensemble.members, makes an ensemble of any network of the project.

Measured on two shared CPU cores (jax 0.10.2) with 2 members: 695 s, the simulated events being there; FWHM 32.0 mm (27.2
to 37.7), Gaussian sigma 18.8 mm, trimmed mean -1.6 mm on 2,560 events; one member alone 34.4 mm (29.6 to 39.9).
"""

from configs import pointnet


def get_config(variant: str = ""):
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    config = pointnet.get_config(variant)
    config.ensemble.members = 8 if variant == "paper" else 2
    if variant == "":
        config.train.epochs = 5
    return config
