"""Convolutional network of three layers: 106,317 parameters.

    python -m jaxhep.train --config configs/cnn.py

RESULT
"""

from configs.ams_ecal import base


def get_config(variant: str = ""):
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
