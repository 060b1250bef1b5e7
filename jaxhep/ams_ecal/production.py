"""The built-in simulation of the calorimeter as ROOT files: tree `t1` with the branches of the experiment."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxhep import root
from jaxhep.ams_ecal.recipes import find_recipe
from jaxhep.config import settings_from
from jaxhep.errors import BadInput, nearest

SPECIES = ("electron", "proton")
LEAST = {"electron": 1, "proton": 1}  # events, below which a sample makes no sense
BYTES_PER_EVENT = 1_800  # in a ROOT file
FORMAT = 1  # raised when the simulation changes, so that earlier files are not taken for new ones
# Fields of config.simulation beside the settings.
NOT_PHYSICS = ("electrons", "protons", "seed", "folder", "variant")


def suffix(config: Any) -> str:
    """Return the ending of the files' names."""
    return "root"


def resolve(config: Any) -> Any:
    """Return a copy of the config with the recipe's energies where it leaves them open, (0, 0)."""
    config = copy.deepcopy(config)
    for species, energies in find_recipe(config.data.recipe).simulated.items():
        if tuple(config.simulation[f"{species}_energy_gev"]) == (0.0, 0.0):
            config.simulation[f"{species}_energy_gev"] = energies
    return config


def build_settings(config: Any):
    """Return the simulation's settings from `config.simulation`. Raises BadInput for a field it does not have."""
    from jaxhep.ams_ecal import simulation

    settings = simulation.Settings(**settings_from(config, simulation.Settings._fields, NOT_PHYSICS))
    variant = config.simulation.variant
    if variant not in ("", "flight_like"):
        raise BadInput(
            f"config.simulation.variant is {variant!r}, wanted '' or 'flight_like'{nearest(variant, ['flight_like'])}"
        )
    return simulation.flight_like(settings) if variant else settings


def write(
    path: Path, config: Any, species: str, first: int, events: int, settings, progress: Callable[[int], Any]
) -> None:
    """Write `events` events from number `first` on to a ROOT file; `progress` is told of each chunk's events."""
    chunks = _chunks(species, config.simulation.seed, first, events, settings, progress)
    root.write_tree(path, "t1", tree_types(), chunks)


def tree_types() -> dict[str, Any]:
    """Return the branches of tree `t1` as the experiment writes them."""
    one = np.dtype((np.float32, (1,)))
    types: dict[str, Any] = {
        "run": np.uint32,
        "event": np.uint32,
        "edep_cell": np.dtype((np.float32, (1296,))),
    }
    types |= dict.fromkeys(("en3d", "mom", "weight", "trd_lik", "TRD_e_likelihood", "TRD_p_likelihood"), np.float32)
    return types | {f"Trk_Ecal_Inci_{name}": one for name in ("X", "Y", "Z", "Zenith", "Azimutal")}


def _chunks(species: str, seed: int, first: int, events: int, settings, progress):
    """Yield the columns of the events in chunks of one basket each."""
    from jaxhep.ams_ecal import simulation

    waiting: list[dict[str, np.ndarray]] = []
    done = 0
    for chunk in simulation.iterate(species, events, seed, settings, first_event=first):
        waiting.append(chunk)
        size = len(chunk["en3d"])
        done += size
        progress(size)
        if sum(len(part["en3d"]) for part in waiting) >= root.CHUNK or done == events:
            yield {name: np.concatenate([part[name] for part in waiting]) for name in tree_types()}
            waiting = []
