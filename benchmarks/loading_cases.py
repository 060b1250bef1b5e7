"""What `benchmarks.loading` times: ROOT files, gathering of batches, the Grain pipeline, transfer to the device.

B events in a batch, K steps in a dispatch. Libraries are imported when a case is set up, so that only its own row is
skipped where one is missing.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import loading_files as files
from benchmarks.loading_timing import Burst, Case, repeat_for
from jaxhep import data

AIM = 300_000  # ECAL events/s that the host is to deliver per process: random order, files in the page cache, two cores
DISPATCHES = ((128, 1), (128, 20), (1024, 1), (1024, 20))  # B, K
COLD_BATCH = 1024
COLD_PATIENCE = 10  # times the seconds of other timings that an epoch of cold files may take
CONFIG = Path(__file__).parents[1] / "configs" / "cnn.py"
PUTS = 4  # batches handed to the device in turn, so that none is in the processor's cache alone


def groups(folder: Path, layouts: list[str], events: int, root_events: int) -> Iterator[list[Case]]:
    """Yield the cases of each group: those of one group are compared, and timed in turn."""
    if "ecal" in layouts:
        yield [
            root_case(folder, root_events, "decode", "uproot alone, the branches of the calorimeter", set_up_decode),
            root_case(folder, root_events, "prepare", "prepare: from ROOT to columns", set_up_prepare),
        ]
    for layout in layouts:
        columns = folder / layout
        yield [gather_case(columns, layout, batch, order) for batch in (128, 1024) for order in data.ORDERS]
        yield [cold_case(columns, layout, order) for order in data.ORDERS]
        pairs = [(batch, count) for batch, count in DISPATCHES if batch * count <= events]
        for compared in PIPELINES:
            yield [pipeline_case(columns, layout, batch, count, *case) for batch, count in pairs for case in compared]


# ROOT files


def root_case(folder: Path, events: int, kind: str, what: str, set_up: Callable) -> Case:
    """Return the case of reading made-up ROOT files, half of the events in each of two."""
    return Case(kind, what, {"layout": "ecal", "file_events": events}, partial(set_up, folder, events))


def root_files(folder: Path, events: int) -> list[tuple[Path, int]]:
    """Return (file, label) of both species, written where they are not there yet."""
    found = []
    for name, label in (("electrons", 1), ("protons", 0)):
        path = folder / f"{name}.root"
        if not path.exists():
            files.write_root(path, events // 2, label)
        found.append((path, label))
    return found


def set_up_decode(folder: Path, events: int, stack: ExitStack) -> Callable[[float], Burst]:
    """Time uproot's decoding of the branches alone."""
    from benchmarks.prepare import decode

    paths: list[Path | str] = [path for path, _ in root_files(folder, events)]
    return lambda seconds: repeat_for(seconds, lambda: decode(paths, list(files.ROOT_BRANCHES)))


def set_up_prepare(folder: Path, events: int, stack: ExitStack) -> Callable[[float], Burst]:
    """Time everything from ROOT to finished columns; emptying the folder in between is not timed."""
    from jaxhep import prepare
    from jaxhep.ams_ecal import samples
    from jaxhep.config import load_config

    config, sources = load_config(str(CONFIG)), [*root_files(folder, events)]
    selection = samples.build_selection(config)

    def burst(seconds: float) -> Burst:
        done, taken = 0, 0.0
        while not done or taken < seconds:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                began = time.perf_counter()
                prepare.prepare_files([*sources], config, selection, Path(place), quiet=True)
                taken += time.perf_counter() - began
            done += events // 2 * 2
        return Burst(done, taken)

    return burst


# Gathering of batches from columns


def batches_of(columns: Path, layout: str, batch: int, order: str = "random") -> data.Batches:
    """Return the training batches of made-up columns."""
    return data.Batches(data.Split(columns, "train"), batch, 0, tuple(files.LAYOUTS[layout]), order)


def gather_case(columns: Path, layout: str, batch: int, order: str) -> Case:
    """Return the case of gathering batches one after the other, everything in the page cache."""

    def set_up(stack: ExitStack) -> Callable[[float], Burst]:
        files.warm(columns)
        batches, steps = batches_of(columns, layout, batch, order), iter(range(2**40))
        return lambda seconds: repeat_for(seconds, lambda: len(batches[next(steps)]["label"]))

    fields = fields_of(layout, batch=batch, order=order, cache="warm")
    return Case("gather", f"gather, batch {batch}, {order} order, warm", fields | aim_of(layout, order), set_up)


def cold_case(columns: Path, layout: str, order: str) -> Case:
    """Return the case of one epoch from files that the page cache has forgotten; a slow disk ends it before."""

    def set_up(stack: ExitStack) -> Callable[[float], Burst]:
        def burst(seconds: float) -> Burst:
            fraction = files.drop(columns)  # before the files are mapped: mapped pages stay
            batches, steps = batches_of(columns, layout, COLD_BATCH, order), iter(range(2**40))
            element, before = partial(one_batch, batches, steps), files.bytes_read()
            first = repeat_for(0, element, most=1)
            rest = repeat_for(COLD_PATIENCE * seconds, element, most=max(batches.steps_per_epoch - 1, 1))
            after, done = files.bytes_read(), first.events + rest.events
            notes: dict[str, Any] = {"resident": fraction, "first": first.events / first.seconds, "events": done}
            notes["fetched"] = (after - before) / done if before is not None and after is not None else None
            return Burst(done, first.seconds + rest.seconds, notes)

        return burst

    fields = fields_of(layout, batch=COLD_BATCH, order=order)
    judge = partial(judge_cold, files.event_bytes(layout))
    return Case("gather", f"gather, batch {COLD_BATCH}, {order} order, cold", fields, set_up, judge)


