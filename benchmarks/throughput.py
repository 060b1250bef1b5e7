"""Events per second of each network in training and inference: jaxhep against the PyTorch baseline, alternating.

python -m benchmarks.throughput --models mlp,cnn --batch 128,1024 --out benchmarks/results/throughput.jsonl

A cell is a network, a batch and a mode. All variants of both frameworks stay alive in processes of their own and are
timed in turn, round after round, so that a busy machine disturbs all alike. Cells already in --out are not repeated.
"""

import argparse
import datetime
import importlib.util
import json
import os
import selectors
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.throughput_table import ratio_row, read_rows, table

BURST_S = 0.4  # one timing takes about this long, or one dispatch where that is longer
SMALL = ("mlp", "cnn")  # networks whose steps are short against their dispatch


def variants(model: str, mode: str, framework: str, on_gpu: bool) -> list[dict]:
    """The variants of one cell for one framework, each a dict of options with its `variant` name."""
    dtypes = ("float32", "bfloat16") if on_gpu else ("float32",)
    rows = []
    if framework == "jax":
        chunk = 8 if model == "cvt" and not on_gpu else 0
        many = 20 if on_gpu or model == "mlp" else 4
        for dtype in dtypes:
            for steps in (1, many) if model in SMALL and mode == "train" else (1,):
                name = f"{dtype}, {steps} step{'s' * (steps > 1)} per dispatch" + f", attention chunk {chunk}" * bool(
                    chunk
                )
                formulation = "auto" if on_gpu or steps > 1 else "cpu one step"
                row = {"variant": name, "dtype": dtype, "steps_per_dispatch": steps}
                rows.append({**row, "attention_chunk": chunk, "formulation": formulation})
        return rows
    forms = [
        ("eager", False, None),
        ("channels last", True, None),
        ("channels last, compiled", True, "default"),
    ]
    if on_gpu:
        forms.append(("channels last, compiled with CUDA graphs", True, "reduce-overhead"))
    if model == "mlp":  # no convolutions: channels last means nothing
        forms = [(name.removeprefix("channels last, "), False, how) for name, last, how in forms if how or not last]
    elif on_gpu:
        forms = forms[1:]  # all variants share the GPU's memory, so without the one that never wins
    if not on_gpu:
        # Threads that spin while they wait are best on an idle machine, and several times slower on a busy one.
        forms = [forms[0]] + [(f"{name}, passive waiting", last, how) for name, last, how in forms]
    for dtype in dtypes:
        for name, last, how in forms:
            if on_gpu and dtype == "float32" and how:
                continue  # PyTorch's best on a GPU is half precision; eager float32 stays for reference
            row = {"variant": f"{dtype}, {name}", "dtype": dtype, "channels_last": last, "compile_mode": how}
            rows.append({**row, "steps_per_dispatch": 1})
    return rows


class Worker:
    """One variant in a process of its own; `failed` says why it gave up, or is empty."""

    def __init__(self, cell: dict):
        self.cell, self.failed, self.peak_bytes = cell, "", 0
        self.setup: dict = {}
        self.seconds: list[float] = []
        command = [sys.executable, "-m", "benchmarks.throughput_worker", json.dumps(cell)]
        environment = {
            **os.environ,
            **({"OMP_WAIT_POLICY": "PASSIVE"} if "passive" in cell["variant"] else {}),
        }
        pipes: dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.DEVNULL,
        }
        self.process: Any = subprocess.Popen(command, **pipes, text=True, env=environment)

    def reply(self, limit_s: float, memory_bytes: float) -> dict | None:
        """The next reply, or None after stopping the process for running past a limit or for failing."""
        problem = self.wait(limit_s, memory_bytes)
        if not problem:
            line = self.process.stdout.readline()
            if line:
                answer = json.loads(line)
                if "failed" not in answer:
                    return answer
                problem = answer["failed"]
            else:
                problem = f"process ended with {self.process.wait()} (out of memory, if -9)"
        self.stop(problem)
        return None

    def wait(self, limit_s: float, memory_bytes: float) -> str:
        """Wait for something to read; the reason to give up, or nothing."""
        selector = selectors.DefaultSelector()
        selector.register(self.process.stdout, selectors.EVENT_READ)
        deadline = time.monotonic() + limit_s
        while not selector.select(timeout=0.1):
            if time.monotonic() > deadline:
                return f"no answer within {limit_s:.3g} s, what was left of the budget"
            if memory_bytes and resident_bytes(self.process.pid) > memory_bytes:
                return f"needs more than {memory_bytes / 2**30:g} GiB of memory"
        return ""

    def start(self, limit_s: float, memory_bytes: float) -> None:
        """Wait for the set-up and choose how many dispatches make one timing."""
        answer = self.reply(limit_s, memory_bytes)
        if answer is not None:
            self.setup = answer
            self.dispatches = max(1, round(BURST_S / max(answer["dispatch_s"], 1e-6)))

    def measure(self, limit_s: float, memory_bytes: float) -> None:
        """Take one timing."""
        self.process.stdin.write(f"{self.dispatches}\n")
        self.process.stdin.flush()
        answer = self.reply(limit_s, memory_bytes)
        if answer is not None:
            self.seconds.append(answer["seconds"])
            self.peak_bytes = answer["peak_bytes"]

    def stop(self, reason: str = "") -> None:
        """End the process; the first reason given stays."""
        self.failed = self.failed or reason
        self.process.kill()
        self.process.wait()

    def rates(self) -> list[float]:
        """Events per second of each round."""
        events = self.dispatches * self.cell["steps_per_dispatch"] * self.cell["batch"]
        return [events / seconds for seconds in self.seconds]


