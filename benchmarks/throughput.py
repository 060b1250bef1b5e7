"""Events per second of each network in training and inference: jaxhep against the PyTorch baseline, alternating.

    python -m benchmarks.throughput --models cvt,resnet18,pointnet --batch 128,1024,8192 --out results.jsonl

A cell is a network, a batch and a mode. The variants of both frameworks live in processes of their own and are timed in
turn, round after round, so that a busy machine disturbs all alike. Variants already in --out are not repeated: the same
command again goes on where it stopped. A batch that does not fit into memory is halved until it does.
"""

import argparse
import datetime
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import machine
from benchmarks.measure import Settings, measure_cell
from benchmarks.operations import TRAINING
from benchmarks.process import command
from benchmarks.report import table
from benchmarks.rows import add_rows, best_rows, fastest, left_to_measure, ratio_of, read_rows, share_of_limit
from benchmarks.variants import groups_of, variants
from jaxhep.errors import BadInput

LIMITS_LAST_S = 3600  # how long measured limits are taken to hold


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = found.add_argument
    add("--models", default="mlp,cnn,resnet10,resnet18,cvt,pointnet")
    add("--batch", default="128,1024")
    add("--frameworks", default="jax,torch")
    add("--modes", default="train,infer")
    add("--variants", default="main", help="main (those that can be the fastest), all, or groups: see README")
    add("--out", type=Path, required=True, help="JSON lines; variants already in it are not repeated")
    add("--again", action="store_true", help="measure what the file already holds too; reports take the newest")
    add("--best", type=int, default=0, help="only so many of each framework, by rate at the next smaller batch; 0: all")
    add("--platform", choices=machine.PLATFORMS, help="where to run; by default what the machine has")
    add("--devices", type=int, default=0, help="how many JAX uses; 0: all; on a CPU: so many made-up ones")
    add("--points", type=int, default=800, help="of each event of PointNet")
    add("--budget", type=float, default=60, help="seconds for each variant's set-up, and for a cell's timings")
    add("--repeats", type=int, default=7, help="rounds, where the budget allows")
    add("--together", type=int, default=1, help="variants set up at the same time; timings are always one by one")
    add("--floor", type=int, default=16, help="batch below which none is halved")
    add("--deadline", type=float, default=float("inf"), help="seconds after which nothing new begins")
    add("--limits", type=float, default=0.2, help="seconds of a timing of the machine's limits; 0: not measured")
    return found


def printed_rows(module: str, arguments: list[str], platform: str) -> list[dict]:
    """Return the rows that another benchmark prints as JSON lines; none, with a printed line, where it fails."""
    asked = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    given = machine.environment(os.environ, platform, 1)
    found = subprocess.run(asked, capture_output=True, text=True, env=given, timeout=300)
    if found.returncode:
        print(f"{module} failed: {' '.join(found.stderr.split())[-200:]}")
        return []
    return [json.loads(line) for line in found.stdout.splitlines() if line.startswith("{")]


def limit_rows(rows: list[dict], frameworks: list[str], platform: str, seconds: float) -> list[dict]:
    """Return the machine's limits by each framework, unless `rows` hold some of the last hour."""
    now = datetime.datetime.now(datetime.UTC)
    new = []
    for framework in frameworks:
        dates = [row["date"] for row in rows if row["kind"] == "limit" and row["framework"] == framework]
        ages = [(now - datetime.datetime.fromisoformat(date)).total_seconds() for date in dates]
        if min(ages, default=LIMITS_LAST_S) >= LIMITS_LAST_S and seconds > 0:
            print(f"limits of the machine, by {framework}", flush=True)
            found = printed_rows("limits", ["--framework", framework, "--seconds", str(seconds)], platform)
            new += [{**row, **machine.stamp()} for row in found]
    return new


def operation_rows(rows: list[dict], models: list[str], points: int) -> list[dict]:
    """Return operations per event of the networks that `rows` do not hold yet, counted on the CPU."""
    done = {(row["model"], row["points"]) for row in rows if row["kind"] == "operations"}
    missing = [model for model in models if (model, points if model == "pointnet" else 0) not in done]
    asked = ["--json", "--models", ",".join(missing), "--points", str(points)]
    return printed_rows("operations", asked, "cpu") if missing else []


