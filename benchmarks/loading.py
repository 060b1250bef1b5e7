"""Events per second from files to the device: ROOT decoding, gathering, the Grain pipeline, transfer, device columns.

    python -m benchmarks.loading --out benchmarks/results/loading.jsonl --cores 2

Everything is read from made-up files of random cells and spacepoints, in a temporary folder (about 1.7 GB with the
default of 200,000 events); `--folder` puts that folder on another disk. Cases that are compared share a process and are
timed in turn, round after round. What a machine lacks (grain, uproot, ml_collections, a page cache that can be emptied)
is a row that is skipped, with the reason. B events in a batch, K steps in a dispatch.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import events as made_up
from benchmarks import machine
from benchmarks.cells_loading import COLD_PATIENCE
from benchmarks.process import Timed, command, rounds, workers
from benchmarks.rows import add_rows
from jaxhep import data
from jaxhep.columns import check_disk
from jaxhep.errors import BadInput, one_of

AIM = 300_000  # ECAL events/s that the host is to deliver per process: random order, files in the page cache, two cores
ROOT_EVENTS = 40_000  # in the ROOT files, at most
DISPATCHES = ((128, 1), (128, 20), (1024, 1), (1024, 20))  # B, K
COLD = 0.05  # a file with less than this fraction of it in the page cache is cold
COLD_BATCH = 1024
PATIENCE_S = 300.0  # that a set-up, or the rounds of a group, may take beyond what was asked for
# What is compared with what.
PIPELINES = (
    {"grain": "Grain pipeline", "host path": "Grain and device_put"},
    {"device_put": "device_put of a batch", "device gather": "gather on the device"},
)


def groups(folder: Path, layouts: list[str], events: int) -> Iterator[list[dict]]:
    """Yield the cells of each group: those of one group are compared, and timed in turn."""
    if "ecal" in layouts:
        files = {"layout": "ecal", "file_events": min(events, ROOT_EVENTS), "folder": str(folder)}
        decode = {"kind": "decode", "what": "uproot alone, the branches of the calorimeter"}
        yield [decode | files, {"kind": "prepare", "what": "prepare: from ROOT to columns"} | files]
    for layout in layouts:
        about = {"layout": layout, "event_bytes": made_up.event_bytes(layout), "folder": str(folder / layout)}
        for cache, batches in (("warm", (128, COLD_BATCH)), ("cold", (COLD_BATCH,))):
            group = []
            for batch in batches:
                for order in data.ORDERS:
                    aimed = {"aim": AIM} if (layout, order, cache) == ("ecal", "random", "warm") else {}
                    fields = {"batch": batch, "order": order, "cache": cache} | aimed
                    what = f"gather, batch {batch}, {order} order, {cache}"
                    group.append({"kind": "gather", "what": what} | about | fields)
            yield group
        for compared in PIPELINES:
            group = []
            for batch, steps in DISPATCHES:
                for kind, name in compared.items():
                    what = f"{name}, batch {batch}, {steps} step{'s' * (steps > 1)} per dispatch"
                    fields = {"batch": batch, "steps_per_dispatch": steps, "order": "random", "cache": "warm"}
                    aimed = {"aim": AIM} if layout == "ecal" and kind in PIPELINES[0] else {}
                    if batch * steps <= events:
                        group.append({"kind": kind, "what": what} | about | fields | aimed)
            yield group


def judge_cold(event_bytes: int, answers: list[dict]) -> dict[str, Any]:
    """Return what became of the request to forget, from the fraction left in memory and the bytes then fetched.

    Cold is a file of which almost nothing was left and of which at least half the bytes of each event came from
    storage; what a host below a virtual machine keeps in its own memory shows in neither. As the kernel reads ahead,
    the first batches of a file that is not larger than memory fetch much of it: the first one's rate is given apart.
    """
    resident, fetched = ([answer[name] for answer in answers] for name in ("resident", "fetched"))
    told = [value < COLD for value in resident if value is not None]
    told += [value > event_bytes / 2 for value in fetched if value is not None]
    verdict = "cold" if all(told) else "warm: the file system ignored the request to forget"
    return {
        "cache": verdict if told else "warm or cold: nothing here tells",
        "resident_after_drop": resident,
        "fetched_bytes_per_event": fetched,
        "first_batch_events_per_s": [answer["first"] for answer in answers],
        "events_timed": [answer["events"] for answer in answers],
    }


def time_group(cells: list[dict], repeats: int, seconds: float) -> list[dict]:
    """Return a row per cell: one short round to warm up, then `repeats` rounds in turn of so many seconds each."""
    programs = []
    with workers() as start:
        worker = start("benchmarks.cells_loading:set_up", {**os.environ})
        for cell in cells:
            program = Timed(cell, worker)
            program.set_up(PATIENCE_S)
            if not program.failed:
                program.run(seconds / 4, PATIENCE_S)
            program.amount = seconds
            programs.append(program)
        rounds(programs, repeats, PATIENCE_S + 2 * COLD_PATIENCE * repeats * seconds * len(cells))
    found = []
    for program in programs:
        row = program.row(**machine.stamp(), versions=machine.versions())
        del row["folder"]
        if program.cell.get("cache") == "cold" and program.answers:
            row |= judge_cold(row["event_bytes"], program.answers)
        found.append(row)
    return found


def table(rows: list[dict]) -> str:
    """Return the rows as a Markdown table, and below it what became of the aim."""
    lines = ["| columns | what | events/s, median (extremes) | GB/s |", "|---|---|---|---|"]
    for row in rows:
        start = f"| {row['layout']} | {row['what']} |"
        if "skipped" in row:
            lines.append(f"{start} skipped: {row['skipped'].replace('|', '/')} | |")
            continue
        rate = f"{row['events_per_s']:,.0f} ({row['min']:,.0f}-{row['max']:,.0f})"
        if "first_batch_events_per_s" in row:
            rate += f"; first batch {statistics.median(row['first_batch_events_per_s']):,.0f}"
            rate += f"; {row['cache']}" if row["cache"] != "cold" else ""
        traffic = f"{row['events_per_s'] * row['event_bytes'] / 1e9:.2f}" if "event_bytes" in row else ""
        lines.append(f"{start} {rate} | {traffic} |")
    aimed = [row for row in rows if "aim" in row and "events_per_s" in row]
    if aimed:
        missed = [row["what"] for row in aimed if row["events_per_s"] < row["aim"]]
        result = f"missed by: {'; '.join(missed)}" if missed else "met by all"
        of = f"{len(aimed)} rows of ECAL cells in random order from the page cache, {aimed[0]['cores']} cores"
        lines += ["", f"Aim of {aimed[0]['aim']:,} events/s ({of}): {result}."]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Write the files, time every group, add its rows to the file, print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file to which the rows are appended, as JSON lines")
    parser.add_argument("--seconds", type=float, default=60, help="for all timings together (default %(default)g)")
    parser.add_argument("--repeats", type=int, default=5, help="timings of each row (default %(default)s)")
    parser.add_argument("--events", type=int, default=200_000, help="in the made-up columns (default %(default)s)")
    parser.add_argument("--layouts", default="ecal,spacepoints", help="ecal (18 x 72 cells), spacepoints (800 x 3)")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made (default the system's)")
    parser.add_argument("--cores", type=int, default=0, help="use so many cores only, where the system can (0: all)")
    options = parser.parse_args(argv)
    layouts = options.layouts.split(",")
    for layout in layouts:
        one_of(layout, made_up.LAYOUTS, "--layouts")
    if options.events < 2 or options.repeats < 1 or not options.seconds > 0:
        raise BadInput("--events must be at least 2, --repeats at least 1, --seconds positive")
    if options.cores:
        if not hasattr(os, "sched_setaffinity"):
            raise BadInput("--cores: this system cannot keep a process to some cores")
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict] = []
    with tempfile.TemporaryDirectory(prefix="jaxhep-loading-", dir=options.folder) as name:
        needed = sum(made_up.event_bytes(layout) for layout in layouts) * options.events
        needed += min(options.events, ROOT_EVENTS) * 4 * 1296 * 2 * ("ecal" in layouts)
        check_disk(Path(name), needed, "made-up files", True)
        for layout in layouts:
            made_up.write_columns(Path(name) / layout, layout, options.events)
        every = list(groups(Path(name), layouts, options.events))
        each = options.seconds / options.repeats / sum(map(len, every))
        for cells in every:
            found = [
                row | {"events": options.events, "file": "made up"} for row in time_group(cells, options.repeats, each)
            ]
            add_rows(options.out, found)
            rows += found
    print(table(rows))


if __name__ == "__main__":
    command(main)
