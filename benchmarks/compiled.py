"""Training and inference compiled for accelerators that need not be there: kernels, bytes, memory, and a bound on time.

    python -m benchmarks.compiled --targets h100,v5e --models all --batch 128,1024 --dtype bfloat16 --out FILE
    python -m benchmarks.compiled --models cvt --top 20                    the costliest operations and their layers
    python -m benchmarks.compiled --models cvt --against FILE              what grew or shrank since
    python -m benchmarks.compiled --models cvt --targets v5e --search      which batch and recomputation fit and are fastest

Nothing is run: what comes out is what XLA compiled, read from its text, and what a device of that data sheet could do with
it at best. Each program is compiled in a process of its own. Needs the wheels of the targets: `pip install -e
'.[accelerators]'`. Rows in FILE are not compiled again (`--again` does).
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import targets
from benchmarks.operations import MODELS
from benchmarks.process import command
from benchmarks.rows import add_rows, read_rows
from jaxhep.errors import BadInput, one_of
from jaxhep.recompute import RECOMPUTE

KEY = (
    "target",
    "model",
    "mode",
    "batch",
    "dtype",
    "devices",
    "parallel",
    "steps_per_dispatch",
    "members",
    "recompute",
    "batch_norm",
)
HEAD = (
    "| target | network | mode | batch | type | devices | kernels | GFLOP (of float32) | GB | peak MB | "
    "bound, ms (products, bytes, launches or cycles) | events/s at best | collectives, MB | compile s |"
)
LARGEST = 2**17  # events of a batch beyond which nobody searches


def choices(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a cell for each combination of what the options name."""
    models = MODELS if options.models == "all" else options.models.split(",")
    for name in models:
        one_of(name, MODELS, "--models")
    for dtype in options.dtype.split(","):
        one_of(dtype, ("bfloat16", "float32"), "--dtype")
    for target in options.targets.split(","):
        one_of(target, targets.TARGETS, "--targets")
        if reason := targets.why_not(target):
            raise BadInput(f"--targets {target}: {reason}")
    numbers = (
        [int(value) for value in text.split(",")]
        for text in (options.batch, options.devices, options.steps, options.members)
    )
    batches, devices, steps, members = numbers
    lists = (options.targets.split(","), models, options.modes.split(","), batches, options.dtype.split(","))
    for target, model, mode, batch, dtype, count, kind, many, size in itertools.product(
        *lists, devices, options.parallel.split(","), steps, members
    ):
        yield {
            "target": target,
            "model": model,
            "mode": mode,
            "batch": batch,
            "asked_batch": batch,
            "dtype": dtype,
            "devices": count,
            "parallel": kind,
            "steps_per_dispatch": many,
            "members": size,
            "recompute": options.recompute,
            "batch_norm": options.batch_norm,
            "points": options.points if model == "pointnet" else 0,
            "formulation": "one step" if many == 1 else "auto",
            "attention": options.attention,
            "data": "device",
            "flat": False,
            "parts": 1,
            "schedule": "",
            "hlo": str(options.hlo) if options.hlo else "",
        }


def key_of(row: dict) -> tuple:
    """Return what makes two rows the same program of two versions of the code."""
    usual = {"recompute": "nothing", "batch_norm": "global"}  # what older rows lack
    return tuple(row.get(name, usual.get(name)) for name in KEY)


def compile_cell(cell: dict, limit_s: float) -> dict[str, Any]:
    """Return the row of a cell, compiled in a process of its own."""
    environment = dict(os.environ)
    targets.prepare_environment(cell["target"], environment)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.cells_compiled"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said, complaint = process.communicate(json.dumps(cell), timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {"kind": "compiled", **cell, "failed": f"not compiled within {limit_s:.0f} s"}
    lines = [line for line in said.splitlines() if line.startswith("{")]
    if not lines:
        last = (complaint.strip().splitlines() or [""])[-1][-300:]
        return {"kind": "compiled", **cell, "failed": f"the compiler's process ended with {process.returncode}: {last}"}
    return json.loads(lines[-1])


def line_of(row: dict) -> str:
    """Return a row as a line of the table."""
    start = f"| {row['target']} | {row['model']}"
    start += "".join(
        f", {row[name]} {word}"
        for name, word in (("members", "members"), ("steps_per_dispatch", "steps a dispatch"))
        if row[name] > 1
    )
    start += f", {row['recompute']} recomputed" if row.get("recompute", "nothing") != "nothing" else ""
    start += f" | {row['mode']} | {row['batch']:,} | {row['dtype']} | {row['devices']}{' by pmap' if row['parallel'] == 'pmap' else ''} |"
    if "failed" in row:
        return f"{start} not compiled: {row['failed'].replace('|', '/')[:160]} | | | | | | | |"
    parts = row["bound_parts_s"]
    third = parts["cycles"] if targets.TARGETS[row["target"]].clock else parts["launches"]
    times = f"{1e3 * row['bound_s']:.3f} ({1e3 * parts['products']:.3f}, {1e3 * parts['bytes']:.3f}, {1e3 * third:.3f})"
    wide = row["flops_by_type"].get("f32", 0) / 1e9
    sent = sum(one["bytes"] for one in row["collectives"].values()) / 1e6
    fits = "" if row.get("fits", True) else " (does not fit)"
    values = (
        f"{row['kernels']:,.0f}",
        f"{row['flops'] / 1e9:,.1f} ({wide:,.1f})",
        f"{row['bytes'] / 1e9:,.3g}",
        f"{row.get('peak_bytes', 0) / 1e6:,.0f}{fits}",
        times,
        f"{row['events_per_s']:,.0f}",
        f"{sent:,.1f}" if sent else "-",
        f"{row['compile_s']:.0f}",
    )
    return f"{start} {' | '.join(values)} |"


