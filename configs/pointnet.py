"""PointNet on the spacepoints: the annihilation's z, 2,658,369 parameters.

    python -m jaxhep.train --config configs/pointnet.py

Measured on two shared CPU cores (jax 0.10.2): 507 s from nothing, simulation, compilation and Helix Fit included;
residual in z on 2,560 events: FWHM 29.6 mm (25.6 to 34.3), Gaussian sigma 17.2 mm, trimmed mean -2.4 mm; the Helix Fit,
which finds a vertex in 88 % of them, has FWHM 11.8 mm. On Geant4 events (approximate low-energy tables): 30.2 mm. No GPU
was measured; the published network, trained on 135 times the events up to 500 times, has 6.62 mm.
"""

from configs.alpha_g import base


def laptop_size(config) -> None:
    """Set what two CPU cores train in some seven minutes: 350 to 490 events/s forward and back."""
    config.simulation.annihilations = 25_000
    # In units of 100 mm numbers are of order one, so that few steps get somewhere.
    config.inputs.update({"points": 128, "unit_mm": 100.0})
    config.augment.choose = True
    config.train.update({"batch_size": 64, "epochs": 8, "learning_rate": 2e-3, "warmup_steps": 50})
    config.train.steps_per_dispatch = 4


def get_config(variant: str = ""):
    """Return the configuration: laptop size, `smoke` (seconds, for tests) or `paper` (published recipe)."""
    config = base(variant)
    if variant == "":
        laptop_size(config)
    return config