def with_operations(row: dict, rows: list[dict]) -> dict:
    """Return the row with its operations per event, by XLA's count, and the fraction of the limit that it reaches."""
    counts = [
        r for r in rows if r["kind"] == "operations" and (r["model"], r["points"]) == (row["model"], row["points"])
    ]
    if not counts:
        return row
    passes = TRAINING if row["mode"] == "train" else 1
    row = row | {"flop_per_event": passes * counts[-1]["by_xla"], "flop_by_hand": passes * counts[-1]["by_hand"]}
    share = share_of_limit(row, rows)
    return row if share is None else row | {"fraction_of_limit": share}


def choose_frameworks(asked: list[str], platform: str) -> list[str]:
    """Return the frameworks that can be measured here; a printed line says which cannot. Raises BadInput if none can."""
    chosen = [name for name in asked if importlib.util.find_spec(name) is not None]
    if missing := [name for name in asked if name not in chosen]:
        print(f"not installed, so not measured: {', '.join(missing)}")
    if "torch" in chosen and platform == "tpu":
        print("PyTorch has no baseline on a TPU: measuring JAX alone")
        chosen.remove("torch")
    if not chosen:
        raise BadInput(f"none of the frameworks {', '.join(asked)} can be measured here")
    return chosen


def cells_of(cell: dict, frameworks: list[str], groups: tuple[str, ...]) -> list[dict]:
    """Return all variants of a cell, one of JAX, one of PyTorch, and so on."""
    devices = machine.count_devices(cell["platform"], cell["devices"])
    asked = (cell["model"], cell["mode"], cell["batch"], cell["platform"], devices, machine.half_in_hardware())
    found = [
        [{**cell, "framework": name, **row} for row in variants(name, *asked) if row["group"] in groups]
        for name in frameworks
    ]
    longest = max(map(len, found), default=0)
    return [rows[place] for place in range(longest) for rows in found if place < len(rows)]


def main(arguments: list[str] | None = None) -> None:
    """Measure what the file does not hold yet, then print the table of all variants."""
    options = parser().parse_args(arguments)
    began = time.monotonic()
    platform = options.platform or machine.find_platform()
    groups = groups_of(options.variants)
    frameworks = choose_frameworks(options.frameworks.split(","), platform)
    settings = Settings(
        repeats=options.repeats,
        budget_s=options.budget,
        together=1 if platform == "tpu" else options.together,
        floor=options.floor,
        device_bytes=machine.device_bytes() if platform == "gpu" else 0,
        one_process=platform == "tpu",
        deadline=began + options.deadline,
    )
    rows = read_rows(options.out)

    def keep(new: list[dict]) -> None:
        add_rows(options.out, new)
        rows.extend(new)

    models = options.models.split(",")
    keep(operation_rows(rows, models, options.points))
    keep(limit_rows(rows, frameworks, platform, options.limits))
    cells = [(m, int(b), mode) for m in models for b in options.batch.split(",") for mode in options.modes.split(",")]
    for model, batch, mode in cells:
        cell = {"model": model, "batch": batch, "asked_batch": batch, "mode": mode, "platform": platform}
        cell |= {"points": options.points if model == "pointnet" else 0}
        cell |= {"devices": options.devices, "asked_devices": options.devices}
        todo = fastest(cells_of(cell, frameworks, groups), rows, options.best)
        todo = todo if options.again else left_to_measure(todo, rows)
        if todo and settings.left() > 0:
            print(f"{model}, batch {batch}, {mode}: {len(todo)} variants", flush=True)
            about = {**machine.stamp(), "set_up_together": settings.together}
            about["cell_began"] = f"{about['date']} {os.getpid()}"
            found = [with_operations(about | row, rows) for row in measure_cell(todo, rows, settings)]
            best = best_rows(found)
            names = {f"{name}_variant": row["variant"] for name, row in best.items()}
            ratio = {"kind": "ratio", **cell, "cell_began": about["cell_began"], **names, **ratio_of(best)}
            keep([*found, ratio])
    print(table(rows))


if __name__ == "__main__":
    command(main)
