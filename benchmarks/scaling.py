"""Events per second of data-parallel training on 1, 2, 4, 8 devices, with the batch per device kept and with the whole.

    python -m benchmarks.scaling --out benchmarks/results/scaling.jsonl --models mlp,resnet10

The same command on several GPUs or a Cloud TPU uses what is there and skips counts beyond it. On a CPU each count gets
a process of its own with so many fake devices (`fake: true`): the mechanics, not the speed. `--batch` is what each
device gets in weak scaling and all of them together in strong scaling. A cell is a network, a batch and a kind; its
counts are timed in turn, round after round. Cells already in `--out` are not repeated. B batch over all devices, K steps
in a dispatch.
"""

import argparse
import os
import re
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import machine
from benchmarks.cells import build_network, inputs, loss_of, train_step
from benchmarks.events import events_of
from benchmarks.process import NO_TURN, Program, Timed, command, dispatched, rounds, workers
from benchmarks.rows import add_rows, read_rows
from jaxhep import ensemble, parallel, steps
from jaxhep.errors import BadInput, one_of

SET_UP_SHARE = 0.8  # of a cell's budget that compiling may take
PROBE_S = 120.0  # that JAX may take to find its devices
TOLERANCE = 1e-4  # relative, of the losses of the first three steps on N devices and on one
CHECKED_STEPS = 3  # whose losses are compared
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
INITIAL: dict[tuple, Any] = {}  # states before the first step: compiling them takes as long as compiling the step


def probe() -> dict[str, Any]:
    """Return platform, kind and number of the devices, asked in a process that ends: a TPU serves one at a time."""
    with workers() as start:
        asked = Timed({}, start("benchmarks.scaling:devices_here", {**os.environ}))
        asked.set_up(PROBE_S)
    if asked.failed:
        raise BadInput(f"JAX finds no devices: {asked.failed}")
    return asked.facts


def cells_of(cell: dict, counts: list[int], found: dict[str, Any]) -> list[dict]:
    """Return the cells of a network, batch and kind: one device, then strong and weak scaling of each count."""
    cells = []
    for devices in counts:
        for scaling in ("one",) if devices == 1 else ("strong", "weak"):
            batch = cell["batch"] * (devices if scaling == "weak" else 1)
            what = f"{cell['model']}, batch {batch} on {devices}, {cell['parallel']}"
            what += f", {scaling} scaling" if devices > 1 else ""
            more = {"devices": devices, "scaling": scaling, "whole_batch": batch, "fake": found["platform"] == "cpu"}
            cells.append({"kind": "scaling", "what": what} | cell | more | found)
    return cells


def unfit(cell: dict) -> str:
    """Return why a cell cannot be measured here, or nothing."""
    if not cell["fake"] and cell["devices"] > cell["available"]:
        return f"this host has {cell['available']} {cell['device_kind']}"
    if cell["whole_batch"] % cell["devices"]:
        return f"a batch of {cell['whole_batch']} does not divide among {cell['devices']} devices"
    return ""


def measure(cells: list[dict], repeats: int, budget_s: float) -> list[dict]:
    """Return a row per cell, compared with that of one device; everything within the budget."""
    began, programs = time.monotonic(), []
    running: dict[int, Any] = {}
    with workers() as start:
        for cell in cells:
            program = Timed(cell)
            left = began + SET_UP_SHARE * budget_s - time.monotonic()
            program.failed = unfit(cell) or (NO_TURN if left <= 0 else "")
            if not program.failed:
                # A TPU serves one process at a time, so there all counts share one.
                key = 0 if cell["platform"] == "tpu" else cell["devices"]
                if key not in running:
                    given = machine.environment(os.environ, cell["platform"], cell["devices"])
                    running[key] = start("benchmarks.scaling:set_up", given)
                program = Timed(cell, running[key])
                program.set_up(left)
            programs.append(program)
        rounds(programs, repeats, began + budget_s - time.monotonic())
    about = machine.stamp() | {"versions": machine.versions()}
    rows = [program.row(**about) for program in programs]
    one = next((row for row in rows if row["scaling"] == "one"), {})
    return [row | compare(row, one) for row in rows]


def devices_here(cell: dict) -> Program:
    """Return platform, kind and number of this host's devices, as facts of a program that does nothing."""
    devices = jax.local_devices()
    found = {"platform": devices[0].platform, "device_kind": devices[0].device_kind, "available": len(devices)}
    return Program(found, lambda amount: {})


