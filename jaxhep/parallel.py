"""The same step on one device, on all devices by jit over a mesh, or by pmap."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxhep.errors import BadInput, nearest
from jaxhep.steps import Batch, State, scan_steps

AXIS = "data"  # name of the device axis, for BatchNorm and gradients under pmap
KINDS = ("jit", "pmap")


class Parallel(NamedTuple):
    """How steps run: `train` takes batches stacked (K, B, ...), `evaluate` one batch (B, ...)."""

    devices: int
    train: Callable[[State, Batch], tuple[State, dict[str, Any]]]
    evaluate: Callable[[State, Batch], dict[str, Any]]
    place: Callable[[State], State]  # state -> the same state on every device
    sharding: NamedSharding  # of a placed state, for restoring checkpoints


def local_devices() -> list[jax.Device]:
    """Return the devices of this host."""
    return jax.local_devices()


def choose_devices(kind: str, count: int, batch_size: int) -> list[jax.Device]:
    """Return the local devices to use (all for count 0).

    Raises BadInput for an unknown kind, more devices than there are, or a batch that does not divide among them.
    """
    if kind not in KINDS:
        raise BadInput(f"config.parallel.kind is {kind!r}, wanted one of {', '.join(KINDS)}{nearest(kind, KINDS)}")
    devices = local_devices()
    if count > len(devices):
        raise BadInput(f"config.parallel.devices is {count}, this host has {len(devices)} ({devices[0].platform})")
    devices = devices[: count or None]
    if batch_size % len(devices):
        raise BadInput(f"config.train.batch_size {batch_size} does not divide among {len(devices)} devices")
    return devices


def build_parallel(kind: str, devices: list[jax.Device], train_step: Callable, eval_step: Callable) -> Parallel:
    """Compile both steps for the devices; the state is donated, so the caller must not reuse the old one.

    jit: the batch is split over a mesh, the state replicated, and statistics are those of the whole batch.
    pmap: the step must have been made with axis_name=AXIS, so that it averages gradients and BatchNorm itself.
    """
    mesh = Mesh(np.array(devices), (AXIS,))
    replicated = NamedSharding(mesh, PartitionSpec())
    events = NamedSharding(mesh, PartitionSpec(AXIS))

    def place(state: State) -> State:
        return jax.device_put(state, replicated)

    if kind == "jit":
        train = jax.jit(
            scan_steps(train_step),
            in_shardings=(replicated, NamedSharding(mesh, PartitionSpec(None, AXIS))),
            out_shardings=(replicated, replicated),
            donate_argnums=0,
        )
        evaluate = jax.jit(eval_step, in_shardings=(replicated, events), out_shardings=replicated)
        return Parallel(len(devices), train, evaluate, place, replicated)

    def evaluate_shard(state: State, batch: Batch):
        result = eval_step(state, batch)
        logits = jax.lax.all_gather(result.pop("logits"), AXIS, tiled=True)
        return jax.lax.psum(result, AXIS) | {"logits": logits}

    # in_axes=None keeps one logical copy of the state on all devices: no leading device axis to add or strip.
    pmap_train = jax.pmap(scan_steps(train_step), AXIS, in_axes=(None, 1), out_axes=None, devices=devices)  # type: ignore[arg-type]
    pmap_evaluate = jax.pmap(evaluate_shard, AXIS, in_axes=(None, 0), out_axes=None, devices=devices)  # type: ignore[arg-type]

    def split(batch: Batch, axis: int) -> Batch:
        def cut(array):
            shape = array.shape
            return array.reshape(*shape[:axis], len(devices), shape[axis] // len(devices), *shape[axis + 1 :])

        return {name: cut(array) for name, array in batch.items()}

    return Parallel(
        len(devices),
        lambda state, batches: pmap_train(state, split(batches, 1)),
        lambda state, batch: pmap_evaluate(state, split(batch, 0)),
        place,
        replicated,
    )