def one_batch(batches: data.Batches, steps: Iterator[int]) -> int:
    """Gather the next batch and return its number of events."""
    return len(batches[next(steps)]["label"])


def judge_cold(event_bytes: int, notes: list[dict]) -> dict:
    """Return what became of the request to forget, from the fraction left in memory and the bytes then fetched.

    Cold is a file of which almost nothing was left and of which at least half the bytes of each event came from
    storage; what a host below a virtual machine keeps in its own memory shows in neither. As the kernel reads ahead,
    the first batches of a file that is not larger than memory fetch much of it: the first one's rate is given apart.
    """
    resident, fetched = ([note[name] for note in notes] for name in ("resident", "fetched"))
    told = [value < files.COLD for value in resident if value is not None]
    told += [value > event_bytes / 2 for value in fetched if value is not None]
    verdict = "cold" if all(told) else "warm: the file system ignored the request to forget"
    return {
        "cache": verdict if told else "warm or cold: nothing here tells",
        "resident_after_drop": resident,
        "fetched_bytes_per_event": fetched,
        "first_batch_events_per_s": [note["first"] for note in notes],
        "events_timed": [note["events"] for note in notes],
    }


# As training loads them


def pipeline_case(columns: Path, layout: str, batch: int, count: int, kind: str, what: str, set_up: Callable) -> Case:
    """Return the case of batches as training gets them, K steps a dispatch, in random order."""
    fields = fields_of(layout, batch=batch, steps_per_dispatch=count, order="random", cache="warm")
    fields |= aim_of(layout, "random") if kind in ("grain", "host path") else {}
    text = f"{what}, batch {batch}, {count} step{'s' * (count > 1)} per dispatch"
    fields |= {"device": device_name()} if kind != "grain" else {}
    return Case(kind, text, fields, partial(set_up, columns, layout, batch, count))


def loaded(columns: Path, layout: str, batch: int, count: int, stack: ExitStack) -> Any:
    """Return the iterator of dispatches that training uses, closed with the stack."""
    files.warm(columns)
    dispatches: Any = data.load(batches_of(columns, layout, batch), 0, 10**9, count)
    stack.callback(dispatches.close)
    return dispatches


def set_up_grain(columns: Path, layout: str, batch: int, count: int, stack: ExitStack) -> Callable[[float], Burst]:
    """Time jaxhep.data.load alone."""
    dispatches = loaded(columns, layout, batch, count, stack)
    return lambda seconds: repeat_for(seconds, lambda: next(dispatches)["label"].size)


def set_up_host_path(columns: Path, layout: str, batch: int, count: int, stack: ExitStack) -> Callable[[float], Burst]:
    """Time loading and transfer, the device one dispatch behind."""
    import jax

    dispatches, pending = loaded(columns, layout, batch, count, stack), None

    def element() -> int:
        nonlocal pending
        values = next(dispatches)
        placed = jax.device_put(values)
        jax.block_until_ready(pending)
        pending = placed
        return values["label"].size

    return lambda seconds: repeat_for(seconds, element)


def set_up_put(columns: Path, layout: str, batch: int, count: int, stack: ExitStack) -> Callable[[float], Burst]:
    """Time the transfer of batches that are in memory, each waited for."""
    import jax

    batches = batches_of(columns, layout, batch)
    held = []
    for number in range(PUTS):
        parts = [batches[number * count + step] for step in range(count)]
        held.append({name: np.stack([part[name] for part in parts]) for name in parts[0]})
    turn = cycle(held)

    def element() -> int:
        values = next(turn)
        jax.block_until_ready(jax.device_put(values))
        return values["label"].size

    return lambda seconds: repeat_for(seconds, element)


def set_up_device(columns: Path, layout: str, batch: int, count: int, stack: ExitStack) -> Callable[[float], Burst]:
    """Time the gathering of K batches at once from columns that lie on the device; positions come from the host."""
    import jax

    split = data.Split(columns, "train")
    resident = {name: jax.device_put(np.asarray(split.columns[name])) for name in files.LAYOUTS[layout]}
    stack.callback(resident.clear)

    @jax.jit
    def gather(columns, positions):
        return {name: values.at[positions].get(mode="promise_in_bounds") for name, values in columns.items()}

    generator = np.random.default_rng(0)

    def element() -> int:
        positions = generator.integers(0, len(split), (count, batch), np.int32)
        jax.block_until_ready(gather(resident, positions))
        return positions.size

    return lambda seconds: repeat_for(seconds, element)


def fields_of(layout: str, **more: Any) -> dict[str, Any]:
    """Return what every row says of its columns."""
    return {"layout": layout, "event_bytes": files.event_bytes(layout), **more}


def aim_of(layout: str, order: str) -> dict[str, Any]:
    """Return the rate to be reached, where there is one."""
    return {"aim": AIM} if layout == "ecal" and order == "random" else {}


def device_name() -> str | None:
    """Return platform and kind of the device that JAX uses, None without JAX."""
    try:
        import jax
    except ImportError:
        return None
    device = jax.devices()[0]
    return f"{device.platform}: {device.device_kind}"


def disk_bytes(layouts: list[str], events: int, root_events: int) -> int:
    """Return how much the made-up files take, at most."""
    columns = sum(files.event_bytes(layout) for layout in layouts) * events
    return columns + root_events * 4 * 1296 * 2 * ("ecal" in layouts)


# What is compared with what: kind, name, and how it is set up.
PIPELINES = (
    (("grain", "Grain pipeline", set_up_grain), ("host path", "Grain and device_put", set_up_host_path)),
    (("device_put", "device_put of a batch", set_up_put), ("device gather", "gather on the device", set_up_device)),
)
