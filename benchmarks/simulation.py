"""Speed of the built-in simulations: events per second and species, without writing files.

python -m benchmarks.simulation [--experiment alpha_g] --events 20000 --repeats 5 [--out results.jsonl]
"""

import argparse
import importlib
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax

from benchmarks import machine
from benchmarks.process import command
from benchmarks.rows import add_rows

EXPERIMENTS = ("ams_ecal", "alpha_g")


def measure(iterate: Callable, species: str, events: int, repeats: int) -> dict[str, float]:
    """Return the seconds until the first event (compilation) and the median events/s, wall and process time."""
    started = time.perf_counter()
    next(iterate(species, 1, seed=0))
    compilation = time.perf_counter() - started
    wall, processor = [], []
    for repeat in range(repeats):
        started, processor_started = time.perf_counter(), time.process_time()
        for _ in iterate(species, events, seed=1 + repeat):
            pass
        wall.append(events / (time.perf_counter() - started))
        processor.append(events / (time.process_time() - processor_started))
    return {
        "compilation_s": round(compilation, 2),
        "events_per_s": round(statistics.median(wall)),
        "events_per_processor_s": round(statistics.median(processor)),
    }


def main(argv: list[str] | None = None) -> None:
    """Measure, print, and with --out append one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", choices=EXPERIMENTS, default="ams_ecal", help="whose simulation is timed")
    parser.add_argument("--events", type=int, default=20000, help="events per repeat and species")
    parser.add_argument("--repeats", type=int, default=5, help="the median of these is quoted")
    parser.add_argument("--out", type=Path, help="file to which the result is appended as a JSON line")
    arguments = parser.parse_args(argv)
    simulation = importlib.import_module(f"jaxhep.{arguments.experiment}.simulation")
    result = {
        "benchmark": f"{arguments.experiment}_simulation",
        "events": arguments.events,
        "repeats": arguments.repeats,
        "device": jax.devices()[0].device_kind,
        "devices": len(jax.devices()),
        "cpu_cores": os.cpu_count(),
        "versions": machine.versions(),
        **machine.stamp(),
    }
    for species in simulation.SPECIES:
        result[species] = measure(simulation.iterate, species, arguments.events, arguments.repeats)
    print(json.dumps(result, indent=2))
    add_rows(arguments.out, [result])


if __name__ == "__main__":
    command(main)
