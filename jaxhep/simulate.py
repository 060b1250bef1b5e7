"""python -m jaxhep.simulate: the built-in detector simulation -> files in the experiment's own layout.

    python -m jaxhep.simulate --config configs/cvt.py --out mc/
    python -m jaxhep.simulate --config configs/pointnet.py --out mc/ --set format=parquet --annihilations 20000

`train` and `prepare` do the same by themselves where no files are named, so that the default path is the path of
real data. Settings are those of `config.simulation`; the same settings and seed give identical events.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jaxhep import compiled
from jaxhep.columns import check_disk, exclusive, write_json
from jaxhep.config import assign, load_config, plain, set_field
from jaxhep.errors import BadInput, one_line
from jaxhep.experiments import part_of

EVENTS_PER_FILE = 262_144


def simulated_files(config: Any, quiet: bool = False) -> dict[str, list[Path]]:
    """Return the files of `config.simulation` by species, simulating those that are not there yet.

    They lie in a folder named by a hash of everything that decides their content, so that two configs with the same
    simulation share them, and a killed run makes again only the file it was at.
    """
    production = part_of(config, "production")
    config = production.resolve(config)
    wanted = plain(config.simulation)
    folder_name = wanted.pop("folder")
    content = json.dumps(wanted | {"experiment": config.experiment, "format": production.FORMAT}, sort_keys=True)
    folder = Path(folder_name) / f"{config.experiment}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    return write_files(config, folder, quiet)


def write_files(config: Any, folder: Path, quiet: bool = False) -> dict[str, list[Path]]:
    """Write `<species>-NNNN.<suffix>` files of at most EVENTS_PER_FILE events and `simulation.json` with the settings.

    A species of which no events are wanted has no files. Raises BadInput for fewer than it must have.
    """
    production = part_of(config, "production")
    files: dict[str, list[Path]] = {species: [] for species in production.SPECIES}
    missing: list[tuple[str, int, int, Path]] = []
    for species in production.SPECIES:
        events = config.simulation[f"{species}s"]
        if events < production.LEAST[species]:
            raise BadInput(f"config.simulation.{species}s is {events}, wanted at least {production.LEAST[species]}")
        for index, first in enumerate(range(0, events, EVENTS_PER_FILE)):
            path = folder / f"{species}-{index:04d}.{production.suffix(config)}"
            files[species].append(path)
            if not path.exists():
                missing.append((species, first, min(EVENTS_PER_FILE, events - first), path))
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / ".lock"):
        _note_settings(config, folder)
        _write_missing(config, missing, folder, quiet)
    return files


def _note_settings(config: Any, folder: Path) -> None:
    """Write `simulation.json`. Raises BadInput where the folder holds events of other settings."""
    note = folder / "simulation.json"
    wanted = {name: value for name, value in plain(config.simulation).items() if name != "folder"}
    if note.exists() and json.loads(note.read_text()) != wanted:
        raise BadInput(f"{folder}: holds events of another simulation (simulation.json differs), name another folder")
    write_json(note, wanted)


def _write_missing(config: Any, missing: list[tuple[str, int, int, Path]], folder: Path, quiet: bool) -> None:
    if missing:
        production = part_of(config, "production")
        compiled.keep()
        size = production.BYTES_PER_EVENT * sum(events for _, _, events, _ in missing)
        check_disk(folder, size, "simulated events", True)
        settings = production.build_settings(config)
        began = time.perf_counter()
        for species, first, events, path in missing:
            if path.exists():  # made by another process while this one waited
                continue
            what = f"simulate {species}s"
            with tqdm(total=events, unit=" events", unit_scale=True, desc=what, disable=True if quiet else None) as bar:
                production.write(path, config, species, first, events, settings, bar.update)
        if not quiet:
            total = sum(events for _, _, events, _ in missing)
            print(f"simulated {total} events in {time.perf_counter() - began:.1f} s: {folder}")


def settings_of(files: Iterable[Path | str]) -> dict[str, Any] | None:
    """Return the simulation's settings for files that it wrote, None for any others."""
    notes = {Path(path).parent / "simulation.json" for path in files}
    if len(notes) != 1 or not (note := notes.pop()).is_file():
        return None
    return json.loads(note.read_text())


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
    parser.add_argument("--out", required=True, help="folder for the files")
    counts = ("electrons", "protons", "annihilations", "cosmics")
    for name in counts:
        parser.add_argument(f"--{name}", type=int, help=f"{name} to simulate")
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, as charge_exchange=0.01"
    )
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config)
    for name in (*counts, "seed"):
        if getattr(arguments, name) is not None:
            set_field(config, f"simulation.{name}", getattr(arguments, name))
    for assignment in arguments.set:
        assign(config, assignment, "simulation")
    config = part_of(config, "production").resolve(config)
    for species, files in write_files(config, Path(arguments.out)).items():
        print(f"{species}: {', '.join(map(str, files)) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(one_line(main))
