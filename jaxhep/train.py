"""python -m jaxhep.train: data -> trained network -> plots.

    python -m jaxhep.train --config configs/cvt.py
    python -m jaxhep.train --config configs/cvt.py --config.data.electrons='mc/el/*.root' --config.data.protons='mc/pr/*.root'
    python -m jaxhep.train --config configs/cvt.py:paper --workdir runs/cvt --config.train.batch_size=256

Without files, the built-in simulation makes them. The same command again continues where it was; SIGTERM saves and
exits with status 143. The loop below is read from top to bottom.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxhep.config import check_same, check_same_data, plain
from jaxhep.errors import BadInput, one_line
from jaxhep.flags import default_workdir, parse
from jaxhep.stop import StopFlag

SIGTERM_STATUS = 143


def train(config: Any, workdir: Path, quiet: bool = False) -> int:
    """Train to the end, or to SIGTERM, then evaluate; return the exit status.

    Raises BadInput for anything wrong with config, data or run folder, before the run folder is touched, and
    FloatingPointError at the step where loss or gradients stop being finite.
    """
    import jax
    import numpy as np
    from tqdm import tqdm

    from jaxhep import compiled, data, log, models, network, parallel, plots, steps
    from jaxhep.checkpoint import Checkpoints, shapes
    from jaxhep.columns import write_json
    from jaxhep.evaluate import evaluate
    from jaxhep.manifest import read_manifest
    from jaxhep.prepare import prepare

    began = time.perf_counter()
    settings = config.train
    compiled.keep()

    # What can be wrong with the config is found before anything is simulated or read.
    check_same(workdir, config)
    devices = parallel.choose_devices(config.parallel.kind, config.parallel.devices, settings.batch_size)
    scoring_batch = -(-config.evaluate.batch_size // len(devices)) * len(devices)  # the last batch is padded anyway
    for name in ("batch_size", "epochs", "steps_per_dispatch"):
        if settings[name] < 1:
            raise BadInput(f"config.train.{name} is {settings[name]}, wanted at least 1")
    model = network.build_model(config, parallel.AXIS if config.parallel.kind == "pmap" else None)
    steps.build_schedule(settings.schedule, settings.learning_rate, settings.warmup_steps, 1)
    network.build_inputs(config, {"log_cell_mean": 1.0})
    needs_track = bool(config.inputs.window)

    # Data.
    folder = prepare(config, quiet)
    manifest = read_manifest(folder)
    check_same_data(workdir, manifest["content_hash"])
    names = network.column_names(config)
    train_split = data.Split(folder, "train", config.data.limit.train)
    validation = data.Split(folder, "validation", config.data.limit.validation)
    if needs_track and "track" not in train_split.columns:
        raise BadInput(
            f"config.inputs.window needs the track, which recipe {config.data.recipe!r} does not store; use mc_200_2000_track"
        )
    batches = data.Batches(train_split, settings.batch_size, config.seed, names, settings.order)
    labels = train_split.column("label")
    electrons, protons = int(np.sum(labels == 1)), int(np.sum(labels == 0))
    electron_weight = settings.electron_weight or protons / electrons

    # Network, steps, state.
    total_steps = settings.epochs * batches.steps_per_epoch
    total_steps = min(total_steps, settings.max_steps) if settings.max_steps else total_steps
    inputs, loss = network.build_inputs(config, manifest["scaling"]), network.build_loss(electron_weight)
    optimiser = steps.build_optimiser(settings.weight_decay, settings.clip_norm)
    schedule = steps.build_schedule(settings.schedule, settings.learning_rate, settings.warmup_steps, total_steps)
    axis_name = parallel.AXIS if config.parallel.kind == "pmap" else None
    train_step = steps.make_train_step(
        model, optimiser, inputs, loss, schedule, config.seed, settings.average_decay, axis_name
    )
    run = parallel.build_parallel(config.parallel.kind, devices, train_step, steps.make_eval_step(model, inputs, loss))
    plain_model = network.build_model(config)  # initialising happens outside pmap's axis
    example = network.example_batch(config, 1)

    def make_state() -> steps.State:
        return steps.init_state(plain_model, optimiser, inputs, example, config.seed, settings.average_decay > 0)

    like = shapes(make_state, run.sharding)
    parameters = models.trainable_parameters(like.params)

    # Run folder: made only now, when everything that can be checked has been.
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "config.json", plain(config))
    checkpoints = Checkpoints(workdir)
    restored = checkpoints.restore_latest(like)
    state = run.place(jax.jit(make_state)()) if restored is None else restored
    first_step = int(state.step)
    done = finished(state, settings) or first_step >= total_steps
    facts = log.provenance(
        data_hash=manifest["content_hash"],
        data_folder=str(folder),
        simulation=manifest["simulation"],
        scaling=manifest["scaling"],
        ranges=manifest["ranges"],
        trainable_parameters=parameters,
        electron_weight=electron_weight,
        events={
            "train": len(train_split),
            "validation": len(validation),
            "electrons": electrons,
            "protons": protons,
        },
        continued_from=first_step if restored is not None else None,
        events_per_second=None,
    )
    if not done:  # what made the run stays on record when a finished one is only evaluated again
        write_json(workdir / "provenance.json", facts)
    journal = log.Log(workdir, first_step)
    if not quiet:
        print(models.summary(plain_model, (1, *network.input_shape(config))))
        print(
            f"{len(train_split)} training events ({electrons} electrons, {protons} protons, electron weight {electron_weight:.3g}), {len(validation)} for validation"
        )
        print(
            f"{len(devices)} x {devices[0].device_kind} by {config.parallel.kind}, batch {settings.batch_size}, {batches.steps_per_epoch} steps an epoch"
            + (f", continuing at step {first_step}" if restored is not None else "")
        )
        if protons < 10_000:
            print(f"note: {protons} training protons bound the rejection that can be learnt")

    # The loop.
    stop = StopFlag()
    step, pending, saved_at, first_done = first_step, None, time.perf_counter(), None
    validation_loss = float("inf")
    bar = tqdm(
        total=total_steps * settings.batch_size,
        initial=step * settings.batch_size,
        unit=" events",
        unit_scale=True,
        desc="train",
        disable=True if quiet else None,
    )
    counts = dispatches(step, batches.steps_per_epoch, total_steps, settings.steps_per_dispatch)
    try:
        for batch in data.load(batches, step, counts) if not done else ():
            state, metrics = run.train(state, batch)
            if pending is not None:
                check_finite(pending, step)  # read one dispatch late, so that the device never waits for the host
            pending = metrics
            step += len(batch["label"])
            bar.update(batch["label"].size)
            if first_done is None:
                jax.block_until_ready(state)
                first_done = (time.perf_counter(), step)
                if not quiet:
                    print(f"first step after {first_done[0] - began:.1f} s")
            epoch_ends = step % batches.steps_per_epoch == 0 or step == total_steps
            stopping = stop.wanted
            if epoch_ends or stopping or time.perf_counter() - saved_at > settings.checkpoint_seconds:
                check_finite(metrics, step)
                if epoch_ends:
                    epoch = -(-step // batches.steps_per_epoch)
                    sums = score_sums(run.evaluate, state, data.in_order(validation, scoring_batch, names))
                    validation_loss = sums["loss"] / sums["weight"]
                    numbers = {
                        "epoch": epoch,
                        "train_loss": float(state.steering.loss / state.steering.steps),
                        "train_accuracy": float(state.steering.accuracy / state.steering.steps),
                        "validation_loss": validation_loss,
                        "validation_accuracy": sums["correct"] / sums["weight"],
                        "learning_rate": float(metrics["learning_rate"][-1]),
                        "gradient_norm": float(metrics["gradient_norm"][-1]),
                    }
                    patience = settings.plateau_patience if settings.schedule == "plateau" else 0
                    steering = steps.end_epoch(
                        state.steering, validation_loss, settings.tolerance, patience, settings.plateau_factor
                    )
                    state = run.place(state._replace(steering=steering))
                    journal.write(step, **numbers)
                    bar.write(
                        f"epoch {epoch}: "
                        + ", ".join(f"{name} {value:.4g}" for name, value in numbers.items() if name != "epoch")
                    ) if not quiet else None
                checkpoints.save(state, validation_loss if epoch_ends else float("inf"))
                saved_at = time.perf_counter()
            if stopping:
                checkpoints.wait()
                print(f"SIGTERM: saved at step {step}; the same command continues", flush=True)
                return SIGTERM_STATUS
            if epoch_ends and finished(state, settings):
                break
        if first_done is not None and step > first_done[1]:
            facts["events_per_second"] = (
                (step - first_done[1]) * settings.batch_size / (time.perf_counter() - first_done[0])
            )
        if not done:
            facts |= {"finished_at_step": step, "seconds": time.perf_counter() - began}
            write_json(workdir / "provenance.json", facts)
    finally:
        stop.restore()
        bar.close()
        journal.close()
        checkpoints.close()
    (workdir / "evaluation").mkdir(exist_ok=True)
    plots.training_curves(
        log.read_log(workdir),
        f"{config.model.name}, {parameters:,} parameters",
        workdir / "evaluation" / "training",
    )
    evaluate(workdir, quiet=quiet)
    return 0


def dispatches(step: int, steps_per_epoch: int, total_steps: int, most: int) -> Iterator[int]:
    """Yield how many steps each dispatch runs: `most`, fewer where an epoch or the run ends."""
    while step < total_steps:
        count = min(most, steps_per_epoch - step % steps_per_epoch, total_steps - step)
        yield count
        step += count


def finished(state: Any, settings: Any) -> bool:
    """Return whether early stopping has ended the run."""
    return int(state.steering.stale_epochs) >= settings.patience > 0


def check_finite(metrics: dict[str, Any], step: int) -> None:
    """Raise FloatingPointError naming the first step whose loss or gradient is not finite; `step` is the last one's end."""
    import numpy as np

    bad = ~(np.isfinite(metrics["loss"]) & np.isfinite(metrics["gradient_norm"]))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        values = f"loss {float(metrics['loss'][first])}, gradient norm {float(metrics['gradient_norm'][first])}"
        raise FloatingPointError(
            f"{values} at step {step - len(bad) + first + 1}: training stopped, the last good checkpoint is kept; try a lower config.train.learning_rate or config.train.clip_norm=1"
        )


def score_sums(eval_step: Any, state: Any, batches: Iterator[dict]) -> dict[str, float]:
    """Return loss, correct and weight summed over all events, each counted once."""
    sums = {"loss": 0.0, "correct": 0.0, "weight": 0.0}
    for batch in batches:
        found = eval_step(state, batch)
        sums = {name: value + float(found[name]) for name, value in sums.items()}
    return sums


def main(argv: list[str] | None = None) -> int:
    """Command line of the verb."""
    argv = sys.argv[1:] if argv is None else argv
    values = parse(argv, __doc__ or "")
    if values is None:
        return 0
    config = values.config.lock()
    if values.print_config:
        print(json.dumps(plain(config), indent=2))
        return 0
    if values.summary:
        from jaxhep import models, network

        print(models.summary(network.build_model(config), (1, *network.input_shape(config))))
        return 0
    return train(config, Path(values.workdir or default_workdir(argv)))


if __name__ == "__main__":
    sys.exit(one_line(main))
