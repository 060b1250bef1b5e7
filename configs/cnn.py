"""Convolutional network of three layers: 106,317 parameters.

    python -m jaxhep.train --config configs/cnn.py

Measured on two shared CPU cores (jax 0.10.2): 60 s with the simulation. At 0.2-1 TeV, on 9,479 test events: accuracy 0.991
(trivial: 0.599), AUC 0.9996, rejection 1268 (434 to 6149) at 90 % electron efficiency. At 1-2 TeV none of 1,567 protons
passes: rejection above 425.
"""

from ml_collections import ConfigDict

from jaxhep.ams_ecal.config import base


def get_config(variant: str = "") -> ConfigDict:
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    config = base(variant)
    config.model.name = "cnn"
    if variant == "":
        config.train.update({"batch_size": 64, "epochs": 16, "learning_rate": 3e-3, "steps_per_dispatch": 4})
        config.train.update({"schedule": "cosine", "warmup_steps": 50})
    if variant == "smoke":
        config.model.settings.filters = (2, 3, 4)
        config.model.settings.hidden = 8
    return config
