"""The built-in simulation of the radial TPC as files, in each of the layouts that `layouts` reads."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
from ml_collections import ConfigDict

from jaxhep import root
from jaxhep.alpha_g import layouts
from jaxhep.config import settings_from
from jaxhep.errors import one_of
from jaxhep.event_chunks import in_baskets
from jaxhep.files import aside

if TYPE_CHECKING:
    from jaxhep.alpha_g.simulation import Settings

SPECIES = {"annihilation": 1, "cosmic": 0}  # fewest events that make a sample
BYTES_PER_EVENT = 6_500  # in a ROOT file
FORMAT = 1  # raised when the simulation changes, so that earlier files are not taken for new ones
FORMATS = {"root": "root", "hdf5": "h5", "parquet": "parquet"}
HDF5_POINTS = 2_000  # rows of an event in an HDF5 file; fuller ones are cut, and counted
# Fields of config.simulation beside the settings.
NOT_PHYSICS = ("annihilations", "cosmics", "seed", "folder", "format")


def suffix(config: ConfigDict) -> str:
    """Return the ending of the files' names. Raises BadInput for an unknown format."""
    chosen = config.simulation.format
    return FORMATS[one_of(chosen, FORMATS, "config.simulation.format")]


def resolve(config: ConfigDict) -> ConfigDict:
    """Return the config: nothing in its simulation is left open."""
    return config


def build_settings(config: ConfigDict) -> "Settings":
    """Return the simulation's settings from `config.simulation`. Raises BadInput for a field it does not have."""
    from jaxhep.alpha_g import simulation

    return simulation.Settings(**settings_from(config, simulation.Settings._fields, NOT_PHYSICS))


def write(
    path: Path,
    config: ConfigDict,
    species: str,
    first: int,
    events: int,
    settings: "Settings",
    progress: Callable[[int], Any],
) -> None:
    """Write `events` events from number `first` on to a file; `progress` is told of each chunk's events."""
    from jaxhep.alpha_g import simulation

    found = simulation.iterate(species, events, config.simulation.seed, settings, first_event=first)
    chunks = in_baskets(found, events, root.CHUNK, progress)
    {"root": write_root, "hdf5": write_hdf5, "parquet": write_parquet}[config.simulation.format](path, chunks)


def write_root(path: Path, chunks: Iterator[dict[str, np.ndarray]]) -> None:
    """Write the tree `spacepoints` with one jagged branch per coordinate."""
    jagged = [*layouts.POINT, layouts.AMPLITUDE]
    types = {
        "spacepoint": ak.types.from_datashape(
            "var * {x: float32, y: float32, z: float32, amplitude: float32}", highlevel=False
        )
    }
    types |= dict.fromkeys(layouts.VERTEX, np.float32)
    types |= {"run": np.uint32, "event": np.uint32, "charged_pions": np.int8}

    def columns() -> Iterator[dict[str, Any]]:
        for chunk in chunks:
            flat = dict(zip(jagged, [*chunk["points"].T, chunk["amplitude"]], strict=True))
            parts = {name.removeprefix("spacepoint_"): ak.unflatten(flat[name], chunk["count"]) for name in jagged}
            one = {name: chunk["vertex"][:, axis] for axis, name in enumerate(layouts.VERTEX)}
            yield {"spacepoint": ak.zip(parts)} | one | {name: chunk[name] for name in layouts.EXTRA}

    root.write_tree(path, "spacepoints", types, columns())


def write_parquet(path: Path, chunks: Iterator[dict[str, np.ndarray]]) -> None:
    """Write `target` and `point_cloud` as the collaboration does, and run, event, charged_pions, amplitude beside."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    three, one = pa.list_(pa.float32(), 3), pa.list_(pa.float32())
    fields = [("target", three), ("point_cloud", pa.list_(three)), ("amplitude", one)]
    schema = pa.schema([*fields, ("run", pa.uint32()), ("event", pa.uint32()), ("charged_pions", pa.int8())])
    path.parent.mkdir(parents=True, exist_ok=True)
    with aside(path) as partial, parquet.ParquetWriter(partial, schema, compression="zstd") as writer:
        for chunk in chunks:
            starts = pa.array(np.concatenate([[0], np.cumsum(chunk["count"])]), pa.int32())
            points = pa.FixedSizeListArray.from_arrays(pa.array(chunk["points"].reshape(-1)), 3)
            arrays = [
                pa.FixedSizeListArray.from_arrays(pa.array(chunk["vertex"].reshape(-1)), 3),
                pa.ListArray.from_arrays(starts, points),
                pa.ListArray.from_arrays(starts, pa.array(chunk["amplitude"])),
                *(pa.array(chunk[name]) for name in layouts.EXTRA),
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def write_hdf5(path: Path, chunks: Iterator[dict[str, np.ndarray]]) -> None:
    """Write dataset `data` (events, HDF5_POINTS, 10): x, y, z, true x, y, z, Helix Fit x, y, z, amplitude, in mm.

    No Helix Fit is made here: its columns are NaN on the rows of real points.
    """
    import h5py

    cut = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with aside(path) as partial, h5py.File(partial, "w") as file:
        shape = (0, HDF5_POINTS, 10)
        # Half of the rows are padding, which compresses to nothing.
        options = {"maxshape": (None, *shape[1:]), "chunks": (16, *shape[1:]), "compression": "gzip"}
        data = file.create_dataset("data", shape, "f4", compression_opts=1, shuffle=True, **options)
        for chunk in chunks:
            count = chunk["count"]
            event = np.repeat(np.arange(len(count)), count)
            rank = np.arange(len(event)) - np.repeat(np.cumsum(count) - count, count)
            fits = rank < HDF5_POINTS
            cut += int(np.sum(count > HDF5_POINTS))
            rows = np.zeros((len(count), *shape[1:]), np.float32)
            values = np.full((len(event), 10), np.nan, np.float32)
            values[:, :3], values[:, 3:6], values[:, 9] = chunk["points"], chunk["vertex"][event], chunk["amplitude"]
            rows[event[fits], rank[fits]] = values[fits]
            first = data.shape[0]
            data.resize(first + len(count), axis=0)
            data[first:] = rows
    if cut:
        print(f"{path}: {cut} events with more than {HDF5_POINTS} spacepoints keep the first by amplitude")
