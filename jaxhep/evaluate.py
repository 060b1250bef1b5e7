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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxhep.columns import write_json
from jaxhep.config import assign, from_plain
from jaxhep.errors import BadInput, one_line
from jaxhep.experiments import part_of
from jaxhep.huge_pages import restart_with_huge_pages
from jaxhep.manifest import read_manifest


def evaluate(
    workdir: Path,
    electrons: str = "",
    protons: str = "",
    files: str = "",
    out: Path | None = None,
    quiet: bool = False,
    assignments: Sequence[str] = (),
) -> dict[str, Any]:
    """Score the run's test split, or every event of the files named, and write scores, metrics.json and plots.

    `assignments` (NAME=VALUE) change fields of the run's config.evaluate and config.data. Returns the metrics. Raises
    BadInput for a folder that is no trained run, or data that cannot be read.
    """
    from jaxhep.prepare import prepare, prepare_for_scoring

    config = read_config(workdir)
    evaluation = part_of(config, "evaluation")
    elsewhere = bool(electrons or protons or files)
    if elsewhere and "vertex_csv" in config.evaluate:
        config.evaluate.vertex_csv = ""  # serial numbers are those of the run's own files
    for assignment in assignments:
        if not assignment.startswith(("evaluate.", "data.")):
            raise BadInput(f"--set {assignment}: wanted a field of evaluate or data, as evaluate.confidence=0.9")
        assign(config, assignment)
    evaluation.check(config)
    if elsewhere and out is None:
        raise BadInput("--electrons, --protons and --files want --out: a folder for the results")
    trained = None
    if elsewhere:
        named = {"electrons": electrons, "protons": protons, "files": files}
        trained = read_metrics(workdir / "evaluation")
        folder = prepare_for_scoring(config, named, Path(config.data.folder), quiet)
    else:
        folder = prepare(config, quiet)
    out = out or workdir / "evaluation"
    facts = json.loads((workdir / "provenance.json").read_text())
    manifest = read_manifest(folder)
    if not elsewhere and manifest["content_hash"] != facts["data_hash"]:
        raise BadInput(f"{folder}: these data are not those that {workdir} was trained on (content hash differs)")
    limit = 0 if elsewhere else config.data.limit.test
    columns, facts_of_scoring = score(config, workdir, folder, limit, facts, quiet)
    metrics = evaluation.measure(columns, config, facts, manifest, trained) | {"scored": facts_of_scoring}
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "scores.npz", **columns)  # type: ignore[arg-type]
    write_json(out / "metrics.json", metrics)
    evaluation.draw(metrics, columns, config, out)
    if not quiet:
        evaluation.report(metrics, out)
    return metrics


def score(
    config: Any, workdir: Path, folder: Path, limit: int, facts: dict, quiet: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the columns that metrics need with the network's scores, for every event of the test split once."""
    import time

    from jaxhep import compiled, data, ensemble, network, parallel
    from jaxhep.checkpoint import Checkpoints, shapes

    compiled.keep()
    evaluation = part_of(config, "evaluation")
    split = data.Split(folder, "test", limit)
    names = part_of(config, "inputs").column_names(config)
    available = parallel.local_devices()
    devices = available[: config.parallel.devices or None]
    batch_size = -(-config.evaluate.batch_size // len(devices)) * len(devices)
    seeds = ensemble.seeds(config)
    net = network.build_network(config, facts["scaling"], facts)
    eval_step = ensemble.score_together(net.eval_step(), len(seeds), config.ensemble.group)
    run = parallel.build_parallel(
        "jit", devices, lambda state, batch: (state, {}), eval_step, len(seeds), config.ensemble.group
    )
    checkpoints = Checkpoints(workdir, read_only=True)
    state, step = checkpoints.restore_best(shapes(ensemble.stack(net.init, seeds), run.sharding))
    checkpoints.close()
    parts: list[np.ndarray] = []
    began, pending = time.perf_counter(), None
    for batch in data.in_order(split, batch_size, names):
        found = run.evaluate(state, batch)["outputs"]
        if pending is not None:
            parts.append(np.asarray(pending))
        pending = found
    if pending is None:
        raise BadInput(f"{folder}: no events to score")
    parts.append(np.asarray(pending))
    seconds = time.perf_counter() - began
    events = np.concatenate(parts, axis=min(len(seeds) - 1, 1))
    outputs = events[: len(split)] if len(seeds) == 1 else events[:, : len(split)]
    wrong = np.argwhere(~np.isfinite(outputs))
    if len(wrong):
        event = wrong[0][0 if len(seeds) == 1 else 1]
        raise FloatingPointError(
            f"{folder}: the network's score of test event {event} is not finite ({len(wrong)} such values)"
        )
    columns = {name: split.column(name) for name in split.columns if name not in evaluation.HEAVY}
    columns |= evaluation.score_columns(config, outputs)
    evaluation.add_references(config, columns, split, folder, quiet)
    return columns, {
        "events": len(split),
        "events_per_second": len(split) / seconds,
        "checkpoint_step": step,
        "data_hash": read_manifest(folder)["content_hash"],
    }


def compare(workdirs: list[Path], out: Path) -> dict[str, Any]:
    """Draw the evaluations of several runs on one plot and write their figures side by side.

    Raises BadInput where a folder has no evaluation, or the tasks or ranges differ.
    """
    found, folders = {}, {}
    for workdir in workdirs:
        name = workdir.name if workdir.name not in found else str(workdir)
        own = workdir / "evaluation"
        folders[name] = own if own.is_dir() else workdir  # a run, or the --out of an evaluation
        found[name] = read_metrics(folders[name])
    reference, first = next(iter(found.items()))
    for name, metrics in found.items():
        if metrics["task"] != first["task"]:
            raise BadInput(f"{name}: task {metrics['task']}, {reference}: task {first['task']}: not comparable")
        if metrics["ranges"].keys() != first["ranges"].keys():
            raise BadInput(
                f"{name}: tested in {', '.join(metrics['ranges'])}, {reference} in {', '.join(first['ranges'])}: not comparable"
            )
    same_events = len({metrics["scored"]["data_hash"] for metrics in found.values()}) == 1
    out.mkdir(parents=True, exist_ok=True)
    merged = part_of(first.get("experiment", "ams_ecal"), "evaluation").compare(found, folders, same_events, out)
    if not same_events:
        print("note: the runs were tested on different events; differences carry both samples' fluctuations")
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
    parser.add_argument(
        "--files", default="", help="files of spacepoints; of the calorimeter, flight data labelled by the run's cuts"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a field, as data.unit=m or evaluate.helix_fit=file",
    )
    parser.add_argument("--out", type=Path, help="folder for the results (default: evaluation/ in the run folder)")
    arguments = parser.parse_args(argv)
    if arguments.compare:
        if arguments.out is None:
            parser.error("--compare wants --out")
        compare(arguments.compare, arguments.out)
    else:
        named = (arguments.electrons, arguments.protons, arguments.files)
        evaluate(arguments.workdir, *named, arguments.out, assignments=arguments.set)
    return 0


if __name__ == "__main__":
    restart_with_huge_pages()
    sys.exit(one_line(main))
