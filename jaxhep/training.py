"""What the training loop is made of: its data, the ends of its epochs, and what it shows."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from jaxhep import data, device_data, ensemble, processes, steps
from jaxhep.errors import BadInput
from jaxhep.manifest import read_manifest
from jaxhep.session import Session, scoring_batch
from jaxhep.task import Task


class TrainingData(NamedTuple):
    """Prepared columns as training takes them."""

    train: data.Split
    validation: data.Split
    batches: data.Batches | data.Members
    names: tuple[str, ...]  # of the columns in a batch
    on_device: bool  # whether training columns are kept there
    facts: dict[str, Any]  # what scoring needs of them: the content of task.json
    simulation: dict[str, Any] | None


def open_data(config: ConfigDict, task: Task, folder: Path, devices: list[jax.Device]) -> TrainingData:
    """Return the data of a prepared folder. Raises BadInput where they lack what the task needs."""
    manifest, names = read_manifest(folder), (*task.columns, *task.targets)
    train = data.Split(folder, "train", config.data.limit.train)
    validation = data.Split(folder, "validation", config.data.limit.validation)
    task.check_columns(train.columns)
    if taken := {"weight", "order", "columns"} & set(names):
        raise BadInput(f"a column is called {min(taken)!r}, a name that batches use themselves: call it otherwise")
    size, order = config.train.batch_size, config.train.order
    each = [data.Batches(train, size, int(seed), names, order) for seed in ensemble.seeds(config)]
    with processes.together():
        on_device = device_data.wanted(config, device_data.bytes_of(train, names), devices[0])
    on_device = all(answer == "True" for answer in processes.exchange(str(on_device)))  # each has its free memory
    facts = {
        "data_folder": str(folder.resolve()),
        "data_hash": manifest["content_hash"],
        "scaling": manifest["scaling"],
        "ranges": manifest.get("ranges"),
        **task.facts(train.column("label")),
    }
    batches = each[0] if len(each) == 1 else data.Members(each)
    return TrainingData(train, validation, batches, names, on_device, facts, manifest["simulation"])


def sizes(config: ConfigDict, given: TrainingData) -> str:
    """Return how many events are trained and validated on, and which field keeps others out."""
    parts = []
    for name, split in (("training", given.train), ("validation", given.validation)):
        limit, all_events = config.data.limit[split.name], len(split.columns["label"])
        field = f" of {all_events} (config.data.limit.{split.name}={limit} of each class)"
        parts.append(f"{len(split)}{field if len(split) < all_events else ''} {name} events")
    return ", ".join(parts)


def number_of_steps(config: ConfigDict, given: TrainingData) -> int:
    """Return the steps of a whole training: config.train.epochs, at most max_steps."""
    steps_of_epochs = config.train.epochs * given.batches.steps_per_epoch
    return min(steps_of_epochs, config.train.max_steps) if config.train.max_steps else steps_of_epochs


def feed(
    config: ConfigDict, given: TrainingData, session: Session, start: int, stop: int
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield what each dispatch from step `start` to `stop` takes, and how many steps it has."""
    columns: dict[str, Any] = {}
    given.batches.part = session.part
    if given.on_device:
        columns = {"columns": device_data.place(given.train, given.names, session.kept)}
    stream = data.Orders(given.batches) if given.on_device else given.batches
    for batch in data.load(stream, start, stop, config.train.steps_per_dispatch):
        yield session.give(batch | columns), len(next(iter(batch.values())))


def check_memory(config: ConfigDict, given: TrainingData, session: Session, total: int) -> None:
    """Raise BadInput where a step of an ensemble by jit needs more memory than its device has free."""
    if session.members == 1 or config.parallel.kind != "jit":
        return
    count = min(config.train.steps_per_dispatch, given.batches.steps_per_epoch, total)
    stream = data.Orders(given.batches) if given.on_device else given.batches
    example: dict[str, Any]
    example = {name: jax.ShapeDtypeStruct((count, *value.shape), value.dtype) for name, value in stream[0].items()}
    if given.on_device:
        example["columns"] = device_data.shapes_of(given.train, given.names, session.kept)
    ensemble.check_memory(session.train, session.like, example, config, session.devices[0])


