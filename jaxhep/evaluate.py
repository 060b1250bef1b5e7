"""jaxhep evaluate: run folder -> scores, metrics.json, plots.

    jaxhep evaluate --workdir runs/cvt
    jaxhep evaluate --workdir runs/cvt --config.data.electrons='a/*.root' --config.data.protons='b/*.root' --out other/
    jaxhep evaluate --compare runs/cvt runs/resnet18 --out cmp/

The first repeats what `train` does at its end. The second scores every event of other files once and gives
efficiency and rejection at the threshold set on these files and at the one set in training. The third draws several
runs, or one run on several samples, on one plot, with the ratio of rejections to the first.
"""

if __name__ == "__main__":  # first of all: the imports below take a second
    from jaxhep import stop

    stop.watch()

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxhep import cli, data, processes
from jaxhep.config import assign, flatten, plain
from jaxhep.detectors import detector_of, find_detector
from jaxhep.errors import BadInput
from jaxhep.fields import check_ranges
from jaxhep.files import aside, write_json
from jaxhep.manifest import read_manifest
from jaxhep.prepared import prepare_data, prepare_for_scoring
from jaxhep.run import Run, as_pattern, columns_of, open_run, read_metrics, scores_of

# Fields that change how fast or where something is computed, not what.
HARMLESS = ("parallel.", "evaluate.batch_size", "data.folder")


def evaluate(
    workdir: str | Path,
    out: str | Path | None = None,
    quiet: bool = False,
    assignments: Sequence[str] = (),
    **files: str | Path | Sequence[str | Path],
) -> dict[str, Any]:
    """Score the run's test split, or every event of other files, and write scores, metrics.json and plots.

    `assignments` (NAME=VALUE) change fields of the run's config.evaluate, config.data and config.parallel; `files` are
    those of config.data that name other files, as electrons="a/*.root". Both want `out`: the run's own evaluation is left
    as it is. Returns the metrics. Raises BadInput for a folder that is no trained run, or data that cannot be read.
    """
    run = open_run(workdir)
    detector = detector_of(run.config)
    named = [f"data.{name}={as_pattern(value)}" for name, value in files.items() if value]
    config, elsewhere = with_changes(run, [*assignments, *named])
    detector.evaluation.check(config)
    own, out = run.workdir / "evaluation", None if out is None else Path(out)
    before, after = flatten(plain(run.config)), flatten(plain(config))
    changed = [name for name, value in after.items() if before[name] != value and not name.startswith(HARMLESS)]
    if changed and (out is None or out.resolve() == own.resolve()):
        raise BadInput(f"config.{changed[0]} is not as in the run: name another folder for the results with --out")
    trained = read_metrics(own) if elsewhere else None
    run, folder = run.with_config(config), data_folder(run, config, elsewhere, quiet)
    split = data.Split(folder, "test", 0 if elsewhere else config.data.limit.test)
    if not len(split):
        raise BadInput(f"{folder}: no events to score")
    step = run.trained[3]  # restored before the clock
    began = time.perf_counter()
    try:
        scores = scores_of(run, split)
    except FloatingPointError as error:
        raise FloatingPointError(f"{folder}: {error}") from None
    seconds = time.perf_counter() - began
    if not processes.is_first():
        return {}  # all have scored, one writes
    columns = columns_of(run, split) | scores
    detector.evaluation.add_references(config, columns, split, folder, quiet)
    manifest = read_manifest(folder)
    scored = {
        "events": len(split),
        "events_per_second": len(split) / seconds,
        "checkpoint_step": step,
        "data_hash": manifest["content_hash"],
    }
    metrics = detector.evaluation.measure(columns, config, run.facts, manifest, trained) | {"scored": scored}
    out = out or own
    out.mkdir(parents=True, exist_ok=True)
    with aside(out / "scores.npz") as partial, open(partial, "wb") as file:
        np.savez(file, **columns)  # type: ignore[arg-type]
    write_json(out / "metrics.json", metrics)
    detector.evaluation.draw(metrics, columns, config, out)
    if not quiet:
        print(f"scored with the checkpoint of lowest validation loss, step {step}")
        detector.evaluation.report(metrics, out)
    return metrics


def with_changes(run: Run, assignments: Sequence[str]) -> tuple[ConfigDict, bool]:
    """Return the run's config with some fields set, and whether they name other files. Raises BadInput for other fields."""
    detector, config = detector_of(run.config), run.config.copy_and_resolve_references()
    elsewhere = bool({text.partition("=")[0] for text in assignments} & {f"data.{name}" for name in detector.files})
    if elsewhere:
        config.data.update(dict.fromkeys(detector.files, ""))
        detector.evaluation.other_files(config)
    for text in assignments:
        if not text.startswith(("evaluate.", "data.", "parallel.")):
            raise BadInput(
                f"config.{text}: evaluate takes fields of evaluate, data and parallel; others are the run's own"
            )
        assign(config, text)
    check_ranges(config, detector.fields)
    return config, elsewhere


def data_folder(run: Run, config: ConfigDict, elsewhere: bool, quiet: bool) -> Path:
    """Return the prepared columns to score: of other files, those that the run recorded, or those made anew.

    Raises BadInput where they are not the data that the run was trained on.
    """
    if elsewhere:
        return prepare_for_scoring(config, quiet)
    recorded, (before, after) = Path(run.facts["data_folder"]), (plain(each)["data"] for each in (run.config, config))
    same = all(before[name] == after[name] for name in before if name not in ("limit", "folder"))
    folder = recorded if same and (recorded / "manifest.json").exists() else prepare_data(config, quiet)
    if read_manifest(folder)["content_hash"] != run.facts["data_hash"]:
        raise BadInput(f"{folder}: these data are not those that {run.workdir} was trained on (content hash differs)")
    return folder


def compare(workdirs: Sequence[Path], out: Path) -> dict[str, Any]:
    """Draw the evaluations of several runs on one plot and write their metrics side by side.

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
    merged = find_detector(first.get("experiment", "of an earlier version")).evaluation.compare(
        found, folders, same_events, out
    )
    if not same_events:
        print("note: the runs were tested on different events; differences carry both samples' fluctuations")
    return merged


def main(argv: list[str] | None = None) -> int:
    """Command line of the verb."""
    options = cli.parser("evaluate", __doc__)
    options.add_argument("--out", type=Path, metavar="FOLDER", help="folder for the results (evaluation/ in the run)")
    options.add_argument(
        "--compare", type=Path, nargs="+", metavar="RUN", help="run folders or results (--out), the reference first"
    )
    command = cli.parse(options, argv, "data")
    if command is None:
        return 0
    out, several = command.options.out, command.options.compare
    if several:
        if command.options.config or command.workdir or command.assignments:
            options.error("--compare takes --out alone: runs are compared as they were evaluated")
        if out is None:
            options.error("--compare wants --out FOLDER")
        compare(several, out)
        return 0
    if command.options.config and command.workdir:
        options.error("evaluate wants --workdir RUN or the --config of a run, not both")
    workdir = command.workdir or Path(f"runs/{command.name}")
    if command.file.name == "config.json":
        workdir = command.file.parent
    evaluate(workdir, out, assignments=command.assignments)
    return 0


cli.callable_module(__name__, evaluate)
if __name__ == "__main__":
    sys.exit(cli.run_main(main, huge_pages=True))
