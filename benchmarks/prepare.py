"""Events per second of ROOT decoding and of preparing columns, alternating in one run.

    python -m benchmarks.prepare --out benchmarks/results/prepare.jsonl

Events are simulated first. Decoding is what uproot alone needs for the same branches of the same files,
in chunks that fit the cache; preparing is everything from ROOT to finished columns. Rates are per second of wall time
and per second of processor time, so that a rate per core can be read whatever else the machine does.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uproot

from benchmarks.events import ROOT_BRANCHES
from benchmarks.process import command
from benchmarks.rows import add_rows
from jaxhep import log, prepared, simulated
from jaxhep.ams_ecal import samples
from jaxhep.config import load_config
from jaxhep.manifest import Source


def decode(files: Sequence[Path | str], branches: Sequence[str]) -> int:
    """Read the branches with uproot alone; return the number of events."""
    events = 0
    for path in files:
        for chunk in uproot.iterate({str(path): "t1"}, branches, step_size=2048, library="np"):  # type: ignore[attr-defined]
            events += len(chunk[branches[0]])
    return events


def main(argv: list[str] | None = None) -> None:
    """Measure, print, and with --out append one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/cnn.py")
    parser.add_argument("--electrons", type=int, default=30_000)
    parser.add_argument("--protons", type=int, default=30_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--every-event", action="store_true", help="keep every event instead of the recipe's cuts")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config)
    config.simulation.update({"electrons": arguments.electrons, "protons": arguments.protons})
    files, events = simulated.simulated_files(config), arguments.electrons + arguments.protons
    sources: list[Source] = [
        (path, label) for species, label in (("electron", 1), ("proton", 0)) for path in files[species]
    ]
    selection = samples.build_selection(config)
    if arguments.every_event:
        selection = samples.scoring_selection(config)
    rates: dict[str, list[float]] = {"decode": [], "prepare": [], "decode_per_core": [], "prepare_per_core": []}
    for repeat in range(arguments.repeats + 1):  # the first is a warm-up
        with tempfile.TemporaryDirectory(prefix="jaxhep-prepare-") as place:
            config.data.folder = place
            for name, call in {
                "decode": lambda: decode([path for path, _ in sources], ROOT_BRANCHES),
                "prepare": lambda: prepared.prepare_files(sources, config, selection, quiet=True),
            }.items():
                wall, processor = time.perf_counter(), time.process_time()
                call()
                if repeat:
                    rates[name].append(events / (time.perf_counter() - wall))
                    rates[f"{name}_per_core"].append(events / (time.process_time() - processor))
    facts = log.provenance(benchmark="prepare", recipe=config.data.recipe, every_event=arguments.every_event)
    pairs = zip(rates["prepare"], rates["decode"], strict=True)
    result = facts | {
        "events": events,
        "events_per_second": {
            name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
            for name, values in rates.items()
        },
        "prepare_over_decode": statistics.median(prepared / decoded for prepared, decoded in pairs),
    }
    for name, values in result["events_per_second"].items():
        print(f"{name:<18}{values['median']:>10,.0f} events/s ({values['min']:,.0f} to {values['max']:,.0f})")
    print(f"prepare / decode  {result['prepare_over_decode']:.2f} pair by pair")
    add_rows(arguments.out, [result])


if __name__ == "__main__":
    command(main)
