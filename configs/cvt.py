"""Convolutional vision transformer (CvT) on the 18 x 72 cells: 4,895,873 parameters.

    python -m jaxhep.train --config configs/cvt.py

Measured on two shared CPU cores (jax 0.10.2): 305 s from nothing, simulation and compilation included;
accuracy 0.87 at 0.2-1 TeV (the trivial classifier: 0.52), AUC 0.946, rejection 8 (5 to 14) at 90 % electron efficiency, on
175 test events: so few protons bound the rejection. No GPU was measured.
"""

from configs.ams_ecal import base


def laptop_size(config) -> None:
    """Set what two CPU cores train in some five minutes: 8 events/s forward and back."""
    config.data.limit.update({"train": 480, "validation": 30, "test": 125})  # per class
    config.train.update(
        {"batch_size": 16, "epochs": 2, "learning_rate": 3e-4, "schedule": "cosine", "warmup_steps": 10}
    )
    config.train.clip_norm = 1.0
    config.evaluate.batch_size = 50


def narrow(config) -> None:
    """Set a network that compiles and trains in seconds, with every part of the full one."""
    config.model.settings.update({"widths": (4, 6, 8), "heads": (1, 1, 2), "blocks": (1, 1, 1)})


def get_config(variant: str = ""):
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    config = base(variant)
    config.model.name = "cvt"
    if variant == "":
        laptop_size(config)
    if variant == "smoke":
        narrow(config)
    return config