class Progress:
    """What training shows while it runs, and the rate that it keeps for the record."""

    def __init__(self, config: ConfigDict, members: int, first: int, total: int, began: float, quiet: bool):
        self.quiet, self.events = quiet, config.train.batch_size * members  # of a step
        self.began, self.step = began, first
        self.first_done: tuple[float, int] | None = None  # time and step after the first dispatch, which compiles
        options: dict[str, Any] = {"unit": " events", "unit_scale": True, "desc": "train", "disable": quiet or None}
        self.bar = tqdm(total=total * self.events, initial=first * self.events, **options)

    def dispatched(self, state: steps.State, count: int) -> None:
        """Count the steps of one dispatch; of the first one wait for its end."""
        self.step += count
        self.bar.update(count * self.events)
        if self.first_done is None:
            jax.block_until_ready(state)
            self.first_done = (time.perf_counter(), self.step)
            if not self.quiet:
                print(f"first step after {self.first_done[0] - self.began:.1f} s")

    def epoch(self, numbers: dict[str, float]) -> None:
        """Show the numbers of an epoch."""
        if not self.quiet:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items() if name != "epoch")
            self.bar.write(f"epoch {numbers['epoch']}: {shown}")

    def rates(self) -> dict[str, float | None]:
        """Return the seconds to the first step, and the events per second after it."""
        if self.first_done is None:
            return {}
        seconds, done = time.perf_counter() - self.first_done[0], self.step - self.first_done[1]
        rate = done * self.events / seconds if done else None
        return {"first_step_seconds": self.first_done[0] - self.began, "events_per_second": rate}


def end_epoch(
    config: ConfigDict, task: Task, given: TrainingData, session: Session, state: steps.State, metrics: dict[str, Any]
) -> tuple[steps.State, dict[str, float]]:
    """Validate after an epoch; return the state with its schedule moved on, and the numbers of the log."""
    settings, sums = config.train, jax.tree.map(processes.whole, state.schedule)
    batches = data.in_order(given.validation, scoring_batch(config, session.devices), given.names, session.scored)
    found = score_sums(session.score, state, batches)
    losses = found["loss"] / found["weight"]  # of every member
    numbers = {
        "epoch": -(-steps.step_of(state) // given.batches.steps_per_epoch),
        "train_loss": float(np.mean(sums.loss / sums.steps)),
        f"train_{task.metric_name}": float(np.mean(sums.metric / sums.steps)),
        "validation_loss": float(np.mean(losses)),
        f"validation_{task.metric_name}": float(np.mean(found["metric"] / found["weight"])),
        "learning_rate": float(np.mean(metrics["learning_rate"][-1])),
        "gradient_norm": float(np.mean(metrics["gradient_norm"][-1])),
    }
    patience = settings.plateau_patience if settings.schedule == "plateau" else 0
    schedule = steps.end_epoch(sums, losses, settings.tolerance, patience, settings.plateau_factor)
    return session.place(state._replace(schedule=schedule)), numbers


def score_sums(score: Any, state: steps.State, batches: Iterator[dict]) -> dict[str, Any]:
    """Return loss, metric and weight summed over all events, each counted once; arrays (N,) for N members."""
    sums: dict[str, Any] = {"loss": 0.0, "metric": 0.0, "weight": 0.0}
    for batch in batches:
        found = score(state, batch)
        sums = {name: value + np.asarray(found[name], np.float64) for name, value in sums.items()}
    return sums


def has_converged(state: steps.State, patience: int) -> bool:
    """Return whether early stopping ends the run: for an ensemble, that of its last member."""
    return patience > 0 and int(np.min(processes.whole(state.schedule.stale_epochs))) >= patience


def check_finite(metrics: dict[str, Any], step: int) -> None:
    """Raise FloatingPointError naming the first step whose loss or gradient is not finite; `step` is the last one's end."""
    loss, gradient = (np.asarray(metrics[name]).reshape(len(metrics[name]), -1) for name in ("loss", "gradient_norm"))
    bad = ~(np.isfinite(loss) & np.isfinite(gradient))
    if bad.any():
        at, member = np.argwhere(bad)[0]
        values = f"loss {loss[at, member]}, gradient norm {gradient[at, member]}"
        values += f" of member {member}" if loss.shape[1] > 1 else ""
        raise FloatingPointError(
            f"{values} at step {step - len(bad) + at + 1}: training stopped, the last good checkpoint is kept; try a lower config.train.learning_rate or config.train.clip_norm=1"
        )
