"""Speed and quality of the standard ALPHA-g reconstruction on simulated annihilations, one process.

    python -m benchmarks.physics.helix_fit --events 1000 --repeats 5 [--sample events.npz] [--out results.jsonl]

A sample is a file that `benchmarks.physics.geant4_spacepoints` reads; without one, events of the built-in simulation are
made first. The rate counts processor time, so that it is a rate per core.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.physics.geant4_spacepoints import read_sample
from benchmarks.process import command
from benchmarks.rows import add_rows
from jaxhep.alpha_g.helix_fit import reconstruct
from jaxhep.alpha_g.peak import fwhm


def padded(columns: dict[str, np.ndarray], events: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points (N, P, 3) mm, count (N,) and vertices (N, 3) mm of the first events of columns."""
    count = columns["count"][:events]
    points = np.zeros((len(count), count.max(), 3))
    for row, start, number in zip(points, np.cumsum(count) - count, count, strict=True):
        row[:number] = columns["points"][start : start + number]
    return points, count, columns["vertex"][:events]


def simulated(events: int) -> dict[str, np.ndarray]:
    """Return annihilations of the built-in simulation."""
    from jaxhep.alpha_g.simulation import simulate

    return simulate("annihilation", events, seed=1)


def main(argv: list[str] | None = None) -> None:
    """Measure, print, and with --out append one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5, help="the median of these is quoted, and the best")
    parser.add_argument("--sample", type=Path, help="events to reconstruct instead of simulated ones")
    parser.add_argument("--out", type=Path, help="file to which the result is appended as a JSON line")
    arguments = parser.parse_args(argv)
    columns = read_sample(arguments.sample) if arguments.sample else simulated(arguments.events)
    points, count, vertex = padded(columns, arguments.events)
    rates = []
    for _ in range(arguments.repeats):
        started = time.process_time()
        found = reconstruct(points, count)
        rates.append(len(points) / (time.process_time() - started))
    seen = np.isfinite(found.vertex).all(axis=1)
    residual = (found.vertex - vertex)[seen]
    width = fwhm(residual[:, 2])
    result = {
        "benchmark": "helix_fit",
        "events": len(points),
        "points_median": float(np.median(count)),
        "repeats": arguments.repeats,
        "events_per_processor_s": round(statistics.median(rates)),
        "best_events_per_processor_s": round(max(rates)),
        "with_vertex": round(float(seen.mean()), 4),
        "fwhm_z_mm": width and round(width, 2),
        "median_absolute_xyz_mm": np.median(np.abs(residual), axis=0).round(2).tolist(),
        "cpu_cores": os.cpu_count(),
        "versions": machine.versions(),
        **machine.stamp(),
    }
    print(json.dumps(result, indent=2))
    add_rows(arguments.out, [result])


if __name__ == "__main__":
    command(main)
