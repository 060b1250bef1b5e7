"""jaxhep train: data -> trained network -> plots.

    jaxhep train --config cvt
    jaxhep train --config configs/cvt.py --config.data.electrons='mc/el/*.root' --config.data.protons='mc/pr/*.root'
    jaxhep train --config pointnet --config.data.files='mc/*.parquet' --config.ensemble.members=4
    jaxhep train --config cvt:paper --workdir runs/cvt --config.train.batch_size=256

Without files, the built-in simulation makes them. The same command again continues where it was. SIGTERM, Ctrl-C and
SIGUSR1 save first, and end with status 143, 130 and 138; a second Ctrl-C ends at once.
"""

if __name__ == "__main__":  # first of all: the imports below take a second
    from jaxhep import stop

    stop.watch()

import contextlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from jaxhep import cli, clusters, compiled, log, processes
from jaxhep.config import check_same, config_name, load_config, plain
from jaxhep.detectors import detector_of
from jaxhep.evaluate import evaluate
from jaxhep.files import write_json
from jaxhep.prepared import prepare_data
from jaxhep.run import Run, check_same_data, open_run, write_task
from jaxhep.stop import StopFlag, Stopped

if TYPE_CHECKING:
    from jaxhep import training
    from jaxhep.session import Session
    from jaxhep.task import Task


def train(config: ConfigDict | str, workdir: str | Path | None = None, quiet: bool = False, profiled: int = 0) -> Run:
    """Train to the end and evaluate; return the run, opened. `profiled` dispatches are traced.

    `config` may be the name of one, `workdir` is runs/<name> then where none is given. Raises BadInput for anything wrong
    with config, data or run folder, before the run folder is touched, FloatingPointError at the step where loss or
    gradients stop being finite, and Stopped after SIGTERM, SIGUSR1 or Ctrl-C, when all is saved.
    """
    from jaxhep import plots, session, steps, training

    # What can be wrong is found before anything is simulated, read or compiled.
    began = time.perf_counter()
    compiled.keep()
    if not isinstance(config, ConfigDict):
        workdir, config = workdir or f"runs/{config_name(str(config))}", load_config(str(config))
    workdir = Path(workdir or f"runs/{config.model.name}")
    quiet = quiet or not processes.is_first()
    task, devices = session.check(config)
    processes.check_same("config or run folder", json.dumps([plain(config), str(workdir)], sort_keys=True))
    with processes.together():
        check_same(workdir, config)

    # Data.
    with processes.together():
        made = prepare_data(config, quiet).absolute() if processes.is_first() else Path()
    folder = Path(processes.exchange(str(made))[0]) if processes.count() > 1 else made
    with processes.together():
        processes.check_seen(folder / "manifest.json")
    given = training.open_data(config, task, folder, devices)
    with processes.together():
        check_same_data(workdir, given.facts["data_hash"])
    settings, total = config.train, training.number_of_steps(config, given)

    # Network and steps. The run folder is touched only when everything that can be checked has been.
    schedule = steps.build_schedule(settings.schedule, settings.learning_rate, settings.warmup_steps, total)
    running = session.build(config, task, given.facts, devices, schedule, given.on_device)
    with processes.together():
        training.check_memory(config, given, running, total)
    with processes.together():
        if processes.is_first():
            write_task(workdir, config, given.facts)
    with processes.together():
        processes.check_seen(workdir / "task.json")
    if not quiet:
        print(session.summary(config, task))
        print(training.sizes(config, given))
        print("\n".join([*task.describe(given.facts), session.describe(config, running, given.on_device)]))

    loop(config, task, given, running, total, workdir, began, quiet, profiled)
    title, out = f"{config.model.name}, {running.parameters:,} parameters", workdir / "evaluation"
    with processes.together():
        if processes.is_first():
            out.mkdir(exist_ok=True)
            plots.training_curves(log.read_log(workdir), title, task.metric_name, task.metric_label, out / "training")
    with processes.together():
        evaluate(workdir, quiet=quiet)
    return open_run(workdir)


