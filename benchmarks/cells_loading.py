"""What a cell of the loading benchmark is: ROOT files, gathering of batches, the Grain pipeline, transfer to the device.

Libraries are imported when a cell is set up, so that only its own row is skipped where one is missing. B events in a
batch, K steps in a dispatch.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count, cycle
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import events as made_up
from benchmarks import machine
from benchmarks.process import Program
from jaxhep import data

COLD_PATIENCE = 10  # times the seconds of other timings that an epoch of cold files may take
CONFIG = Path(__file__).parents[1] / "configs" / "cnn.py"
PUTS = 4  # batches handed to the device in turn, so that none is in the processor's cache alone

Element = Callable[[], int]  # does some of it and returns how many events that were


def set_up(cell: dict) -> Program:
    """Set up a cell: what it runs is timed for about so many seconds, once at least."""
    folder = Path(cell["folder"])
    if cell["kind"] == "prepare":
        return Program({}, lambda seconds: prepare_for(seconds, cell, folder))
    if cell["kind"] == "gather" and cell["cache"] == "cold":
        return Program({}, lambda seconds: cold_epoch(seconds, cell, folder))
    if cell["kind"] != "decode":
        machine.warm(made_up.columns_of(folder))
    element, facts = ELEMENTS[cell["kind"]](cell, folder), {}
    if cell["kind"] in ("host path", "device_put", "device gather"):
        import jax

        device = jax.devices()[0]
        facts = {"device": f"{device.platform}: {device.device_kind}"}
    return Program(facts, lambda seconds: repeat_for(seconds, element))


def repeat_for(seconds: float, element: Element, most: float = float("inf")) -> dict[str, Any]:
    """Call `element`, which returns its number of events, until the time is over, at least once, at most so often."""
    events, calls, began = 0, 0, time.perf_counter()
    while True:
        events += element()
        calls += 1
        elapsed = time.perf_counter() - began
        if elapsed >= seconds or calls >= most:
            return {"events": events, "seconds": elapsed}


def root_files(cell: dict, folder: Path) -> list[tuple[Path, int]]:
    """Return (file, label) of both species, half of the events in each, written where they are not there yet."""
    found = [(folder / "electrons.root", 1), (folder / "protons.root", 0)]
    for path, label in found:
        if not path.exists():
            made_up.write_root(path, cell["file_events"] // 2, label)
    return found


def decoding(cell: dict, folder: Path) -> Element:
    """Decode the branches by uproot alone."""
    from benchmarks.prepare import decode

    paths = [path for path, _ in root_files(cell, folder)]
    return lambda: decode(paths, made_up.ROOT_BRANCHES)


def prepare_for(seconds: float, cell: dict, folder: Path) -> dict[str, Any]:
    """Do everything from ROOT to finished columns; emptying the folder in between is not timed."""
    from jaxhep import prepared
    from jaxhep.ams_ecal import samples
    from jaxhep.config import load_config

    config, sources = load_config(str(CONFIG)), [*root_files(cell, folder)]
    selection = samples.build_selection(config)
    done, taken = 0, 0.0
    while not done or taken < seconds:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            config.data.folder = place
            began = time.perf_counter()
            prepared.prepare_files([*sources], config, selection, quiet=True)
            taken += time.perf_counter() - began
        done += cell["file_events"] // 2 * 2
    return {"events": done, "seconds": taken}


def batches_of(cell: dict, folder: Path) -> data.Batches:
    """Return the training batches of made-up columns."""
    names = tuple(made_up.LAYOUTS[cell["layout"]])
    return data.Batches(data.Split(folder, "train"), cell["batch"], 0, names, cell["order"])


def dispatches_of(cell: dict, folder: Path) -> Iterator[data.Columns]:
    """Return what training gets, dispatch after dispatch."""
    return data.load(batches_of(cell, folder), 0, 10**9, cell["steps_per_dispatch"])


def gathering(cell: dict, folder: Path) -> Element:
    """Gather batches one after the other."""
    batches, steps = batches_of(cell, folder), count()
    return lambda: len(batches[next(steps)]["label"])


def cold_epoch(seconds: float, cell: dict, folder: Path) -> dict[str, Any]:
    """Gather one epoch from files that the page cache has forgotten; a slow disk ends it before."""
    left = machine.drop(made_up.columns_of(folder))  # before the files are mapped: mapped pages stay
    element, before = gathering(cell, folder), machine.bytes_read()
    first = repeat_for(0, element)
    most = max(batches_of(cell, folder).steps_per_epoch - 1, 1)
    rest = repeat_for(COLD_PATIENCE * seconds, element, most)
    after, done = machine.bytes_read(), first["events"] + rest["events"]
    fetched = (after - before) / done if before is not None and after is not None else None
    notes = {"resident": left, "fetched": fetched, "first": first["events"] / first["seconds"]}
    return {"events": done, "seconds": first["seconds"] + rest["seconds"], **notes}


def from_grain(cell: dict, folder: Path) -> Element:
    """Take dispatches of the Grain pipeline."""
    dispatches = dispatches_of(cell, folder)
    return lambda: next(dispatches)["label"].size


def from_grain_to_device(cell: dict, folder: Path) -> Element:
    """Take dispatches and put them on the device, which is one behind."""
    import jax

    dispatches, pending = dispatches_of(cell, folder), None

    def element() -> int:
        nonlocal pending
        values = next(dispatches)
        placed = jax.device_put(values)
        jax.block_until_ready(pending)
        pending = placed
        return values["label"].size

    return element


def to_device(cell: dict, folder: Path) -> Element:
    """Put batches that are in memory on the device, each waited for."""
    import jax

    batches, steps, held = batches_of(cell, folder), count(), []
    for _ in range(PUTS):
        parts = [batches[next(steps)] for _ in range(cell["steps_per_dispatch"])]
        held.append({name: np.stack([part[name] for part in parts]) for name in parts[0]})
    turn = cycle(held)

    def element() -> int:
        values = next(turn)
        jax.block_until_ready(jax.device_put(values))
        return values["label"].size

    return element


def on_device(cell: dict, folder: Path) -> Element:
    """Gather K batches at once from columns that lie on the device; positions come from the host."""
    import jax

    split, generator = data.Split(folder, "train"), np.random.default_rng(0)
    resident = {name: jax.device_put(np.asarray(split.columns[name])) for name in made_up.LAYOUTS[cell["layout"]]}

    @jax.jit
    def gather(columns, positions):
        return {name: values.at[positions].get(mode="promise_in_bounds") for name, values in columns.items()}

    def element() -> int:
        positions = generator.integers(0, len(split), (cell["steps_per_dispatch"], cell["batch"]), np.int32)
        jax.block_until_ready(gather(resident, positions))
        return positions.size

    return element


ELEMENTS = {
    "decode": decoding,
    "gather": gathering,
    "grain": from_grain,
    "host path": from_grain_to_device,
    "device_put": to_device,
    "device gather": on_device,
}
