"""python -m jaxhep.evaluate: run folder -> scores, metrics.json, plots.

    python -m jaxhep.evaluate --workdir runs/cvt
    python -m jaxhep.evaluate --workdir runs/cvt --electrons 'a/*.root' --protons 'b/*.root' --out other/
    python -m jaxhep.evaluate --compare runs/cvt runs/resnet18 --out cmp/

The first repeats what `train` does at its end. The second scores every event of other files once and gives
efficiency and rejection at the threshold set on these files and at the one set in training. The third draws several
runs, or one run on several samples, on one plot, with the ratio of rejections to the first.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from jaxhep.columns import write_json
from jaxhep.config import from_plain
from jaxhep.errors import BadInput, one_line
from jaxhep.manifest import read_manifest
from jaxhep.metrics import at_efficiency, classification, ratio
from jaxhep.report import describe, draw, note_of, report

# Reference classifiers whose scores the experiment's files may hold: column, name, sign that makes electrons high,
# and the published cut on the signed score where there is one.
REFERENCES = (("ecal3dbdt", "AMS BDT", 1.0, None), ("EcalEMlhd", "AMS likelihood", -1.0, -4.0))


def evaluate(
    workdir: Path, electrons: str = "", protons: str = "", files: str = "", out: Path | None = None, quiet: bool = False
) -> dict[str, Any]:
    """Score the run's test split, or every event of the files named, and write scores, metrics.json and plots.

    Returns the metrics. Raises BadInput for a folder that is no trained run, or data that cannot be read.
    """
    from jaxhep.prepare import prepare, prepare_for_scoring

    config = read_config(workdir)
    elsewhere = bool(electrons or protons or files)
    if elsewhere and out is None:
        raise BadInput("--electrons, --protons and --files want --out: a folder for the results")
    trained = None
    if elsewhere:
        named = {"electrons": electrons, "protons": protons, "files": files}
        if files and (electrons or protons):
            raise BadInput("--files are labelled by the TRD cuts: name them, or --electrons and --protons")
        trained = read_metrics(workdir / "evaluation")
        folder = prepare_for_scoring(config, named, Path(config.data.folder), quiet)
    else:
        folder = prepare(config, quiet)
    out = out or workdir / "evaluation"
    facts = json.loads((workdir / "provenance.json").read_text())
    manifest = read_manifest(folder)
    if not elsewhere and manifest["content_hash"] != facts["data_hash"]:
        raise BadInput(f"{folder}: these data are not those that {workdir} was trained on (content hash differs)")
    scores, facts_of_scoring = score(config, workdir, folder, 0 if elsewhere else config.data.limit.test, facts)
    ranges = {name: tuple(energies) for name, energies in facts["ranges"].items()}
    metrics = measure(scores, config, ranges, manifest, trained) | {"scored": facts_of_scoring}
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "scores.npz", **scores)  # type: ignore[arg-type]
    write_json(out / "metrics.json", metrics)
    draw(metrics, scores, config.model.name, out)
    if not quiet:
        report(metrics, out)
    return metrics


def score(
    config: Any, workdir: Path, folder: Path, limit: int, facts: dict
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the columns needed for metrics with the network's `logit`, for every event of the test split once."""
    import time

    from jaxhep import compiled, data, network, parallel, steps
    from jaxhep.checkpoint import Checkpoints, shapes

    compiled.keep()
    split = data.Split(folder, "test", limit)
    available = parallel.local_devices()
    devices = available[: config.parallel.devices or None]
    batch_size = -(-config.evaluate.batch_size // len(devices)) * len(devices)
    model = network.build_model(config)
    inputs, loss = network.build_inputs(config, facts["scaling"]), network.build_loss(facts["electron_weight"])
    optimiser = steps.build_optimiser(config.train.weight_decay, config.train.clip_norm)
    example = network.example_batch(config, 1)
    run = parallel.build_parallel(
        "jit", devices, lambda state, batch: (state, {}), steps.make_eval_step(model, inputs, loss)
    )

    def make_state() -> steps.State:
        return steps.init_state(model, optimiser, inputs, example, config.seed, config.train.average_decay > 0)

    checkpoints = Checkpoints(workdir, read_only=True)
    state, step = checkpoints.restore_best(shapes(make_state, run.sharding))
    checkpoints.close()
    logits: list[np.ndarray] = []
    began, pending = time.perf_counter(), None
    for batch in data.in_order(split, batch_size, network.column_names(config)):
        found = run.evaluate(state, batch)["logits"]
        if pending is not None:
            logits.append(np.asarray(pending))
        pending = found
    if pending is not None:
        logits.append(np.asarray(pending))
    seconds = time.perf_counter() - began
    columns = {name: split.column(name) for name in split.columns if name not in ("cells", "track")}
    columns["logit"] = np.concatenate(logits)[: len(split)] if logits else np.zeros(0, np.float32)
    wrong = np.flatnonzero(~np.isfinite(columns["logit"]))
    if len(wrong):
        raise FloatingPointError(
            f"{folder}: the network's score of test event {wrong[0]} is not finite ({len(wrong)} such events)"
        )
    return columns, {
        "events": len(split),
        "events_per_second": len(split) / seconds,
        "checkpoint_step": step,
        "data_hash": read_manifest(folder)["content_hash"],
    }


def measure(
    scores: dict[str, np.ndarray], config: Any, ranges: dict, manifest: dict, trained: dict | None
) -> dict[str, Any]:
    """Return metrics.json: every method on every range of energies, on the same events."""
    chosen = config.evaluate
    energy = scores[manifest["energy"]]
    methods: list[tuple[str, np.ndarray, float | None]] = [(config.model.name, scores["logit"], 0.0)]
    for column, name, sign, cut in REFERENCES:
        if column in scores:
            value = sign * scores[column].astype(np.float64)
            # An event without a reference score cannot be selected by it: it ranks below every other.
            lowest = value[np.isfinite(value)].min(initial=0.0)
            methods.append((name, np.where(np.isfinite(value), value, lowest - 1), cut))
    weights = scores["weight"] if chosen.weighted and "weight" in scores else np.ones(len(energy))
    result: dict[str, Any] = {
        "task": "classification",
        "confidence": chosen.confidence,
        "efficiency": chosen.efficiency,
        "weighted": bool(chosen.weighted and "weight" in scores),
        "simulation": manifest["simulation"],
        "energy": manifest["energy"],
        "ranges": {},
    }
    counted = np.zeros(len(energy), bool)
    last = max(high for _, high in ranges.values())
    for name, (low, high) in ranges.items():
        inside = (energy >= low) & ((energy < high) | ((energy == high) & (high == last)))
        counted |= inside
        edges = tuple(sorted({low, high} | {edge for edge in chosen.energy_edges if low < edge < high}))
        content: dict[str, Any] = {"energy_gev": [low, high], "events": int(inside.sum()), "methods": {}}
        for method, values, cut in methods:
            known = trained["ranges"].get(name, {"methods": {}})["methods"].get(method) if trained else None
            content["methods"][method] = classification(
                values[inside],
                scores["label"][inside],
                scores["en3d"][inside],
                weights[inside],
                edges,
                chosen.efficiency,
                chosen.confidence,
                cut,
                known,
            )
        result["ranges"][name] = content
    result["events_outside_ranges"] = int(np.sum(~counted))
    return result


def compare(workdirs: list[Path], out: Path) -> dict[str, Any]:
    """Draw the evaluations of several runs on one plot and write the ratios to the first run's rejection.

    Raises BadInput where a folder has no evaluation or the ranges differ.
    """
    from jaxhep import plots

    found = {}
    for workdir in workdirs:
        name = workdir.name if workdir.name not in found else str(workdir)
        own = workdir / "evaluation"
        found[name] = read_metrics(own if own.is_dir() else workdir)  # a run, or the --out of an evaluation
    reference, first = next(iter(found.items()))
    for name, metrics in found.items():
        if metrics["ranges"].keys() != first["ranges"].keys():
            raise BadInput(
                f"{name}: tested in {', '.join(metrics['ranges'])}, {reference} in {', '.join(first['ranges'])}: not comparable"
            )
    hashes = {metrics["scored"]["data_hash"] for metrics in found.values()}
    merged: dict[str, Any] = {
        "task": "classification",
        "confidence": first["confidence"],
        "reference": reference,
        "same_events": len(hashes) == 1,
        "ranges": {},
    }
    out.mkdir(parents=True, exist_ok=True)
    lines = [
        f"| range | run | rejection at {100 * first['efficiency']:g} % | ratio {reference} / run |",
        "|---|---|---|---|",
    ]
    for range_name in first["ranges"]:
        methods = {
            name: next(iter(metrics["ranges"][range_name]["methods"].values())) for name, metrics in found.items()
        }
        points = {name: at_efficiency(method, first["efficiency"]) for name, method in methods.items()}
        first_point = points[reference]
        ratios = {name: ratio(first_point, point) if first_point and point else None for name, point in points.items()}
        merged["ranges"][range_name] = {
            "methods": methods,
            "ratio_to_reference": ratios,
            "events": first["ranges"][range_name]["events"],
        }
        plots.rejection_against_efficiency(
            methods,
            range_name,
            note_of(first),
            out / f"rejection_vs_efficiency_{range_name.replace(' ', '_')}",
        )
        for name, point in points.items():
            value = ratios[name]
            text = (
                f"{value['ratio']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
                if value and value["ratio"]
                else "limit only"
            )
            lines.append(f"| {range_name} | {name} | {describe(point) if point else 'no electrons'} | {text} |")
    title, energy_plot = "threshold set in each bin", out / "rejection_vs_energy"
    plots.rejection_against_energy(merged["ranges"], first["efficiency"], title, note_of(first), energy_plot, False)
    write_json(out / "comparison.json", merged)
    (out / "comparison.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    if len(hashes) > 1:
        print("note: the runs were tested on different events; ratios carry both samples' fluctuations")
    return merged


def read_config(workdir: Path) -> Any:
    """Return the config of a run. Raises BadInput where the folder is none."""
    try:
        return from_plain(json.loads((workdir / "config.json").read_text()))
    except (OSError, json.JSONDecodeError) as error:
        raise BadInput(f"{workdir}: not a run folder, no readable config.json ({type(error).__name__})") from None


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return the metrics of an evaluation. Raises BadInput where there are none."""
    try:
        return json.loads((folder / "metrics.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise BadInput(
            f"{folder}: no readable metrics.json ({type(error).__name__}); run python -m jaxhep.evaluate --workdir on it first"
        ) from None


def main(argv: list[str] | None = None) -> int:
    """Command line of the verb."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxhep.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--workdir", type=Path, help="run folder")
    what.add_argument(
        "--compare", type=Path, nargs="+", metavar="WORKDIR", help="run folders or results (--out), the reference first"
    )
    parser.add_argument("--electrons", default="", help="other files: paths, globs or folders, separated by commas")
    parser.add_argument("--protons", default="")
    parser.add_argument("--files", default="", help="flight data, labelled by the cuts of the run's config")
    parser.add_argument("--out", type=Path, help="folder for the results (default: evaluation/ in the run folder)")
    arguments = parser.parse_args(argv)
    if arguments.compare:
        if arguments.out is None:
            parser.error("--compare wants --out")
        compare(arguments.compare, arguments.out)
    else:
        evaluate(arguments.workdir, arguments.electrons, arguments.protons, arguments.files, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(one_line(main))