def loop(
    config: ConfigDict,
    task: "Task",
    given: "training.TrainingData",
    running: "Session",
    total: int,
    workdir: Path,
    began: float,
    quiet: bool,
    profiled: int,
) -> None:
    """Train from the newest checkpoint, or from initial values, to step `total` or until nothing improves."""
    import jax

    from jaxhep import profile, steps, training
    from jaxhep.checkpoint import Checkpoints

    with contextlib.ExitStack() as closing:
        checkpoints = closing.enter_context(contextlib.closing(Checkpoints(workdir)))
        restored = checkpoints.restore_latest(running.like)
        state = running.place(jax.jit(running.make_state)()) if restored is None else restored
        first, settings = steps.step_of(state), config.train
        record = log.provenance(
            **given.facts,
            simulation=given.simulation,
            trainable_parameters=running.parameters,
            members=running.members,
            events={"train": len(given.train), "validation": len(given.validation)},
            data_on_device=given.on_device,
            continued_from=None if restored is None else first,
            events_per_second=None,
        )
        journal = closing.enter_context(contextlib.closing(log.Log(workdir, first, processes.is_first())))
        done = training.has_converged(state, settings.patience) or first >= total
        if not quiet:
            going_on = (
                ""
                if restored is None
                else f", finished at step {first} before"
                if done
                else f", continuing at step {first}"
            )
            print(f"{given.batches.steps_per_epoch} steps an epoch{going_on}")
        if done:
            return  # what made the run stays on record when a finished one is only evaluated again
        if processes.is_first():
            write_json(workdir / "provenance.json", record)
        progress = training.Progress(config, running.members, first, total, began, quiet)
        closing.callback(progress.bar.close)
        stop, trace = StopFlag(), profile.Trace(workdir / "profile", profiled * processes.is_first())
        closing.callback(stop.restore)
        closing.callback(lambda: trace.stop(state))

        pending, saved_at, agree = None, time.perf_counter(), processes.Agreement(running.devices)
        for batch, count in training.feed(config, given, running, first, total):
            trace.before_dispatch(state)
            state, metrics = running.train(state, batch)
            if pending is not None:
                training.check_finite(pending, progress.step)  # a dispatch late, so that the device never waits
            pending = metrics
            progress.dispatched(state, count)
            epoch_ends = progress.step % given.batches.steps_per_epoch == 0 or progress.step == total
            due, validation_loss = time.perf_counter() - saved_at > settings.checkpoint_seconds, float("inf")
            stopping, due = agree(stop.wanted or 0, due, epoch_ends)
            if epoch_ends or stopping or due:
                training.check_finite(metrics, progress.step)
                if epoch_ends:
                    state, numbers = training.end_epoch(config, task, given, running, state, metrics)
                    validation_loss = numbers["validation_loss"]
                    journal.write(progress.step, **numbers)
                    progress.epoch(numbers)
                checkpoints.save(running.place(state) if processes.count() > 1 else state, validation_loss)
                saved_at = time.perf_counter()
            if stopping:
                checkpoints.wait()
                text = f"{signal.Signals(stopping).name}: saved at step {progress.step}; the same command continues"
                raise Stopped(text, 128 + stopping)
            if epoch_ends and training.has_converged(state, settings.patience):
                break
        finished = {"finished_at_step": progress.step, "seconds": time.perf_counter() - began}
        if processes.is_first():
            write_json(workdir / "provenance.json", record | progress.rates() | finished)


def main(argv: list[str] | None = None) -> int:
    """Command line of the verb."""
    options = cli.parser("train", __doc__)
    options.add_argument("--summary", action="store_true", help="print the parameter table of the network and stop")
    options.add_argument("--print_config", action="store_true", help="print the resolved config and stop")
    options.add_argument(
        "--profile", type=int, default=0, metavar="N", help="trace N dispatches into <workdir>/profile"
    )
    options.add_argument("--distributed", default="auto", metavar="auto|off", help="join other processes (auto)")
    options.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, where no cluster is detected")
    options.add_argument("--processes", type=int, metavar="N", help="how many processes train together")
    options.add_argument("--process", type=int, metavar="I", help="number of this one, from 0")
    command = cli.parse(options, argv)
    if command is None:
        return 0
    if command.options.profile < 0:
        options.error(f"--profile is {command.options.profile}, wanted at least 0 dispatches")
    if command.options.print_config:
        print(json.dumps(plain(command.config), indent=2))
        return 0
    if command.options.summary:
        from jaxhep import session

        print(session.summary(command.config, detector_of(command.config).task(command.config)))
        return 0
    given = command.options
    processes.start(clusters.find(given.distributed, given.coordinator, given.processes, given.process))
    try:
        with processes.ending():
            train(command.config, command.workdir or f"runs/{command.name}", profiled=given.profile)
    except Stopped as stopped:
        if processes.is_first():
            print(stopped, flush=True)
        return stopped.status
    return 0


cli.callable_module(__name__, train)
if __name__ == "__main__":
    sys.exit(cli.run_main(main, huge_pages=True))
