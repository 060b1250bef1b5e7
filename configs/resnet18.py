"""ResNet18 with one input channel: 11,170,753 parameters.

    python -m jaxhep.train --config configs/resnet18.py

RESULT
"""

from configs.ams_ecal import base


def get_config(variant: str = ""):
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    config = base(variant)
    config.model.name = "resnet18"
    if variant == "":
        config.data.limit.update({"train": 2500, "validation": 500, "test": 2000})
        config.train.update(
            {"batch_size": 64, "epochs": 6, "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 50}
        )
    if variant == "smoke":
        config.model.settings.width = 4
    return config
