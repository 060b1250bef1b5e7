"""Events per second from files to the device: ROOT decoding, gathering, the Grain pipeline, transfer, device columns.

    python -m benchmarks.loading --out benchmarks/results/loading.jsonl --cores 2

Everything is read from made-up files of random cells and spacepoints, in a temporary folder (about 1.7 GB with the
default of 200,000 events); `--folder` puts that folder on another disk. Cases that are compared are timed in turn,
round after round. What a machine lacks (grain, uproot, ml_collections, a page cache that can be emptied) is a row that
is skipped, with the reason.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import loading_cases
from benchmarks.loading_timing import alternate
from jaxhep.columns import check_disk
from jaxhep.errors import BadInput, nearest, one_line

ROOT_EVENTS = 40_000  # in the ROOT files, at most


def measure(
    folder: Path, layouts: list[str], events: int, seconds: float, repeats: int, out: Path | None
) -> list[dict]:
    """Write the files, time every case and return its row; rows go to `out` group by group."""
    from benchmarks.loading_files import write_columns

    root_events = min(events, ROOT_EVENTS)
    for layout in layouts:
        write_columns(folder / layout, layout, events)
    every = list(loading_cases.groups(folder, layouts, events, root_events))
    each = seconds / repeats / sum(map(len, every))
    rows: list[dict] = []
    for cases in every:
        found = [row | {"events": events, "file": "made up"} for row in alternate(cases, repeats, each)]
        if out:
            with out.open("a") as file:
                file.write("".join(json.dumps(row) + "\n" for row in found))
        rows += found
    return rows


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


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loading", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
        if layout not in loading_cases.files.LAYOUTS:
            known = loading_cases.files.LAYOUTS
            raise BadInput(f"--layouts has {layout!r}, wanted one of {', '.join(known)}{nearest(layout, known)}")
    if options.events < 2 or options.repeats < 1 or not options.seconds > 0:
        raise BadInput("--events must be at least 2, --repeats at least 1, --seconds positive")
    if options.cores:
        if not hasattr(os, "sched_setaffinity"):
            raise BadInput("--cores: this system cannot keep a process to some cores")
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="jaxhep-loading-", dir=options.folder) as name:
        needed = loading_cases.disk_bytes(layouts, options.events, min(options.events, ROOT_EVENTS))
        check_disk(Path(name), needed, "made-up files", True)
        rows = measure(Path(name), layouts, options.events, options.seconds, options.repeats, options.out)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(one_line(main))
