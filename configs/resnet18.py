"""ResNet18 with one input channel: 11,170,753 parameters.

    python -m jaxhep.train --config configs/resnet18.py

Measured on two shared CPU cores (jax 0.10.2): 122 s after another run had simulated. At 0.2-1 TeV: accuracy 0.993 (trivial:
0.507), AUC 0.9998, rejection above 389 at 90 % electron efficiency, as none of 1,435 test protons passes.
"""

from ml_collections import ConfigDict

from jaxhep.ams_ecal.config import resnet


def get_config(variant: str = "") -> ConfigDict:
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    return resnet("resnet18", variant)