def set_up(cell: dict) -> Program:
    """Compile a cell. Raises BadInput where the devices or the memory are not there."""
    whole, count = cell["whole_batch"], cell["steps_per_dispatch"]
    devices = parallel.choose_devices(cell["parallel"], cell["devices"], whole)
    platform, by_jit = devices[0].platform, cell["parallel"] == "jit"
    axis = None if by_jit else parallel.AXIS
    cell = {"points": 800, **cell}
    network, optimiser = build_network(cell, platform, axis), steps.build_optimiser()
    step = train_step(cell, network, optimiser, axis)
    scored = steps.make_eval_step(network, inputs, loss_of(cell["model"]))
    run = parallel.build_parallel(cell["parallel"], devices, step, scored)
    known = (cell["model"], cell["dtype"])
    if known not in INITIAL:
        plain, example = build_network(cell, platform), events_of(cell, 1)
        made = jax.jit(lambda: steps.init_state(plain, optimiser, inputs, example, 0))()
        INITIAL[known] = jax.tree.map(np.asarray, made)
    state = run.place(INITIAL[known])
    batch: Any = {key: np.repeat(values[None], count, axis=0) for key, values in events_of(cell, whole).items()}
    facts: dict[str, Any] = {"devices_used": len(devices), "memory_per_device": None, "data": "host"}
    train, began = run.train, time.perf_counter()
    if by_jit:
        train = run.train.lower(state, batch).compile()
        facts |= {"compile_s": time.perf_counter() - began, "collectives": collectives(train.as_text())}
        needed = train.memory_analysis()
        if needed is not None:
            facts["memory_per_device"] = needed.argument_size_in_bytes + needed.temp_size_in_bytes
            check_memory(facts["memory_per_device"] * (len(devices) if platform == "cpu" else 1), devices[0])
        batch = jax.device_put(batch, train.input_shardings[0][1])
        facts["data"] = "device"  # pmap's batches are cut up on the host, as in training

    def dispatches(number: int) -> None:
        nonlocal state
        for _ in range(number):
            state, metrics = train(state, batch)
            if platform == "cpu":  # fake devices wait for each other in one pool of threads
                jax.block_until_ready(metrics)
        jax.block_until_ready(state)

    losses: list[float] = []
    while len(losses) < CHECKED_STEPS:
        state, metrics = train(state, batch)
        losses += np.asarray(metrics["loss"], np.float64).tolist()
    facts.setdefault("compile_s", time.perf_counter() - began)  # of pmap with its first steps
    facts["losses"] = losses[:CHECKED_STEPS]
    if platform != "cpu":
        peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in devices]
        facts["allocator_peak"] = max((peak for peak in peaks if peak is not None), default=None)
    return dispatched(facts, dispatches, count * whole, platform == "cpu")


def check_memory(needed: float, device: jax.Device) -> None:
    """Raise BadInput, with the size, where a program needs more memory than is free."""
    free = ensemble.free_bytes(device)
    if free is not None and needed > free:
        raise BadInput(f"needs {needed / 1e9:.3g} GB of memory, {free / 1e9:.3g} GB are free")


def collectives(text: str) -> dict[str, int]:
    """Return how often a compiled program has each collective operation.

    Data parallelism needs all-reduce alone; an all-gather or all-to-all tells of a formulation that the compiler could
    not split among the devices.
    """
    counts = {name: len(re.findall(rf" {name}(?:-start)?\(", text)) for name in COLLECTIVES}
    return {name: count for name, count in counts.items() if count}


def compare(row: dict, one: dict) -> dict[str, Any]:
    """Return what a row shows beside the row of one device, round by round: speed-up, efficiency, difference of losses.

    Efficiency is the speed-up over the number of devices, for weak and strong scaling alike. Losses are of the same
    events in strong scaling only; under pmap BatchNorm takes each device's own statistics, so there the difference is
    told and not judged.
    """
    ratios = [many / single for many, single in zip(row.get("rates", []), one.get("rates", []), strict=False)]
    if not ratios:
        return {}
    found: dict[str, Any] = {
        "speed_up": statistics.median(ratios),
        "efficiency": statistics.median(ratios) / row["devices"],
        "efficiency_min": min(ratios) / row["devices"],
        "efficiency_max": max(ratios) / row["devices"],
    }
    if row["scaling"] == "strong":
        losses = zip(row["losses"], one["losses"], strict=True)
        found["loss_difference"] = max(abs(many - single) / abs(single) for many, single in losses)
        if row["parallel"] == "jit" and row["dtype"] == "float32":
            found["same_loss"] = found["loss_difference"] <= TOLERANCE
    return found


