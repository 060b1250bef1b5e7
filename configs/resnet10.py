"""ResNet10 with one input channel: 4,900,033 parameters.

    python -m jaxhep.train --config configs/resnet10.py

Measured on two shared CPU cores (jax 0.10.2): 76 s after another run had simulated; accuracy 0.989 at 0.2-1 TeV (trivial:
0.507), AUC 0.9997, rejection 1435 (258 to 56,680) at 90 % electron efficiency: one of 1,435 test protons passes.
"""

from configs.ams_ecal import base


def get_config(variant: str = ""):
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    config = base(variant)
    config.model.name = "resnet10"
    if variant == "":
        config.data.limit.update({"train": 2500, "validation": 500, "test": 2000})
        config.train.update(
            {"batch_size": 64, "epochs": 6, "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 50}
        )
    if variant == "smoke":
        config.model.settings.width = 4
    return config
