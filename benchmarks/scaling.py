"""Events per second of data-parallel training on 1, 2, 4, 8 devices, with the batch per device kept and with the whole.

    python -m benchmarks.scaling --out benchmarks/results/scaling.jsonl --models mlp,resnet10

The same command on several GPUs or a Cloud TPU uses what is there and skips counts beyond it. On a CPU each count gets
a process of its own with so many fake devices (`fake: true`): the mechanics, not the speed. `--batch` is what each
device gets in weak scaling and all of them together in strong scaling. A cell is a network, a batch and a kind; its
counts are timed in turn, round after round. Cells already in `--out` are not repeated.
"""

import argparse
import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.loading_timing import machine, summary
from benchmarks.scaling_table import compare, table
from benchmarks.throughput_table import read_rows
from jaxhep.errors import BadInput, nearest, one_line

BURST_S = 0.4  # one timing takes about this long, or one dispatch where that is longer
SET_UP_SHARE = 0.8  # of a cell's budget that compiling may take
KINDS = ("jit", "pmap")


class Worker:
    """A process that holds the programs of some counts; `failed` says why it ended, or is empty."""

    def __init__(self, environment: dict[str, str]):
        self.failed = ""
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        command = [sys.executable, "-m", "benchmarks.scaling_worker"]
        self.process: Any = subprocess.Popen(command, **pipes, text=True, env=environment)

    def ask(self, request: dict, limit_s: float) -> dict:
        """Return the answer, or {"failed": reason}; a process that does not answer in time is ended."""
        if self.failed:
            return {"failed": self.failed}
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(self.process.stdout, selectors.EVENT_READ)
                if not selector.select(timeout=max(limit_s, 0)):
                    self.stop(f"no answer within {max(limit_s, 0):.3g} s, what was left of the budget")
                    return {"failed": self.failed}
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.stop(f"process ended with {self.process.wait()} (out of memory, if -9)")
            return {"failed": self.failed}
        return json.loads(line)

    def stop(self, reason: str = "") -> None:
        """End the process; the first reason given stays."""
        self.failed = self.failed or reason
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def environment(devices: int, fake: bool) -> dict[str, str]:
    """Return the environment of a process with so many fake CPU devices, or with the devices that there are."""
    # Taking memory as it is needed leaves room for the other processes on the same GPUs.
    found = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if fake:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        found |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags.strip()}
    return found


def probe() -> dict[str, Any]:
    """Return platform, kind and number of the devices, asked in a process that ends: a TPU serves one at a time."""
    command = [sys.executable, "-m", "benchmarks.scaling_worker", "probe"]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        last = (answer.stderr.strip().splitlines() or ["no message"])[-1]
        raise BadInput(f"JAX finds no devices: {last[:200]}")
    return json.loads(answer.stdout)


def programs_of(cell: dict, counts: list[int], found: dict[str, Any], fake: bool) -> list[dict]:
    """Return the programs of a cell, with `skipped` where the devices or a whole batch for them are not there."""
    programs = []
    for devices in counts:
        for scaling in ("one",) if devices == 1 else ("strong", "weak"):
            batch = cell["batch"] * (devices if scaling == "weak" else 1)
            program = {**cell, "devices": devices, "scaling": scaling, "whole_batch": batch, "fake": fake}
            if not fake and devices > found["available"]:
                program["skipped"] = f"this host has {found['available']} {found['device_kind']}"
            elif batch % devices:
                program["skipped"] = f"a batch of {batch} does not divide among {devices} devices"
            programs.append(program)
    return programs


def run_cell(
    cell: dict, counts: list[int], found: dict[str, Any], fake: bool, repeats: int, budget_s: float
) -> list[dict]:
    """Return a row per program of a cell, compared with that of one device; everything within the budget."""
    began = time.monotonic()
    programs = programs_of(cell, counts, found, fake)
    workers: dict[int, Worker] = {}
    answers: list[dict] = []
    try:
        for program in programs:
            answer = {"failed": program["skipped"]} if "skipped" in program else None
            left = began + SET_UP_SHARE * budget_s - time.monotonic()
            if answer is None and left <= 0:
                answer = {"failed": "the budget ended before its turn"}
            if answer is None:
                # A TPU serves one process at a time, so there all counts share one.
                key = 0 if found["platform"] == "tpu" and not fake else program["devices"]
                if key not in workers:
                    workers[key] = Worker(environment(program["devices"], fake))
                answer = workers[key].ask({"set_up": program}, left) | {"worker": key}
            answers.append(answer)
        seconds = time_in_turn(answers, workers, repeats, began + budget_s)
    finally:
        for worker in workers.values():
            worker.stop()
    rows = []
    for program, answer, times in zip(programs, answers, seconds, strict=True):
        row = {"kind": "scaling", "what": what(program), **program, **found, **machine()}
        if times:
            events = dispatches_of(answer) * program["steps_per_dispatch"] * program["whole_batch"]
            facts = {name: value for name, value in answer.items() if name not in ("index", "worker")}
            row |= facts | summary([events / second for second in times]) | {"repeats": len(times)}
        else:
            row["skipped"] = answer.get("failed") or "the budget ended before its turn"
        rows.append(row)
    one = next((row for row in rows if row["scaling"] == "one"), {})
    return [row | compare(row, one) for row in rows]


