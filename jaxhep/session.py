"""Config, facts and devices -> network, compiled steps and where the state lies: the same for all that runs a network.

The kernels of the network follow the platform of the devices given, not of this process, so that programs can be built
for machines that are not there.
"""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from jaxhep import data, device_data, ensemble, models, parallel, processes, steps
from jaxhep.accumulation import check_parts
from jaxhep.checkpoint import shapes
from jaxhep.data import Part
from jaxhep.detectors import detector_of
from jaxhep.errors import BadInput, nearest, one_of
from jaxhep.fields import check_ranges
from jaxhep.kernels import Kernels, choose
from jaxhep.recompute import RECOMPUTE
from jaxhep.task import Task

PLAIN = Kernels()
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
KERNELS = ("auto", "xla")
OURS = ("parent", "name", "kernels", "dtype", "param_dtype", "axis_name")  # arguments that no config sets


class Network(NamedTuple):
    """What steps are made of, on any device: pure functions."""

    init: Callable[[Any], steps.State]  # seed -> state; seeds may be traced
    train_step: Callable[[Callable], Callable]  # schedule -> (state, batch) -> (state, metrics)
    score_step: Callable  # (state, batch) -> outputs and, of a batch with weights, sums


class Session(NamedTuple):
    """A network on its devices."""

    devices: list[jax.Device]
    members: int
    train: Any  # (state, batches) -> (state, metrics); None where no schedule was given
    score: Callable[[steps.State, steps.Batch], dict[str, Any]]
    place: Callable[[steps.State], steps.State]
    make_state: Callable[[], steps.State]
    like: steps.State  # shapes and shardings of a placed state
    kept: Any  # sharding of columns that are kept on the devices
    part: Part  # of a training batch that this process reads
    scored: Part  # of a batch to be scored that it reads
    give: Callable[[steps.Batch], steps.Batch]  # parts of all processes -> training batches

    @property
    def parameters(self) -> int:
        """Trainable parameters of one member."""
        return models.trainable_parameters(self.like.params) // self.members


def build(
    config: ConfigDict,
    task: Task,
    facts: dict[str, Any],
    devices: list[jax.Device],
    schedule: Callable | None = None,
    keep: bool = False,
) -> Session:
    """Return the session of a config on devices; without a schedule it only scores, by jit.

    `facts` are those of task.json: scaling of the input and what the loss needs. `keep`: training gathers its batches
    from columns on the devices. Nothing is compiled before its first call.
    """
    seeds, group = ensemble.seeds(config), config.ensemble.group
    members = len(seeds)
    kind = config.parallel.kind if schedule else "jit"
    network = build_network(config, task, facts, devices[0].platform, parallel.AXIS if kind == "pmap" else None)
    train_step = None
    if schedule is not None:
        train_step = ensemble.train_together(network.train_step(schedule), members, group)
    score_step = ensemble.score_together(network.score_step, members, group)
    run = parallel.build_parallel(kind, devices, train_step, score_step, members, group, keep)
    make_state = ensemble.stack(network.init, seeds)
    like = shapes(make_state, run.sharding)
    made = (make_state, like, run.kept, run.part, run.scored, run.give)
    return Session(devices, members, run.train, run.evaluate, run.place, *made)


def build_network(
    config: ConfigDict, task: Task, facts: dict[str, Any], platform: str, axis_name: str | None = None
) -> Network:
    """Return the network of a config for a platform; `axis_name` is the device axis under pmap."""
    settings = config.train
    optimiser = steps.build_optimiser(settings.weight_decay, settings.clip_norm, settings.flat_optimiser)
    inputs, loss = task.inputs(facts["scaling"]), task.loss(facts)
    loops = settings.steps_per_dispatch * settings.accumulate
    ours = settings.kernels == "auto"
    in_training = choose(platform, loops, config.ensemble.members, ours)
    outside_loops = choose(platform, 1, config.ensemble.members, ours)
    plain = build_model(config, task)  # initial values depend on no kernels and no device axis
    over = axis_name if config.parallel.batch_norm == "global" else None  # whom statistics are shared with
    model = build_model(config, task, in_training, over)

    def init(seed: Any) -> steps.State:
        return steps.init_state(plain, optimiser, inputs, task.example(1), seed, settings.average_decay > 0)

    def train_step(schedule: Callable) -> Callable:
        chosen = (inputs, loss, schedule, settings.average_decay, axis_name, task.metric, task.augment)
        return steps.make_train_step(model, optimiser, *chosen, settings.accumulate, settings.recompute)

    scoring = build_model(config, task, outside_loops)
    score_step = steps.make_eval_step(scoring, inputs, loss, task.metric, task.decode)
    return Network(init, train_step, score_step)


