"""Files of the built-in simulation, in the experiment's own layout: made where no files are named.

So the default path is the path of real data. The same settings and seed give identical events.
"""

import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from tqdm import tqdm

from jaxhep import compiled
from jaxhep.columns import check_disk, exclusive
from jaxhep.config import plain
from jaxhep.detector import Simulation, describe_fields
from jaxhep.detectors import detector_of
from jaxhep.errors import BadInput
from jaxhep.files import write_json

EVENTS_PER_FILE = 262_144


def simulation_of(config: ConfigDict) -> Simulation:
    """Return the simulation of the config's detector. Raises BadInput where it has none."""
    detector = detector_of(config)
    if detector.simulation is None:
        wanted = describe_fields(detector.files)
        raise BadInput(f"the detector {detector.name} has no simulation: name files with {wanted}")
    return detector.simulation


def simulated_files(config: ConfigDict, quiet: bool = False) -> dict[str, list[Path]]:
    """Return the files of `config.simulation` by species, simulating those that are not there yet.

    They lie in a folder named by a hash of everything that decides their content, so that two configs with the same
    simulation share them, and a killed run makes again only the file it was at.
    """
    simulation = simulation_of(config)
    config = simulation.resolve(config)
    wanted = plain(config.simulation)
    folder_name = wanted.pop("folder")
    content = json.dumps(wanted | {"experiment": config.experiment, "format": simulation.format}, sort_keys=True)
    folder = Path(folder_name) / f"{config.experiment}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    return write_files(config, folder, quiet)


def write_files(config: ConfigDict, folder: Path, quiet: bool = False) -> dict[str, list[Path]]:
    """Write `<species>-NNNN.<suffix>` files of at most EVENTS_PER_FILE events and `simulation.json` with the settings.

    A species of which no events are wanted has no files. Raises BadInput for fewer than it must have.
    """
    simulation = simulation_of(config)
    files: dict[str, list[Path]] = {species: [] for species in simulation.species}
    missing: list[tuple[str, int, int, Path]] = []
    for species, least in simulation.species.items():
        events = config.simulation[f"{species}s"]
        if events < least:
            raise BadInput(f"config.simulation.{species}s is {events}, wanted at least {least}")
        for index, first in enumerate(range(0, events, EVENTS_PER_FILE)):
            path = folder / f"{species}-{index:04d}.{simulation.suffix(config)}"
            files[species].append(path)
            if not path.exists():
                missing.append((species, first, min(EVENTS_PER_FILE, events - first), path))
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / ".lock"):
        _note_settings(config, folder)
        _write_missing(config, missing, folder, quiet)
    return files


def _note_settings(config: ConfigDict, folder: Path) -> None:
    """Write `simulation.json`. Raises BadInput where the folder holds events of other settings."""
    note = folder / "simulation.json"
    wanted = {name: value for name, value in plain(config.simulation).items() if name != "folder"}
    if note.exists() and json.loads(note.read_text()) != wanted:
        raise BadInput(f"{folder}: holds events of another simulation (simulation.json differs), name another folder")
    write_json(note, wanted)


def _write_missing(config: ConfigDict, missing: list[tuple[str, int, int, Path]], folder: Path, quiet: bool) -> None:
    if missing:
        simulation = simulation_of(config)
        compiled.keep()
        size = simulation.bytes_per_event * sum(events for _, _, events, _ in missing)
        check_disk(folder, size, "simulated events", True)
        settings = simulation.settings(config)
        began = time.perf_counter()
        for species, first, events, path in missing:
            if path.exists():  # made by another process while this one waited
                continue
            what = f"simulate {species}s"
            with tqdm(total=events, unit=" events", unit_scale=True, desc=what, disable=True if quiet else None) as bar:
                simulation.write(path, config, species, first, events, settings, bar.update)
        if not quiet:
            total = sum(events for _, _, events, _ in missing)
            print(f"simulated {total} events in {time.perf_counter() - began:.1f} s: {folder}")


def settings_of(files: Iterable[Path | str]) -> dict[str, Any] | None:
    """Return the simulation's settings for files that it wrote, None for any others."""
    notes = {Path(path).parent / "simulation.json" for path in files}
    if len(notes) != 1 or not (note := notes.pop()).is_file():
        return None
    return json.loads(note.read_text())