def time_in_turn(answers: list[dict], workers: dict[int, Worker], repeats: int, deadline: float) -> list[list[float]]:
    """Return the seconds of each round of each program that was set up, those of one round after the other."""
    seconds: list[list[float]] = [[] for _ in answers]
    for _ in range(repeats):
        for answer, times in zip(answers, seconds, strict=True):
            left = deadline - time.monotonic()
            if "failed" in answer or left <= answer["dispatch_s"] * dispatches_of(answer):
                continue
            request = {"run": answer["index"], "dispatches": dispatches_of(answer)}
            reply = workers[answer["worker"]].ask(request, left)
            if "failed" in reply:
                answer["failed"] = reply["failed"]
            else:
                times.append(reply["seconds"])
    return seconds


def dispatches_of(answer: dict) -> int:
    """Return how many dispatches make one timing."""
    return max(1, round(BURST_S / max(answer["dispatch_s"], 1e-6)))


def what(program: dict) -> str:
    """Return a row's name."""
    name = f"{program['model']}, batch {program['whole_batch']} on {program['devices']}, {program['parallel']}"
    return name + (f", {program['scaling']} scaling" if program["devices"] > 1 else "")


def identity(row: dict) -> tuple:
    """Return what tells cells apart."""
    names = ("model", "batch", "parallel", "dtype", "steps_per_dispatch", "platform", "device_kind")
    return tuple(row[name] for name in names)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; cells already in it are not repeated")
    parser.add_argument("--devices", default="1,2,4,8", help="counts; one device is always measured beside the others")
    parser.add_argument("--models", default="mlp,cnn,resnet10")
    parser.add_argument("--batch", default="128", help="per device (weak scaling) and of all (strong scaling)")
    parser.add_argument("--kind", default="jit,pmap")
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16")
    parser.add_argument("--steps", type=int, default=1, help="steps in a dispatch")
    parser.add_argument("--repeats", type=int, default=5, help="rounds, where the budget allows")
    parser.add_argument("--budget", type=float, default=300, help="seconds for a cell, compilation included")
    options = parser.parse_args(argv)
    kinds = options.kind.split(",")
    for kind in kinds:
        if kind not in KINDS:
            raise BadInput(f"--kind has {kind!r}, wanted one of {', '.join(KINDS)}{nearest(kind, KINDS)}")
    try:
        counts, batches = ([int(part) for part in text.split(",")] for text in (options.devices, options.batch))
    except ValueError as error:
        raise BadInput(f"--devices and --batch are whole numbers separated by commas ({error})") from None
    if min(*counts, *batches, options.steps) < 1:
        raise BadInput("--devices, --batch and --steps must be at least 1")
    found = probe()
    fake = found["platform"] == "cpu"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = read_rows(options.out)
    shared = {"dtype": options.dtype, "steps_per_dispatch": options.steps}
    cells = [(m, b, k) for m in options.models.split(",") for b in batches for k in kinds]
    for model, batch, kind in cells:
        cell = {"model": model, "batch": batch, "parallel": kind, **shared}
        done = {row["devices"] for row in rows if identity(row) == identity(cell | found)}
        missing = sorted({1, *counts} - done)
        if not missing:
            continue
        print(f"{model}, batch {batch}, {kind}", flush=True)
        # One device again beside the counts that are new, as rates are compared round by round.
        measured = run_cell(cell, sorted({1, *missing}), found, fake, options.repeats, options.budget)
        with options.out.open("a") as out:  # one write per cell: an interrupted one leaves nothing behind
            out.write("".join(json.dumps(row) + "\n" for row in measured))
        rows += measured
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(one_line(main))
