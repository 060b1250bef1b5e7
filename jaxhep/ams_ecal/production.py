"""The built-in simulation of the calorimeter as ROOT files: tree `t1` with the branches of the experiment."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_collections import ConfigDict

from jaxhep import root
from jaxhep.ams_ecal.recipes import find_recipe
from jaxhep.config import settings_from
from jaxhep.errors import BadInput, nearest
from jaxhep.event_chunks import in_baskets

if TYPE_CHECKING:
    from jaxhep.ams_ecal.simulation import Settings

SPECIES = {"electron": 1, "proton": 1}  # fewest events that make a sample
BYTES_PER_EVENT = 1_800  # in a ROOT file
FORMAT = 1  # raised when the simulation changes, so that earlier files are not taken for new ones
# Fields of config.simulation beside the settings.
NOT_PHYSICS = ("electrons", "protons", "seed", "folder", "variant")


def suffix(config: ConfigDict) -> str:
    """Return the ending of the files' names."""
    return "root"


def resolve(config: ConfigDict) -> ConfigDict:
    """Return a copy of the config with the recipe's energies where it leaves them open, (0, 0)."""
    config = copy.deepcopy(config)
    for species, energies in find_recipe(config.data.recipe).simulated.items():
        if tuple(config.simulation[f"{species}_energy_gev"]) == (0.0, 0.0):
            config.simulation[f"{species}_energy_gev"] = energies
    return config


def build_settings(config: ConfigDict) -> "Settings":
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
    path: Path,
    config: ConfigDict,
    species: str,
    first: int,
    events: int,
    settings: "Settings",
    progress: Callable[[int], Any],
) -> None:
    """Write `events` events from number `first` on to a ROOT file; `progress` is told of each chunk's events."""
    from jaxhep.ams_ecal import simulation

    chunks = simulation.iterate(species, events, config.simulation.seed, settings, first_event=first)
    wanted = ({name: chunk[name] for name in (*tree_types(),)} for chunk in chunks)
    root.write_tree(path, "t1", tree_types(), in_baskets(wanted, events, root.CHUNK, progress))


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
