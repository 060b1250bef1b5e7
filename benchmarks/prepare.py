"""python -m benchmarks.prepare: events per second of ROOT decoding and of preparing columns, alternating in one run.

    python -m benchmarks.prepare --electrons el.root --protons pr.root --out benchmarks/results/prepare.jsonl

Without files, events are simulated first. Decoding is what uproot alone needs for the same branches of the same files,
in chunks that fit the cache; preparing is everything from ROOT to finished columns. Rates are per second of wall time
and per second of processor time, so that a rate per core can be read whatever else the machine does.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import uproot

from jaxhep import log, prepare, simulate
from jaxhep.ams_ecal import features, samples
from jaxhep.config import load_config
from jaxhep.errors import one_line
from jaxhep.manifest import Source


def decode(files: list[Path | str], branches: list[str]) -> int:
    """Read the branches with uproot alone; return the number of events."""
    events = 0
    for path in files:
        for chunk in uproot.iterate({str(path): "t1"}, branches, step_size=2048, library="np"):  # type: ignore[attr-defined]
            events += len(chunk[branches[0]])
    return events


def timed(function, *arguments) -> tuple[float, float, object]:
    """Return seconds of wall time and of processor time, and the result."""
    wall, processor = time.perf_counter(), time.process_time()
    result = function(*arguments)
    return time.perf_counter() - wall, time.process_time() - processor, result


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prepare", description=__doc__)
    parser.add_argument("--config", default="configs/cnn.py")
    parser.add_argument("--electrons", type=int, default=30_000)
    parser.add_argument("--protons", type=int, default=30_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--every-event", action="store_true", help="keep every event instead of the recipe's cuts")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config)
    config.simulation.update({"electrons": arguments.electrons, "protons": arguments.protons})
    files = simulate.simulated_files(config)
    sources: list[Source] = [
        (path, label) for species, label in (("electron", 1), ("proton", 0)) for path in files[species]
    ]
    selection = samples.build_selection(config)
    if arguments.every_event:
        selection = samples.scoring_selection(config, {"files": ""})
    branches = [features.CELL_BRANCH, "en3d", "mom", "run", "event", "weight"]
    place = Path(tempfile.mkdtemp(prefix="jaxhep-prepare-"))
    rates: dict[str, list[float]] = {"decode": [], "prepare": [], "decode_per_core": [], "prepare_per_core": []}
    try:
        for repeat in range(arguments.repeats + 1):  # the first is a warm-up
            for name, call in {
                "decode": lambda: decode([path for path, _ in sources], branches),
                "prepare": lambda: prepare.prepare_files(sources, config, selection, place, quiet=True),
            }.items():
                wall, processor, _ = timed(call)
                if repeat:
                    events = arguments.electrons + arguments.protons
                    rates[name].append(events / wall)
                    rates[f"{name}_per_core"].append(events / processor)
            shutil.rmtree(place)
            place.mkdir()
    finally:
        shutil.rmtree(place, ignore_errors=True)
    facts = log.provenance(benchmark="prepare", recipe=config.data.recipe, every_event=arguments.every_event)
    result = facts | {
        "events": arguments.electrons + arguments.protons,
        "events_per_second": {
            name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
            for name, values in rates.items()
        },
        "prepare_over_decode": statistics.median(
            prepared / decoded for prepared, decoded in zip(rates["prepare"], rates["decode"], strict=True)
        ),
    }
    for name, values in result["events_per_second"].items():
        print(f"{name:<18}{values['median']:>10,.0f} events/s ({values['min']:,.0f} to {values['max']:,.0f})")
    print(f"prepare / decode  {result['prepare_over_decode']:.2f} pair by pair")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with open(arguments.out, "a") as file:
            file.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(one_line(main))
