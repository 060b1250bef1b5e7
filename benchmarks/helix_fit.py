"""Speed and quality of the standard ALPHA-g reconstruction on simulated annihilations, one process.

python -m benchmarks.helix_fit --events 1000 --repeats 5 [--sample events.npz] [--out results.jsonl]

A sample is an .npz file with `indptr` (N + 1,), `xyz_tenth_mm` (points, 3) and `vertex_mm` (N, 3); without one, events
of the built-in simulation are made first. The rate counts processor time, so that it is a rate per core.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from jaxhep.alpha_g.helix_fit import reconstruct
from jaxhep.errors import BadInput, one_line

BIN_MM, REACH_MM = 2.0, 50.0  # of the histogram whose width at half maximum is given


def read_sample(path: Path, events: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points (N, P, 3) mm, count (N,) and vertices (N, 3) mm of the first events of a file."""
    try:
        with np.load(path) as sample:
            starts, flat, vertex = sample["indptr"], sample["xyz_tenth_mm"] / 10, sample["vertex_mm"]
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{path}: not a sample of spacepoints ({type(error).__name__}: {error})") from None
    count = np.diff(starts)[:events]
    points = np.zeros((len(count), count.max(), 3))
    for row, start, number in zip(points, starts, count, strict=False):
        row[:number] = flat[start : start + number]
    return points, count, vertex[:events]


def simulated(events: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the same of annihilations of the built-in simulation."""
    from jaxhep.alpha_g.simulation import simulate

    columns = simulate("annihilation", events, seed=1)
    count = columns["count"]
    points = np.zeros((events, count.max(), 3))
    first = np.cumsum(count) - count
    for row, start, number in zip(points, first, count, strict=True):
        row[:number] = columns["points"][start : start + number]
    return points, count, columns["vertex"]


def width_at_half_maximum(residual: np.ndarray) -> float:
    """Return the full width at half maximum in mm, from a histogram of 2 mm bins, linear between bin centres."""
    counts, edges = np.histogram(residual, np.arange(-REACH_MM, REACH_MM + BIN_MM / 2, BIN_MM))
    centres, half = (edges[1:] + edges[:-1]) / 2, counts.max() / 2
    above = np.flatnonzero(counts > half)
    first, last = above[0], above[-1]
    if first == 0 or last == len(counts) - 1:
        return float("nan")
    low = np.interp(half, counts[first - 1 : first + 1], centres[first - 1 : first + 1])
    high = np.interp(half, counts[last : last + 2][::-1], centres[last : last + 2][::-1])
    return float(high - low)


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and with --out append one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.helix_fit", description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5, help="the median of these is quoted, and the best")
    parser.add_argument("--sample", type=Path, help="events to reconstruct instead of simulated ones")
    parser.add_argument("--out", type=Path, help="file to which the result is appended as a JSON line")
    arguments = parser.parse_args(argv)
    points, count, vertex = (
        read_sample(arguments.sample, arguments.events) if arguments.sample else simulated(arguments.events)
    )
    rates = []
    for _ in range(arguments.repeats):
        started = time.process_time()
        found = reconstruct(points, count)
        rates.append(len(points) / (time.process_time() - started))
    seen = np.isfinite(found.vertex).all(axis=1)
    residual = (found.vertex - vertex)[seen]
    result = {
        "benchmark": "helix_fit",
        "events": len(points),
        "points_median": float(np.median(count)),
        "repeats": arguments.repeats,
        "events_per_processor_s": round(statistics.median(rates)),
        "best_events_per_processor_s": round(max(rates)),
        "with_vertex": round(float(seen.mean()), 4),
        "fwhm_z_mm": round(width_at_half_maximum(residual[:, 2]), 2),
        "median_absolute_xyz_mm": np.median(np.abs(residual), axis=0).round(2).tolist(),
        "cpu_cores": os.cpu_count(),
        "versions": {"numpy": np.__version__, "python": platform.python_version()},
        "date": datetime.date.today().isoformat(),
    }
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with arguments.out.open("a") as file:
            file.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(one_line(main))