def resident_bytes(pid: int) -> int:
    """Resident memory of a process now; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def run_cell(
    cell: dict, frameworks: list[str], on_gpu: bool, repeats: int, budget_s: float, memory_bytes: float
) -> list[dict]:
    """Measure one cell: a row per variant and one row with the ratio of the best of each framework, round by round."""
    todo = {name: variants(cell["model"], cell["mode"], name, on_gpu) for name in frameworks}
    workers = []
    for framework, options in todo.items():
        for option in options:
            worker = Worker({**cell, "framework": framework, **option})
            worker.start(budget_s, memory_bytes)
            workers.append(worker)
    # Alternating: one of JAX, one of PyTorch, and so on.
    workers = [worker for pair in in_turn(workers, frameworks) for worker in pair]
    deadline = time.monotonic() + budget_s
    for _ in range(repeats):
        for worker in workers:
            left = deadline - time.monotonic()
            if not worker.failed and left > 0:
                worker.measure(left, memory_bytes)
    rows = []
    for worker in workers:
        worker.stop()
        row = {"kind": "row", **worker.cell, **stamp(), **worker.setup}
        if worker.seconds:
            rates = worker.rates()
            row |= {
                "events_per_s": statistics.median(rates),
                "min": min(rates),
                "max": max(rates),
                "rates": rates,
            }
            row |= {"peak_bytes": worker.peak_bytes, "repeats": len(rates)}
        else:
            row["skipped"] = worker.failed or "the budget ended before its turn"
        rows.append(row)
    return [*rows, ratio_row(cell, rows)]


def in_turn(workers: list, frameworks: list[str]) -> list[list]:
    """Workers in turn by framework: [[first of each], [second of each], ...]."""
    groups = [[worker for worker in workers if worker.cell["framework"] == name] for name in frameworks]
    longest = max(map(len, groups), default=0)
    return [[group[place] for group in groups if place < len(group)] for place in range(longest)]


def stamp() -> dict:
    """Date, commit and machine of a row."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    load = os.getloadavg()[0]
    return {
        "date": now,
        "commit": git.stdout.strip() if git.returncode == 0 else "",
        "cores": os.cpu_count(),
        "load": load,
    }


def nvidia_gpu() -> bool:
    """Whether an NVIDIA GPU is there, asked without loading either framework."""
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True).returncode == 0
    except OSError:
        return False


def main(arguments: list[str] | None = None) -> None:
    """Measure the cells that the file does not hold yet, then print the whole table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mlp,cnn,resnet10,resnet18,cvt")
    parser.add_argument("--batch", default="128,1024")
    parser.add_argument("--frameworks", default="jax,torch")
    parser.add_argument("--modes", default="train,infer")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; cells already in it are not repeated")
    parser.add_argument(
        "--budget", type=float, default=60, help="seconds for each variant's set-up, and for a cell's timings"
    )
    parser.add_argument("--repeats", type=int, default=7, help="rounds, where the budget allows")
    parser.add_argument("--memory", type=float, default=0, help="GiB of host memory that stop a variant; 0: no limit")
    parser.add_argument("--deadline", type=float, default=float("inf"), help="seconds after which no cell is begun")
    options = parser.parse_args(arguments)
    frameworks = options.frameworks.split(",")
    if "torch" in frameworks and importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: measuring JAX alone")
        frameworks.remove("torch")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = read_rows(options.out)
    done = {(row["model"], row["batch"], row["mode"]) for row in rows if row["kind"] == "ratio"}
    began = time.monotonic()
    for model in options.models.split(","):
        for batch in map(int, options.batch.split(",")):
            for mode in options.modes.split(","):
                if (model, batch, mode) in done or time.monotonic() - began > options.deadline:
                    continue
                print(f"{model}, batch {batch}, {mode}", flush=True)
                cell = {"model": model, "batch": batch, "mode": mode}
                found = run_cell(
                    cell, frameworks, nvidia_gpu(), options.repeats, options.budget, options.memory * 2**30
                )
                # One write per cell: an interrupted cell leaves nothing behind and is measured again.
                with options.out.open("a") as out:
                    out.write("".join(json.dumps(row) + "\n" for row in found))
                rows += found
    print(table(rows))


if __name__ == "__main__":
    main()
