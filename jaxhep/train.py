"""python -m jaxhep.train: data -> trained network -> plots.

    python -m jaxhep.train --config configs/cvt.py
    python -m jaxhep.train --config configs/cvt.py --config.data.electrons='mc/el/*.root' --config.data.protons='mc/pr/*.root'
    python -m jaxhep.train --config configs/pointnet.py --config.data.files='mc/*.parquet' --config.ensemble.members=4
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
from jaxhep.huge_pages import restart_with_huge_pages
from jaxhep.stop import StopFlag

SIGTERM_STATUS = 143


def train(config: Any, workdir: Path, quiet: bool = False, profiled: int = 0) -> int:
    """Train to the end, or to SIGTERM, then evaluate; return the exit status. `profiled` dispatches are traced.

    Raises BadInput for anything wrong with config, data or run folder, before the run folder is touched, and
    FloatingPointError at the step where loss or gradients stop being finite.
    """
    import jax
    import numpy as np
    from tqdm import tqdm

    from jaxhep import compiled, data, ensemble, log, models, network, parallel, plots, profile, resident, steps
    from jaxhep.accumulation import check_parts
    from jaxhep.checkpoint import Checkpoints, shapes
    from jaxhep.columns import write_json
    from jaxhep.evaluate import evaluate
    from jaxhep.experiments import part_of
    from jaxhep.manifest import read_manifest
    from jaxhep.prepare import prepare

    began = time.perf_counter()
    settings = config.train
    compiled.keep()

    # What can be wrong with the config is found before anything is simulated or read.
    check_same(workdir, config)
    inputs = part_of(config, "inputs")
    inputs.check(config)
    resident.check(config)
    part_of(config, "evaluation").check(config)
    seeds = ensemble.seeds(config)
    members, group = len(seeds), config.ensemble.group
    devices = parallel.choose_devices(config.parallel.kind, config.parallel.devices, settings.batch_size)
    check_parts(settings.accumulate, settings.batch_size, len(devices))
    scoring_batch = -(-config.evaluate.batch_size // len(devices)) * len(devices)  # the last batch is padded anyway
    for name in ("batch_size", "epochs", "steps_per_dispatch"):
        if settings[name] < 1:
            raise BadInput(f"config.train.{name} is {settings[name]}, wanted at least 1")
    axis_name = parallel.AXIS if config.parallel.kind == "pmap" else None
    network.check(config)
    steps.build_schedule(settings.schedule, settings.learning_rate, settings.warmup_steps, 1)

    # Data.
    folder = prepare(config, quiet)
    manifest = read_manifest(folder)
    check_same_data(workdir, manifest["content_hash"])
    names = inputs.column_names(config)
    train_split = data.Split(folder, "train", config.data.limit.train)
    validation = data.Split(folder, "validation", config.data.limit.validation)
    inputs.missing(config, train_split.columns)
    each = [data.Batches(train_split, settings.batch_size, int(seed), names, settings.order) for seed in seeds]
    batches = each[0] if members == 1 else data.Members(each)
    training_facts = inputs.training_facts(config, train_split.column("label"))

    # Network, steps, state.
    total_steps = settings.epochs * batches.steps_per_epoch
    total_steps = min(total_steps, settings.max_steps) if settings.max_steps else total_steps
    schedule = steps.build_schedule(settings.schedule, settings.learning_rate, settings.warmup_steps, total_steps)
    net = network.build_network(config, manifest["scaling"], training_facts, axis_name)
    train_step = ensemble.train_together(net.train_step(config, schedule, axis_name), members, group)
    eval_step = ensemble.score_together(net.eval_step(), members, group)
    keep = resident.wanted(config, resident.bytes_of(train_split, names), devices[0])
    run = parallel.build_parallel(config.parallel.kind, devices, train_step, eval_step, members, group, keep)
    stream = data.Orders(batches) if keep else batches
    columns = {"columns": resident.place(train_split, names, run.kept)} if keep else {}
    make_state = ensemble.stack(net.init, seeds)
    like = shapes(make_state, run.sharding)
    parameters = models.trainable_parameters(like.params) // members
    if members > 1 and config.parallel.kind == "jit":
        count = min(settings.steps_per_dispatch, batches.steps_per_epoch, total_steps)
        example = {n: jax.ShapeDtypeStruct((count, *v.shape), v.dtype) for n, v in stream[0].items()} | columns
        ensemble.check_memory(run.train, like, example, config, devices[0])

    # Run folder: made only now, when everything that can be checked has been.
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "config.json", plain(config))
    checkpoints = Checkpoints(workdir)
    restored = checkpoints.restore_latest(like)
    state = run.place(jax.jit(make_state)()) if restored is None else restored
    first_step = steps.step_of(state)
    done = finished(state, settings) or first_step >= total_steps
    facts = log.provenance(
        data_hash=manifest["content_hash"],
        data_folder=str(folder),
        simulation=manifest["simulation"],
        scaling=manifest["scaling"],
        ranges=manifest.get("ranges"),
        trainable_parameters=parameters,
        members=members,
        **training_facts,
        events={"train": len(train_split), "validation": len(validation)},
        data_on_device=keep,
        continued_from=first_step if restored is not None else None,
        events_per_second=None,
    )
    if not done:  # what made the run stays on record when a finished one is only evaluated again
        write_json(workdir / "provenance.json", facts)
    journal = log.Log(workdir, first_step)
    if not quiet:
        print(network.summary(config))
        print(f"{len(train_split)} training events, {len(validation)} for validation")
        for line in inputs.describe(training_facts):
            print(line)
        print(
            f"{len(devices)} x {devices[0].device_kind} by {config.parallel.kind}, batch {settings.batch_size}, {batches.steps_per_epoch} steps an epoch"
            + (", data on the device" if keep else "")
            + (f", {members} members" if members > 1 else "")
            + (f", continuing at step {first_step}" if restored is not None else "")
        )

    # The loop.
    stop, trace = StopFlag(), profile.Trace(workdir / "profile", profiled)
    step, pending, saved_at, first_done = first_step, None, time.perf_counter(), None
    validation_loss = float("inf")
    bar = tqdm(
        total=total_steps * settings.batch_size * members,
        initial=step * settings.batch_size * members,
        unit=" events",
        unit_scale=True,
        desc="train",
        disable=True if quiet else None,
    )
    try:
        for batch in data.load(stream, step, total_steps, settings.steps_per_dispatch) if not done else ():
            trace.before_dispatch(state)
            state, metrics = run.train(state, batch | columns)
            if pending is not None:
                check_finite(pending, step)  # read one dispatch late, so that the device never waits for the host
            pending = metrics
            count = len(next(iter(batch.values())))
            step += count
            bar.update(count * settings.batch_size * members)
            if first_done is None:
                jax.block_until_ready(state)
                first_done = (time.perf_counter(), step)
                if not quiet:
                    print(f"first step after {first_done[0] - began:.1f} s")
                facts["first_step_seconds"] = first_done[0] - began
            epoch_ends = step % batches.steps_per_epoch == 0 or step == total_steps
            stopping = stop.wanted
            if epoch_ends or stopping or time.perf_counter() - saved_at > settings.checkpoint_seconds:
                check_finite(metrics, step)
                if epoch_ends:
                    epoch = -(-step // batches.steps_per_epoch)
                    sums = score_sums(run.evaluate, state, data.in_order(validation, scoring_batch, names))
                    losses = sums["loss"] / sums["weight"]  # of every member
                    validation_loss = float(np.mean(losses))
                    steering, figure = state.steering, inputs.FIGURE
                    numbers = {
                        "epoch": epoch,
                        "train_loss": float(np.mean(steering.loss / steering.steps)),
                        f"train_{figure}": float(np.mean(steering.figure / steering.steps)),
                        "validation_loss": validation_loss,
                        f"validation_{figure}": float(np.mean(sums["figure"] / sums["weight"])),
                        "learning_rate": float(np.mean(metrics["learning_rate"][-1])),
                        "gradient_norm": float(np.mean(metrics["gradient_norm"][-1])),
                    }
                    patience = settings.plateau_patience if settings.schedule == "plateau" else 0
                    steering = steps.end_epoch(steering, losses, settings.tolerance, patience, settings.plateau_factor)
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
                (step - first_done[1]) * settings.batch_size * members / (time.perf_counter() - first_done[0])
            )
        if not done:
            facts |= {"finished_at_step": step, "seconds": time.perf_counter() - began}
            write_json(workdir / "provenance.json", facts)
    finally:
        trace.stop(state)
        stop.restore()
        bar.close()
        journal.close()
        checkpoints.close()
    (workdir / "evaluation").mkdir(exist_ok=True)
    plots.training_curves(
        log.read_log(workdir),
        f"{config.model.name}, {parameters:,} parameters",
        inputs.FIGURE,
        inputs.FIGURE_LABEL,
        workdir / "evaluation" / "training",
    )
    evaluate(workdir, quiet=quiet)
    return 0


def finished(state: Any, settings: Any) -> bool:
    """Return whether early stopping has ended the run: for an ensemble, that of its last member."""
    import numpy as np

    return int(np.min(state.steering.stale_epochs)) >= settings.patience > 0


def check_finite(metrics: dict[str, Any], step: int) -> None:
    """Raise FloatingPointError naming the first step whose loss or gradient is not finite; `step` is the last one's end."""
    import numpy as np

    loss, gradient = (np.asarray(metrics[name]).reshape(len(metrics[name]), -1) for name in ("loss", "gradient_norm"))
    bad = ~(np.isfinite(loss) & np.isfinite(gradient))
    if bad.any():
        at, member = np.argwhere(bad)[0]
        values = f"loss {loss[at, member]}, gradient norm {gradient[at, member]}"
        values += f" of member {member}" if loss.shape[1] > 1 else ""
        raise FloatingPointError(
            f"{values} at step {step - len(bad) + at + 1}: training stopped, the last good checkpoint is kept; try a lower config.train.learning_rate or config.train.clip_norm=1"
        )


def score_sums(eval_step: Any, state: Any, batches: Iterator[dict]) -> dict[str, Any]:
    """Return loss, figure and weight summed over all events, each counted once; arrays (N,) for N members."""
    import numpy as np

    sums: dict[str, Any] = {"loss": 0.0, "figure": 0.0, "weight": 0.0}
    for batch in batches:
        found = eval_step(state, batch)
        sums = {name: value + np.asarray(found[name], np.float64) for name, value in sums.items()}
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
        from jaxhep import network

        print(network.summary(config))
        return 0
    return train(config, Path(values.workdir or default_workdir(argv)), profiled=values.profile)


if __name__ == "__main__":
    restart_with_huge_pages()
    sys.exit(one_line(main))
