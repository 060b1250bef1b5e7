"""A run folder: its config, what scoring needs of its training (task.json), its metrics, and the trained network.

run = jaxhep.open_run("runs/cvt")
scores = run.score(cells=array)
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_collections import ConfigDict

from jaxhep import compiled, data
from jaxhep.config import plain, read_config
from jaxhep.detectors import detector_of
from jaxhep.errors import BadInput, nearest
from jaxhep.files import read_json, write_json
from jaxhep.prepared import prepare_for_scoring

if TYPE_CHECKING:
    from jaxhep.session import Session
    from jaxhep.steps import State
    from jaxhep.task import Task

Scores = dict[str, np.ndarray]


def write_task(workdir: Path, config: ConfigDict, facts: dict[str, Any]) -> None:
    """Make the run folder, with its config and what scoring needs."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "config.json", plain(config))
    write_json(workdir / "task.json", facts)


def check_same_data(workdir: Path, content_hash: str) -> None:
    """Raise BadInput where the run folder was trained on other data than those with this hash, or nobody knows on which."""
    path = workdir / "task.json"
    if not path.exists():
        if any(workdir.glob("checkpoints/step_*")):
            raise BadInput(
                f"{workdir}: holds checkpoints but no task.json, of an earlier version; name another --workdir"
            )
    elif read_json(path, "damaged").get("data_hash") != content_hash:
        raise BadInput(f"{workdir}: trained on other data (content hash differs), name another --workdir")


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return the metrics of an evaluation. Raises BadInput where there are none."""
    return read_json(folder / "metrics.json", "not evaluated, run jaxhep evaluate --workdir on it first")


@dataclass(frozen=True)
class Run:
    """A run folder, opened: `config` as it was trained, `facts` of task.json."""

    workdir: Path
    config: ConfigDict
    facts: dict[str, Any]

    @property
    def metrics(self) -> dict[str, Any]:
        """What evaluation/metrics.json holds."""
        return read_metrics(self.workdir / "evaluation")

    def with_config(self, config: ConfigDict) -> "Run":
        """Return the same run with other settings of reading and scoring."""
        return Run(self.workdir, config, self.facts)

    @cached_property
    def trained(self) -> "tuple[Session, Task, State, int]":
        """Session, task, state of lowest validation loss and its step, restored once."""
        from jaxhep import session
        from jaxhep.checkpoint import Checkpoints

        compiled.keep()
        task = detector_of(self.config).task(self.config)
        built = session.build(self.config, task, self.facts, session.scoring_devices(self.config))
        checkpoints = Checkpoints(self.workdir, read_only=True)
        try:
            state, step = checkpoints.restore_best(built.like)
        finally:
            checkpoints.close()
        return built, task, state, step

    def score(self, **inputs: Any) -> Scores:
        """Return the scores of events, as evaluation/scores.npz names them: NumPy in, NumPy out.

        Either arrays, as the detector's `encode` takes them (calorimeter: cells (N, 18, 72), track (N, 5) for a window;
        TPC: points, a list of (n, 3)), scored in their order. Or files, by the names that config.data has for them
        (electrons, protons, files), each a pattern or a list: every event once, in the order of the prepared columns,
        with all that is known of them, so that `run` and `event` tell which is which.
        Of files the columns are kept in config.data.folder, and found again there. Raises BadInput for other names, for
        inputs that cannot be used, and where there are no events.
        """
        detector = detector_of(self.config)
        if inputs and set(inputs) <= set(detector.files):
            return self._score_files(inputs)
        task = self.trained[1]
        if task.encode is None:
            raise BadInput(f"the detector {detector.name} takes no arrays, name files: {', '.join(detector.files)}")
        given, wanted = (
            {name: value for name, value in inputs.items() if value is not None},
            inspect.signature(task.encode),
        )
        try:
            wanted.bind(**given)
        except TypeError:
            known = tuple(wanted.parameters)
            wrong = [name for name in given if name not in known]
            hint = nearest(wrong[0], (*known, *detector.files)) if wrong else ""
            names = f"arrays ({', '.join(known)}) or files ({', '.join(detector.files)})"
            raise BadInput(f"score({', '.join(given)}): wanted {names}{hint}") from None
        if not min(map(len, given.values())):
            raise BadInput(f"score({', '.join(given)}): no events to score")
        columns = task.encode(**given)
        return detector.evaluation.score_columns(self.config, self.outputs(columns))

    def outputs(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """Return the decoded outputs (N, ...), or of M members (M, N, ...), of columns (N, ...) as they are stored."""
        from jaxhep.session import score_all, scoring_batch

        session, _, state, _ = self.trained
        events, devices = len(next(iter(columns.values()))), len(session.devices)
        batch = min(scoring_batch(self.config, session.devices), -(-events // devices) * devices)
        return score_all(session, state, data.array_batches(columns, batch, session.scored), events)

    def _score_files(self, named: dict[str, str | Path | Sequence[str | Path]]) -> Scores:
        config = self.config.copy_and_resolve_references()
        for name in detector_of(config).files:
            config.data[name] = as_pattern(named.get(name, ""))
        split = data.Split(prepare_for_scoring(config, quiet=True), "test")
        return columns_of(self, split) | scores_of(self, split)


def as_pattern(files: str | Path | Sequence[str | Path]) -> str:
    """Return files, a pattern or a list of them, as config.data has them."""
    return str(files) if isinstance(files, str | Path) else ",".join(map(str, files))


def columns_of(run: Run, split: data.Split) -> Scores:
    """Return what is known of the events of a split, without the columns that metrics do not need."""
    heavy = detector_of(run.config).evaluation.heavy
    return {name: split.column(name) for name in split.columns if name not in heavy}


def scores_of(run: Run, split: data.Split) -> Scores:
    """Return the scores of every event of a split once."""
    from jaxhep.session import score_all, scoring_batch

    session, task, state, _ = run.trained
    batches = data.in_order(split, scoring_batch(run.config, session.devices), task.columns, session.scored)
    wanted = ({name: batch[name] for name in task.columns} for batch in batches)
    outputs = score_all(session, state, wanted, len(split))
    return detector_of(run.config).evaluation.score_columns(run.config, outputs)


def open_run(workdir: str | Path) -> Run:
    """Return a trained run. Raises BadInput where the folder is none, or was made by a version without task.json."""
    workdir = Path(workdir).absolute()  # wherever the process goes before it is read
    if not (workdir / "config.json").exists():
        found = [path.parent.name for path in workdir.parent.glob("*/config.json")] if workdir.parent.is_dir() else []
        raise BadInput(f"{workdir}: not a run folder, no config.json{nearest(workdir.name, found)}")
    facts = read_json(workdir / "task.json", "not trained, or by an earlier version whose runs cannot be read")
    return Run(workdir, read_config(workdir / "config.json"), facts)
