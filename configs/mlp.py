"""Multilayer perceptron on the 1,296 cells: 192,001 parameters.

    python -m jaxhep.train --config configs/mlp.py

Measured on two shared CPU cores (jax 0.10.2): 15 s after another run had simulated. At 0.2-1 TeV, on 9,479 test events:
accuracy 0.893 (trivial: 0.599), AUC 0.937, rejection 6 (6 to 7) at 90 % electron efficiency.
"""

from ml_collections import ConfigDict

from jaxhep.ams_ecal.config import base


def get_config(variant: str = "") -> ConfigDict:
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    config = base(variant)
    config.model.name = "mlp"
    if variant == "":
        config.train.update({"epochs": 20, "learning_rate": 5e-4, "steps_per_dispatch": 20})
    if variant == "smoke":
        config.model.settings.hidden = (16, 8)
    return config
