"""Checkpoints by Orbax: asynchronous, latest two and the best one kept, every leaf verified on restore.

Orbax lists a damaged checkpoint like a whole one, and restores a flipped bit in silence: so a digest of every leaf
is stored beside the state, and a checkpoint that fails it is reported and the one before is taken.
"""

import hashlib
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxhep import processes
from jaxhep.errors import BadInput
from jaxhep.steps import ScheduleState, State, step_of


class SavedSchedule(NamedTuple):
    """Names of the schedule state on disk, so that checkpoints of earlier versions are read."""

    plateau_scale: Any
    plateau_epochs: Any
    best: Any
    stale_epochs: Any
    loss: Any
    figure: Any
    steps: Any


class SavedState(NamedTuple):
    """Names of the state on disk."""

    step: Any
    seed: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any
    steering: SavedSchedule


def as_saved(state: State) -> SavedState:
    """Return the state under its names on disk."""
    return SavedState(*state[:-1], SavedSchedule(*state.schedule))


def as_state(saved: SavedState) -> State:
    """Return what `as_saved` was made of."""
    return State(*saved[:-1], ScheduleState(*saved.steering))


def _finite_loss(metrics: dict[str, float]) -> float:
    """Return the loss that decides which checkpoint is best; NaN would corrupt the order, so it counts as infinite."""
    loss = metrics["validation_loss"]
    return loss if math.isfinite(loss) else math.inf


class Checkpoints:
    """The checkpoints of one run folder."""

    def __init__(self, workdir: Path, read_only: bool = False):
        logging.getLogger("absl").setLevel(logging.ERROR)  # a failed restore is reported by us, in one line
        policies = ocp.checkpoint_managers
        keep = policies.AnyPreservationPolicy(
            [policies.LatestN(2), policies.BestN(get_metric_fn=_finite_loss, reverse=True, n=1)]
        )
        options = ocp.CheckpointManagerOptions(
            step_prefix="step",
            best_fn=_finite_loss,
            best_mode="min",
            preservation_policy=None if read_only else keep,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        self._damaged: set[int] = set()
        self._manager = ocp.CheckpointManager((workdir / "checkpoints").resolve(), options=options)

    def steps(self) -> list[int]:
        """Return the saved steps, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, state: State, validation_loss: float) -> None:
        """Save in the background; `validation_loss` is infinite inside an epoch, so that it is never the best."""
        step = step_of(state)
        if step in self._damaged:
            self._manager.delete(step)  # the run has come to it again
            self._damaged.remove(step)
        elif step in self.steps():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(as_saved(state)), digests=ocp.args.JsonSave(digests(as_saved(state)))
            ),
            metrics={"validation_loss": float(validation_loss)},
        )

    def restore_latest(self, like: State) -> State | None:
        """Return the newest state that is whole, None where nothing was saved; damaged ones are named on stdout.

        `like` has the shapes, types and shardings wanted, as `shapes` gives them. Raises BadInput where every one is damaged.
        """
        return self._first_whole(self.steps()[::-1], like)

    def restore_best(self, like: State) -> tuple[State, int]:
        """Return the state of lowest validation loss and its step, or the newest whole one where that is damaged."""
        best = self._manager.best_step()
        others = [step for step in self.steps()[::-1] if step != best]
        state = self._first_whole(([best] if best is not None else []) + others, like)
        if state is None:
            raise BadInput(f"{self._manager.directory}: no checkpoint to evaluate; has this run been trained?")
        return state, step_of(state)

    def wait(self) -> None:
        """Return when everything is on disk; a full disk shows here. Raises OSError."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise OSError(
                f"{self._manager.directory}: checkpoint could not be written ({str(error).splitlines()[0][:160]})"
            ) from None

    def close(self) -> None:
        """Wait and release."""
        self.wait()
        self._manager.close()

    def _first_whole(self, steps: list[int], like: State) -> State | None:
        problems: list[str] = []
        for step in steps:
            problem, found = "", None
            try:
                found = self._manager.restore(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardRestore(as_saved(like)), digests=ocp.args.JsonRestore()
                    ),
                )
                wrong = [name for name, value in digests(found.state).items() if found.digests.get(name) != value]
                if wrong:
                    problem = f"step {step}: {len(wrong)} arrays differ from their digest, first {wrong[0]}"
            except Exception as error:  # Orbax raises plain Exception for damaged data, besides five other kinds
                text = str(error).splitlines()[0][:160] if str(error) else ""
                problem = f"step {step}: {type(error).__name__}: {text}"
            problem = next(filter(None, processes.exchange(problem)), "")  # damaged for one is damaged for all
            if not problem and found is not None:
                return as_state(found.state)
            problems.append(problem)
            self._damaged.add(step)
            if processes.is_first():
                print(f"checkpoint damaged, trying the one before: {problem}", flush=True)
        if problems:
            raise BadInput(f"{self._manager.directory}: no checkpoint is readable: {'; '.join(problems)}")
        return None


def shapes(make: Callable[[], State], sharding: Any) -> State:
    """Return the state that `make` would make as shapes and types, to be restored with this sharding; runs nothing."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), jax.eval_shape(make))


def digests(state: Any) -> dict[str, str]:
    """Return the SHA-256 of every leaf's bytes, by its path."""
    here = jax.device_get(state) if processes.count() == 1 else jax.tree.map(processes.whole, state)
    leaves = jax.tree_util.tree_flatten_with_path(here)[0]
    return {jax.tree_util.keystr(path): hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest() for path, leaf in leaves}
