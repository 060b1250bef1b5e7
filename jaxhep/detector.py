"""What a detector brings: one typed value, which a folder `jaxhep/<name>/`, or any module of your own, fills.

Reading and evaluating speak NumPy alone, so that preparing and measuring do not start JAX; what speaks JAX is made when
it is called for: `Detector.task` and `Simulation.settings`. Verbs know nothing of a detector beyond this value.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from jaxhep import multiclass
from jaxhep.errors import BadInput
from jaxhep.fields import Fields
from jaxhep.manifest import Source, origin_of, read_manifest
from jaxhep.records import SPLITS, Chunk

if TYPE_CHECKING:
    from jaxhep.task import Task

Columns = dict[str, np.ndarray]
Selection = Any  # a detector's own value: all that turns the content of files into records
File = Any  # a detector's own NamedTuple: `path`, `entries`, and `handle`, which is None of a closed file


def one_selection(selection: Selection, files: list[File]) -> Selection:
    """Return the selection: nothing of it depends on what the files hold."""
    return selection


def bytes_of_all(selection: Selection, labelled: list[tuple[File, int | None]], record: np.dtype) -> float:
    """Return the size of the columns, were every event kept."""
    return float(sum(file.entries for file, _ in labelled) * record.itemsize)


def same_experiment(folder: Path, config: ConfigDict) -> None:
    """Raise BadInput where the prepared folder is of another experiment."""
    experiment = read_manifest(folder)["experiment"]
    if experiment != config.experiment:
        raise BadInput(f"{folder}: prepared for {experiment}, wanted {config.experiment}")


def no_split_empty(folder: Path, config: ConfigDict) -> None:
    """Raise BadInput where a split has no events."""
    manifest = read_manifest(folder)
    for split in SPLITS:
        if not manifest["splits"][split]["events"]:
            raise BadInput(f"{folder}: no events in the {split} split {origin_of(manifest)}")


class Reader(NamedTuple):
    """Files -> records, see `docs/new_detector.md`. A record needs the fields `key` (u8) and `label` (u1)."""

    # (config, () -> simulated files by species) -> (file, label) pairs, the label None where the reader decides.
    sources: Callable[[ConfigDict, Callable[[], dict[str, list[Path]]]], list[Source]]
    selection: Callable[[ConfigDict], Selection]  # what of the files is kept; raises BadInput where it makes no sense
    open_file: Callable[[Path | str, Selection], File]
    record_dtype: Callable[[Selection], np.dtype]
    # (file, label, selection, entry to begin at) -> chunks of bounded size.
    read_records: Callable[[File, int | None, Selection, int], Iterator[Chunk]]
    # For files that are only scored, where more events are kept than in training; all are put into the test split.
    scoring_sources: Callable[[ConfigDict], list[Source]] | None = None
    scoring_selection: Callable[[ConfigDict], Selection] | None = None
    describe: Callable[[Selection, list[File]], Selection] = one_selection  # checks files; adds what all of them have
    complete: Callable[[Selection, list[File]], Selection] = one_selection  # adds what their content decides together
    expected_bytes: Callable[[Selection, list[tuple[File, int | None]], np.dtype], float] = bytes_of_all
    scaling: Callable[[np.ndarray], dict[str, float]] = (
        lambda records: {}
    )  # of the network's input, from training records
    identity: Callable[[ConfigDict, Selection], dict[str, Any]] = lambda config, selection: {
        "selection": repr(selection)
    }
    facts: Callable[[ConfigDict, Selection], dict[str, Any]] = lambda config, selection: {}  # for the manifest
    name: Callable[[ConfigDict], str] = lambda config: config.experiment.rpartition(":")[2]  # of prepared folders
    check_prepared: Callable[[Path, ConfigDict], None] = same_experiment
    check_splits: Callable[[Path, ConfigDict], None] = no_split_empty


class Evaluation(NamedTuple):
    """Outputs of a network -> columns -> metrics -> plots; by default of a classification into K classes."""

    heavy: tuple[str, ...] = ()  # columns that metrics do not need
    other_files: Callable[[ConfigDict], None] = lambda config: None  # clears what holds for the run's own files alone
    check: Callable[[ConfigDict], None] = multiclass.check
    score_columns: Callable[[ConfigDict, np.ndarray], Columns] = multiclass.score_columns
    # (config, columns, split, folder, quiet): add what reference methods say of the same events.
    add_references: Callable[[ConfigDict, Columns, Any, Path, bool], None] = multiclass.add_references
    # (columns, config, facts, manifest, metrics of the run's own test events or None) -> metrics.json.
    measure: Callable[[Columns, ConfigDict, dict, dict, dict | None], dict[str, Any]] = multiclass.measure
    draw: Callable[[dict[str, Any], Columns, ConfigDict, Path], None] = multiclass.draw
    report: Callable[[dict[str, Any], Path], None] = multiclass.report
    # (metrics by run, folders, whether on the same events, out) -> comparison.
    compare: Callable[[dict[str, dict], dict[str, Path], bool, Path], dict[str, Any]] = multiclass.compare


class Simulation(NamedTuple):
    """The built-in simulation as files."""

    species: dict[str, int]  # name -> fewest events that make sense; config.simulation.<name>s says how many
    bytes_per_event: int
    format: int  # raised when the simulation changes, so that earlier files are not taken for new ones
    suffix: Callable[[ConfigDict], str]  # of the files' names
    resolve: Callable[[ConfigDict], ConfigDict]  # a config in which nothing of the simulation is left open
    settings: Callable[[ConfigDict], Any]
    # (path, config, species, first event, events, settings, progress): write a file.
    write: Callable[[Path, ConfigDict, str, int, int, Any, Callable[[int], Any]], None]


class Detector(NamedTuple):
    """All that a detector brings."""

    name: str
    fields: Fields  # of its configs, beside those of every experiment
    reader: Reader
    task: Callable[[ConfigDict], "Task"]  # made once for a config; raises BadInput for what makes no sense
    evaluation: Evaluation = Evaluation()
    simulation: Simulation | None = None
    files: tuple[str, ...] = ("files",)  # fields of config.data that name input files


def describe_fields(fields: Iterable[str]) -> str:
    """Return fields of config.data as flags, for a message."""
    return ", ".join(f"--config.data.{name}" for name in fields)
