"""One variant of one network in its own process: a line with a number on stdin runs that many dispatches.

Started by `benchmarks.throughput`, one process per variant, so that peak memory belongs to one variant and the thread
pools of JAX and PyTorch do not fight. Replies are JSON lines on stdout: first what was set up, then the seconds taken.
B batch, H layers, W cells, C channels, P points.
"""

import importlib
import importlib.metadata
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Prepared(NamedTuple):
    """A variant ready to run."""

    setup: dict  # what the row says of it: device, versions, compile_s
    run: Callable[[int], None]  # runs so many dispatches, and waits for their end
    peak_bytes: Callable[[], int]  # of the device's memory; 0 where the process's own counts
    release: Callable[[], None]  # gives back memory that others may need between two timings


WARM_UP_BELOW_S = 20.0  # on a CPU; beyond, a dispatch warms itself


def showers(batch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sparse random energies (B, 18, 72, 1), falling off from one column per event, and labels (B,)."""
    random = np.random.default_rng(seed)
    distance = np.abs(np.arange(72) - random.uniform(10, 62, (batch, 1, 1)))
    energy = random.exponential(10.0, (batch, 18, 72)) * np.exp(-distance / 2)
    return np.where(energy > 0.3, energy, 0)[..., None].astype(np.float32), (np.arange(batch) % 2).astype(np.float32)


def clouds(batch: int, number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Made-up spacepoints (B, P, 3) in mm between cathode and pads, P the `number`, and vertex positions (B, 1) along z."""
    random = np.random.default_rng(seed)
    vertex = random.uniform(-1000, 1000, (batch, 1))
    radius, angle = random.uniform(109, 190, (batch, number)), random.uniform(-np.pi, np.pi, (batch, number))
    z = vertex + radius * random.normal(0, 0.8, (batch, number))
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], -1)
    centre = z.mean(1, keepdims=True)
    points[..., 2] -= centre
    return points.astype(np.float32), (vertex - centre).astype(np.float32)


def events_of(cell: dict, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels of `batch` events for the network of a cell."""
    return clouds(batch, cell["points"]) if cell["model"] == "pointnet" else showers(batch)


def version(package: str) -> str:
    """Installed version of a package, or nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def serve() -> None:
    """Set up the cell given as JSON in the first argument, then answer requests until stdin closes."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr, not between the replies

    def reply(**values):
        print(json.dumps(values), file=replies, flush=True)

    cell = json.loads(sys.argv[1])
    try:
        module = importlib.import_module(f"benchmarks.throughput_{cell['framework']}")
        setup, run, peak_bytes, release = module.prepare(cell)
        run(1)
        start = time.perf_counter()
        run(1)
        dispatch_s = time.perf_counter() - start
        release()
        reply(**setup, dispatch_s=dispatch_s)
        for line in sys.stdin:
            if cell["platform"] != "cpu" or dispatch_s < WARM_UP_BELOW_S:
                run(1)  # memory taken, caches filled and clocks raised before the timing starts
            start = time.perf_counter()
            run(int(line))
            seconds = time.perf_counter() - start
            # On Linux the high-water mark of resident memory is in KiB.
            peak = peak_bytes() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            release()
            reply(seconds=seconds, peak_bytes=peak)
    except Exception as error:  # any failure of a variant is a result: the driver records it as skipped
        # A compiler's message can be a whole log; what matters stands first, or last.
        text = " ".join(str(error).split())
        text = text if len(text) <= 300 else f"{text[:200]} ... {text[-90:]}"
        reply(failed=f"{type(error).__name__}: {text}")


if __name__ == "__main__":
    serve()