def top_lines(row: dict, count: int) -> list[str]:
    """Return the costliest operations of a program: share of the bound, MB, launches, kind and layer."""
    whole = sum(cost[0] for cost in row["costs"].values()) or 1.0
    return [
        f"    {100 * seconds / whole:5.1f} %  {1e6 * seconds:9.1f} us  {moved / 1e6:9.1f} MB  {number:5.0f} x  {name}"
        for name, (seconds, moved, number) in list(row["costs"].items())[:count]
    ]


def change_lines(before: dict, after: dict, count: int = 12) -> list[str]:
    """Return what grew or shrank between two programs: in all, then the costs that changed most."""
    if "failed" in before or "failed" in after:
        return [f"    was {before.get('failed', 'compiled')}, is {after.get('failed', 'compiled')}"]
    lines = []
    for name, unit, scale in (
        ("kernels", "", 1),
        ("bytes", " GB", 1e9),
        ("peak_bytes", " MB", 1e6),
        ("bound_s", " ms", 1e-3),
        ("events_per_s", "", 1),
    ):
        old, new = before[name] / scale, after[name] / scale
        lines.append(
            f"    {name}: {old:,.4g} -> {new:,.4g}{unit} ({100 * (new / old - 1):+.1f} %)"
            if old
            else f"    {name}: {new:,.4g}{unit}"
        )
    nothing = [0.0, 0.0, 0.0]
    names = {*before["costs"], *after["costs"]}

    def grown(name: str) -> float:
        return after["costs"].get(name, nothing)[0] - before["costs"].get(name, nothing)[0]

    for name in sorted(names, key=lambda name: -abs(grown(name)))[:count]:
        if grown(name):
            old, new = before["costs"].get(name, nothing), after["costs"].get(name, nothing)
            lines.append(
                f"    {1e6 * grown(name):+9.1f} us  {(new[1] - old[1]) / 1e6:+9.1f} MB  {new[2] - old[2]:+4.0f} x  {name}"
            )
    return lines


def search(cell: dict, limit_s: float, out: Path | None) -> list[str]:
    """Compile a cell with every recomputation at growing batches, until none fits; print rows, return the answer."""
    fitting = []
    for recompute in RECOMPUTE:
        batch = cell["batch"]
        while batch <= LARGEST:
            row = compile_cell(cell | {"recompute": recompute, "batch": batch, "asked_batch": batch}, limit_s)
            add_rows(out, [row])
            print(line_of(row), flush=True)
            if "failed" in row or not row.get("fits", True):
                break
            fitting.append(row)
            batch *= 2
    if not fitting:
        return ["none of these fits"]
    fastest = max(fitting, key=lambda row: row["events_per_s"])
    largest = max(fitting, key=lambda row: row["batch"])
    return [
        f"{words}: batch {row['batch']:,}, recompute {row['recompute']!r}: {row['events_per_s']:,.0f} events/s at best, "
        f"{row['peak_bytes'] / 1e9:,.1f} of {row['device_bytes'] / 1e9:,.1f} GB"
        for words, row in (("fastest", fastest), ("largest batch", largest))
    ]


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--targets", default="h100", help=f"of {', '.join(targets.TARGETS)}")
    found.add_argument("--models", default="all")
    found.add_argument("--modes", default="train,infer")
    found.add_argument("--batch", default="128,1024")
    found.add_argument("--dtype", default="bfloat16")
    found.add_argument("--devices", default="1")
    found.add_argument("--parallel", default="jit", help="jit, pmap")
    found.add_argument("--steps", default="1", help="steps per dispatch")
    found.add_argument("--members", default="1", help="of an ensemble")
    found.add_argument("--points", type=int, default=800, help="of an event of the PointNet")
    found.add_argument("--attention", default="auto", help="auto, explicit, by_head or fused")
    found.add_argument("--recompute", default="nothing", choices=RECOMPUTE, help="config.train.recompute")
    found.add_argument(
        "--batch_norm", default="global", choices=("global", "device"), help="config.parallel.batch_norm"
    )
    found.add_argument("--search", action="store_true", help="try all recomputations at growing batches")
    found.add_argument("--top", type=int, default=0, metavar="N", help="print the N costliest operations of each")
    found.add_argument("--against", type=Path, help="rows of an earlier version to compare with")
    found.add_argument("--out", type=Path, help="file that rows are added to")
    found.add_argument("--hlo", type=Path, help="folder for the texts of the programs")
    found.add_argument("--limit", type=float, default=1800, help="seconds for one program")
    found.add_argument("--again", action="store_true", help="compile what FILE has already")
    return found


def main(arguments: list[str] | None = None) -> None:
    """Compile, add rows, print the table."""
    options = parser().parse_args(arguments)
    cells = list(choices(options))
    done = {} if options.again or not options.out else {key_of(row): row for row in read_rows(options.out)}
    before = {key_of(row): row for row in read_rows(options.against)} if options.against else {}
    if options.against and not options.against.exists():
        raise BadInput(f"--against {options.against} is not there")
    print(HEAD + "\n|" + "---|" * (HEAD.count(" | ") + 1), flush=True)
    for cell in cells:
        if options.search:
            print("\n".join(search(cell, options.limit, options.out)), flush=True)
            continue
        row = done.get(key_of(cell))
        if row is None or "failed" in row:
            row = compile_cell(cell, options.limit)
            add_rows(options.out, [row])
        print(line_of(row), flush=True)
        if options.top and "failed" not in row:
            print("\n".join(top_lines(row, options.top)), flush=True)
        if key_of(row) in before:
            print("\n".join(change_lines(before[key_of(row)], row)), flush=True)
        elif before:
            print("    not in the file compared with", flush=True)


if __name__ == "__main__":
    command(main)