def table(rows: list[dict]) -> str:
    """Return all rows as a Markdown table, and below it what fake devices mean where there are any."""
    lines = [
        "| network | batch | by | devices | scaling | events/s (min-max) | efficiency | loss differs by | MiB per device | collectives |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        number = f"{row['devices']} fake" if row["fake"] else f"{row['devices']}"
        start = f"| {row['model']} | {row['whole_batch']} | {row['parallel']} | {number} | {row['scaling']} |"
        if "skipped" in row:
            lines.append(f"{start} skipped: {row['skipped'].replace('|', '/')} | | | | |")
            continue
        rate = f"{row['events_per_s']:,.0f} ({row['min']:,.0f}-{row['max']:,.0f})"
        efficiency = ""
        if "efficiency" in row:
            efficiency = f"{row['efficiency']:.2f} ({row['efficiency_min']:.2f}-{row['efficiency_max']:.2f})"
        difference = f"{row['loss_difference']:.1e}" if "loss_difference" in row else ""
        difference += " (not the same)" if row.get("same_loss") is False else ""
        sizes = [row.get("memory_per_device"), row.get("allocator_peak")]
        memory = ", peak ".join(f"{size / 2**20:,.0f}" for size in sizes if size is not None)
        operations = ", ".join(f"{count} {name}" for name, count in row.get("collectives", {}).items())
        lines.append(f"{start} {rate} | {efficiency} | {difference} | {memory} | {operations} |")
    if any(row["fake"] for row in rows):
        lines += [
            "",
            "Fake devices share the cores of one CPU: they show that the mechanics work, not how speed scales.",
        ]
    return "\n".join(lines)


def identity(row: dict) -> tuple:
    """Return what tells cells apart."""
    names = ("model", "batch", "parallel", "dtype", "steps_per_dispatch", "platform", "device_kind")
    return tuple(row[name] for name in names)


def numbers(option: str, text: str) -> list[int]:
    """Return whole numbers from 1 that commas separate. Raises BadInput for anything else."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise BadInput(f"{option} takes whole numbers separated by commas ({error})") from None
    if min(found) < 1:
        raise BadInput(f"{option} has {min(found)}, wanted at least 1")
    return found


def main(argv: list[str] | None = None) -> None:
    """Measure the cells that the file does not hold yet, then print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; cells already in it are not repeated")
    parser.add_argument("--devices", default="1,2,4,8", help="counts; one device is always measured beside the others")
    parser.add_argument("--models", default="mlp,cnn,resnet10")
    parser.add_argument("--batch", default="128", help="per device (weak scaling) and of all (strong scaling)")
    parser.add_argument("--kind", default="jit,pmap")
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16")
    parser.add_argument("--steps", default="1", help="steps in a dispatch")
    parser.add_argument("--repeats", type=int, default=5, help="rounds, where the budget allows")
    parser.add_argument("--budget", type=float, default=300, help="seconds for a cell, compilation included")
    options = parser.parse_args(argv)
    kinds = options.kind.split(",")
    for kind in kinds:
        one_of(kind, parallel.KINDS, "--kind")
    counts, batches = numbers("--devices", options.devices), numbers("--batch", options.batch)
    shared = {"dtype": options.dtype, "steps_per_dispatch": numbers("--steps", options.steps)[0]}
    rows = read_rows(options.out)
    found = probe()
    for model, batch, kind in [(m, b, k) for m in options.models.split(",") for b in batches for k in kinds]:
        cell = {"model": model, "batch": batch, "parallel": kind, **shared}
        done = {row["devices"] for row in rows if identity(row) == identity(cell | found)}
        missing = sorted({1, *counts} - done)
        if missing:
            print(f"{model}, batch {batch}, {kind}", flush=True)
            # One device again beside the counts that are new, as rates are compared round by round.
            measured = measure(cells_of(cell, sorted({1, *missing}), found), options.repeats, options.budget)
            add_rows(options.out, measured)
            rows += measured
    print(table(rows))


if __name__ == "__main__":
    command(main)