def build_model(config: ConfigDict, task: Task, kernels: Kernels = PLAIN, axis_name: str | None = None) -> nn.Module:
    """Return the network of `config.model`, by default in plain kernels.

    Raises BadInput for an unknown network, dtype or argument, with the nearest name.
    """
    name, dtype = config.model.name, config.model.dtype
    one_of(name, task.networks, "config.model.name")
    one_of(dtype, DTYPES, "config.model.dtype")
    make: Any = task.networks[name]
    module: Any = make.func if isinstance(make, partial) else make
    ours = (*OURS, *task.arguments)  # what the task needs of it is no choice
    known = [field.name for field in fields(module) if field.name not in ours]
    settings = config.model.settings.to_dict()
    if "kernels" in settings and "kernel_sizes" in known:  # as configs of earlier versions have it
        settings["kernel_sizes"] = settings.pop("kernels")
    for setting in settings:
        if setting not in known:
            raise BadInput(f"config.model.settings.{setting}: no such argument of {name}{nearest(setting, known)}")
    return make(dtype=DTYPES[dtype], kernels=kernels, axis_name=axis_name, **settings, **task.arguments)


def summary(config: ConfigDict, task: Task) -> str:
    """Return the table of the network's parameters.

    Raises BadInput where the network finds, on the shapes of its first input, that its arguments do not fit together.
    """
    try:
        return models.summary(build_model(config, task), (1, *task.input_shape))
    except BadInput:
        raise
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise BadInput(f"config.model.settings of {config.model.name}: {error}") from None


def check(config: ConfigDict) -> tuple[Task, list[jax.Device]]:
    """Return task and devices of a config for training.

    Raises BadInput for whatever can be found wrong before anything is simulated, read or compiled.
    """
    detector, settings = detector_of(config), config.train
    check_ranges(config, detector.fields)
    one_of(settings.order, data.ORDERS, "config.train.order")
    one_of(settings.recompute, RECOMPUTE, "config.train.recompute")
    one_of(settings.kernels, KERNELS, "config.train.kernels")
    one_of(config.parallel.batch_norm, ("global", "device"), "config.parallel.batch_norm")
    if config.parallel.batch_norm == "device" and config.parallel.kind != "pmap":
        wanted = "config.parallel.kind=pmap: by jit the batch of all devices is one"
        raise BadInput(f"config.parallel.batch_norm is 'device', which wants {wanted}")
    task = detector.task(config)
    detector.evaluation.check(config)
    ensemble.seeds(config)
    devices = parallel.choose_devices(config.parallel.kind, config.parallel.devices, settings.batch_size)
    check_parts(settings.accumulate, settings.batch_size, len(devices))
    device_data.check(config)
    steps.build_schedule(settings.schedule, settings.learning_rate, settings.warmup_steps, 1)
    summary(config, task)  # only shapes are computed
    return task, devices


def describe(config: ConfigDict, running: Session, on_device: bool) -> str:
    """Return a line on what runs where."""
    text = f"{len(running.devices)} x {running.devices[0].device_kind} by {config.parallel.kind}"
    text += f" in {processes.count()} processes" if processes.count() > 1 else ""
    text += f", batch {config.train.batch_size}" + (", data on the device" if on_device else "")
    return text + (f", {running.members} members" if running.members > 1 else "")


def scoring_devices(config: ConfigDict) -> list[jax.Device]:
    """Return the devices that score: those of the config, or as many as there are."""
    return parallel.available(config.parallel.devices)


def scoring_batch(config: ConfigDict, devices: list[jax.Device]) -> int:
    """Return events scored at a time: config.evaluate.batch_size, more where it does not divide among the devices."""
    return -(-config.evaluate.batch_size // len(devices)) * len(devices)  # the last batch is padded anyway


def score_all(session: Session, state: steps.State, batches: Any, events: int) -> np.ndarray:
    """Return the outputs of `events` events (n, ...), or of N members (N, n, ...), whose batches are padded.

    Raises FloatingPointError naming the first event whose output is not finite.
    """
    parts: list[np.ndarray] = []
    pending = None
    for batch in batches:
        found = session.score(state, batch)["outputs"]
        if pending is not None:  # read one batch late, so that the device never waits for the host
            parts.append(np.asarray(pending))
        pending = found
    if pending is None:
        raise BadInput("no events to score")
    parts.append(np.asarray(pending))
    several = session.members > 1
    outputs = np.concatenate(parts, axis=1 if several else 0)
    outputs = outputs[:, :events] if several else outputs[:events]
    wrong = np.argwhere(~np.isfinite(outputs))
    if len(wrong):
        event = wrong[0][1 if several else 0]
        raise FloatingPointError(f"the network's score of event {event} is not finite ({len(wrong)} such values)")
    return outputs
