"""python -m jaxhep.simulate: the built-in detector simulation -> ROOT files with the experiment's own branch names.

    python -m jaxhep.simulate --config configs/cvt.py --out mc/

`train` and `prepare` do the same by themselves where no files are named, so that the default path is the path of
real data. Settings are those of `config.simulation`; the same settings and seed give identical events.
"""

import argparse
import copy
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jaxhep import compiled, root
from jaxhep.ams_ecal.recipes import find_recipe
from jaxhep.columns import check_disk, exclusive, write_json
from jaxhep.config import load_config, plain, set_field
from jaxhep.errors import BadInput, nearest, one_line

EVENTS_PER_FILE = 262_144
BYTES_PER_EVENT = 1_800  # in a ROOT file
SPECIES = ("electron", "proton")
NOT_PHYSICS = (
    "electrons",
    "protons",
    "seed",
    "folder",
    "variant",
)  # fields of config.simulation beside the settings


def simulated_files(config: Any, quiet: bool = False) -> dict[str, list[Path]]:
    """Return the ROOT files of `config.simulation` by species, simulating those that are not there yet.

    They lie in a folder named by a hash of everything that decides their content, so that two configs with the same
    simulation share them, and a killed run makes again only the file it was at.
    """
    config = with_energies(config)
    wanted = plain(config.simulation)
    folder_name = wanted.pop("folder")
    content = json.dumps(wanted | {"experiment": config.experiment, "format": 1}, sort_keys=True)
    folder = Path(folder_name) / f"{config.experiment}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    return write_files(config, folder, quiet)


def write_files(config: Any, folder: Path, quiet: bool = False) -> dict[str, list[Path]]:
    """Write `<species>-NNNN.root` files of at most EVENTS_PER_FILE events and `simulation.json` with the settings."""
    files: dict[str, list[Path]] = {species: [] for species in SPECIES}
    missing: list[tuple[str, int, int, Path]] = []
    for species in SPECIES:
        events = config.simulation[f"{species}s"]
        if events < 1:
            raise BadInput(f"config.simulation.{species}s is {events}, wanted at least 1")
        for index, first in enumerate(range(0, events, EVENTS_PER_FILE)):
            path = folder / f"{species}-{index:04d}.root"
            files[species].append(path)
            if not path.exists():
                missing.append((species, first, min(EVENTS_PER_FILE, events - first), path))
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / ".lock"):
        _note_settings(config, folder)
        _write_missing(config, missing, folder, quiet)
    return files


def with_energies(config: Any) -> Any:
    """Return a copy of the config with the recipe's energies where it leaves them open, (0, 0)."""
    config = copy.deepcopy(config)
    for species, energies in find_recipe(config.data.recipe).simulated.items():
        if tuple(config.simulation[f"{species}_energy_gev"]) == (0.0, 0.0):
            config.simulation[f"{species}_energy_gev"] = energies
    return config


def _note_settings(config: Any, folder: Path) -> None:
    """Write `simulation.json`. Raises BadInput where the folder holds events of other settings."""
    note = folder / "simulation.json"
    wanted = {name: value for name, value in plain(config.simulation).items() if name != "folder"}
    if note.exists() and json.loads(note.read_text()) != wanted:
        raise BadInput(f"{folder}: holds events of another simulation (simulation.json differs), name another folder")
    write_json(note, wanted)


def _write_missing(config: Any, missing: list[tuple[str, int, int, Path]], folder: Path, quiet: bool) -> None:
    if missing:
        compiled.keep()
        check_disk(folder, BYTES_PER_EVENT * sum(events for _, _, events, _ in missing), "simulated events", True)
        settings = build_settings(config)
        began = time.perf_counter()
        for species, first, events, path in missing:
            if path.exists():  # made by another process while this one waited
                continue
            bar = tqdm(
                total=events,
                unit=" events",
                unit_scale=True,
                desc=f"simulate {species}s",
                disable=True if quiet else None,
            )
            root.write_tree(path, "t1", tree_types(), _chunks(config, species, first, events, settings, bar))
            bar.close()
        if not quiet:
            total = sum(events for _, _, events, _ in missing)
            print(f"simulated {total} events in {time.perf_counter() - began:.1f} s: {folder}")


def settings_of(files: list[Path]) -> dict[str, Any] | None:
    """Return the simulation's settings for files that it wrote, None for any others."""
    notes = {Path(path).parent / "simulation.json" for path in files}
    if len(notes) != 1 or not (note := notes.pop()).is_file():
        return None
    return json.loads(note.read_text())


def build_settings(config: Any):
    """Return the simulation's settings from `config.simulation`. Raises BadInput for a field it does not have."""
    from jaxhep.ams_ecal import simulation

    fields = {name: value for name, value in config.simulation.items() if name not in NOT_PHYSICS}
    for name in fields:
        if name not in simulation.Settings._fields:
            raise BadInput(f"config.simulation.{name}: no such setting{nearest(name, simulation.Settings._fields)}")
    settings = simulation.Settings(**fields)
    variant = config.simulation.variant
    if variant not in ("", "flight_like"):
        raise BadInput(
            f"config.simulation.variant is {variant!r}, wanted '' or 'flight_like'{nearest(variant, ['flight_like'])}"
        )
    return simulation.flight_like(settings) if variant else settings


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


def _chunks(config: Any, species: str, first: int, events: int, settings, bar):
    """Yield the columns of the events in chunks of one basket each."""
    from jaxhep.ams_ecal import simulation

    waiting: list[dict[str, np.ndarray]] = []
    done = 0
    for chunk in simulation.iterate(species, events, config.simulation.seed, settings, first_event=first):
        waiting.append(chunk)
        size = len(chunk["en3d"])
        done += size
        bar.update(size)
        if sum(len(part["en3d"]) for part in waiting) >= root.CHUNK or done == events:
            yield {name: np.concatenate([part[name] for part in waiting]) for name in tree_types()}
            waiting = []


def main(argv: list[str] | None = None) -> int:
    """Command line of the verb."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxhep.simulate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        default="configs/cvt.py",
        help="config file, with :variant if wanted (default %(default)s)",
    )
    parser.add_argument("--out", required=True, help="folder for the ROOT files")
    parser.add_argument("--electrons", type=int, help="electrons to simulate")
    parser.add_argument("--protons", type=int, help="protons to simulate")
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, as charge_exchange=0.01"
    )
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config)
    for name in ("electrons", "protons", "seed"):
        if getattr(arguments, name) is not None:
            set_field(config, f"simulation.{name}", getattr(arguments, name))
    for assignment in arguments.set:
        name, _, text = assignment.partition("=")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        set_field(config, f"simulation.{name}", tuple(value) if isinstance(value, list) else value)
    config = with_energies(config)
    for species, files in write_files(config, Path(arguments.out)).items():
        print(f"{species}: {', '.join(map(str, files))}")
    return 0


if __name__ == "__main__":
    sys.exit(one_line(main))
