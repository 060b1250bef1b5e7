"""ResNet10 with one input channel: 4,900,033 parameters.

    python -m jaxhep.train --config configs/resnet10.py

Measured on two shared CPU cores (jax 0.10.2): 76 s after another run had simulated. At 0.2-1 TeV: accuracy 0.989 (trivial:
0.507), AUC 0.9997, rejection 1435 (258 to 56,680) at 90 % electron efficiency, as one of 1,435 test protons passes.
"""

from ml_collections import ConfigDict

from jaxhep.ams_ecal.config import resnet


def get_config(variant: str = "") -> ConfigDict:
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    return resnet("resnet10", variant)
