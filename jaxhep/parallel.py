"""The same step on one device, on all devices by jit over a mesh, or by pmap."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxhep import processes
from jaxhep.compiled import options
from jaxhep.data import Part
from jaxhep.errors import BadInput, one_of
from jaxhep.kernels.partition import sharing
from jaxhep.steps import Batch, State, gather_steps, scan_steps, take_rows

AXIS = "data"  # name of the device axis, for BatchNorm and gradients under pmap
KINDS = ("jit", "pmap")


class Parallel(NamedTuple):
    """How steps run: `train` takes batches stacked (K, B, ...), or (K, N, B, ...) for N members; `evaluate` (B, ...).

    Where columns are kept on the devices, `train` takes {"order": (K, B), "columns": {name: (events, ...)}} instead.
    """

    train: Any  # (state, batches) -> (state, metrics), None of a session that only scores; by jit it can be lowered too
    evaluate: Callable[[State, Batch], dict[str, Any]]
    place: Callable[[State], State]  # state -> the same state on every device, or its members shared among them
    sharding: NamedSharding  # of a placed state, for restoring checkpoints
    kept: NamedSharding  # of columns kept on the devices: whole on each, or their events shared among them
    part: Part = Part()  # of a training batch that this process reads
    scored: Part = Part()  # of a batch to be scored that it reads
    give: Callable[[Batch], Batch] = dict  # parts of all processes -> training batches that `train` takes


def available(count: int = 0) -> list[jax.Device]:
    """Return `count` devices of all processes, as many of each (0, or more than there are: all), by process."""
    if processes.count() == 1:
        return jax.local_devices()[: count or None]
    each: dict[int, list[jax.Device]] = {}
    for device in sorted(jax.devices(), key=lambda device: (device.process_index, device.id)):
        each.setdefault(device.process_index, []).append(device)
    most = min(map(len, each.values()))
    if most != max(map(len, each.values())):
        raise BadInput(f"processes have {most} to {max(map(len, each.values()))} devices, wanted as many in each")
    return [device for own in each.values() for device in own[: max(count // len(each), 1) if count else most]]


def choose_devices(kind: str, count: int, batch_size: int) -> list[jax.Device]:
    """Return the devices to use (all of all processes for count 0).

    Raises BadInput for an unknown kind, more devices than there are, or a batch that does not divide among them.
    """
    one_of(kind, KINDS, "config.parallel.kind")
    devices, several = available(), processes.count()
    if count > len(devices):
        who = "this host has" if several == 1 else f"{several} processes have"
        raise BadInput(f"config.parallel.devices is {count}, {who} {len(devices)} ({devices[0].platform})")
    if count % several:
        raise BadInput(f"config.parallel.devices is {count}, wanted a multiple of the {several} processes")
    devices = available(count)
    if batch_size % len(devices):
        raise BadInput(f"config.train.batch_size {batch_size} does not divide among {len(devices)} devices")
    return devices


def build_parallel(
    kind: str,
    devices: list[jax.Device],
    train_step: Callable | None,
    eval_step: Callable,
    members: int = 1,
    group: int = 0,
    keep: bool = False,
) -> Parallel:
    """Compile both steps for the devices; the state is donated, so the caller must not reuse the old one.

    jit: the batch is split over a mesh, the state replicated, and statistics are those of the whole batch. Members of
    an ensemble that divide among the devices are shared out instead, so that no device waits for another; not where
    they run in groups, which take turns on all devices.
    pmap: the step must have been made with axis_name=AXIS, so that it averages gradients and BatchNorm itself.
    `keep`: training gathers its batches from columns that are on the devices, by jit with their events shared among
    the devices (each sends what others ask for), by pmap and with members shared out whole on each.
    """
    mesh = Mesh(np.array(devices), (AXIS,))
    replicated = NamedSharding(mesh, PartitionSpec())
    shared_out = kind == "jit" and members > 1 and members % len(devices) == 0 and not 0 < group < members
    axis = 1 if members == 1 or shared_out else 2  # of a training batch, to be split among the devices
    states = NamedSharding(mesh, PartitionSpec(AXIS)) if shared_out else replicated

    shard_events = kind == "jit" and not shared_out and len(devices) > 1
    kept = NamedSharding(mesh, PartitionSpec(AXIS)) if shard_events else replicated
    take = take_shared(mesh, members) if shard_events else take_rows

    several = processes.count()
    part = Part(processes.index(), several, shared_out) if several > 1 else Part()

    def place(state: State) -> State:
        return jax.device_put(state, states) if several == 1 else jax.tree.map(put, state)

    def put(array: Any) -> jax.Array:
        """Return an array, the same in every process, as one of all."""
        if isinstance(array, jax.Array) and array.sharding == states:
            return array
        value = np.asarray(array)
        return jax.make_array_from_callback(value.shape, states, lambda chosen: value[chosen])

    def joined(batch: Batch, sharding: NamedSharding) -> Batch:
        """Return what the processes read of a batch as global arrays; columns are such already."""
        if several == 1:
            return batch
        join = jax.make_array_from_process_local_data
        return {name: value if name == "columns" else join(sharding, value) for name, value in batch.items()}

    def train_from(state: State, batches: Batch):
        """Train on batches as they come, or on those that `order` takes from the columns."""
        assert train_step is not None
        if keep:
            return gather_steps(train_step, take)(state, batches["columns"], batches["order"])
        return scan_steps(train_step)(state, batches)

    if kind == "jit":
        batches = NamedSharding(mesh, PartitionSpec(*(None,) * axis, AXIS))
        events = replicated if shared_out else NamedSharding(mesh, PartitionSpec(AXIS))
        train_all, evaluate_all, metrics = train_from, eval_step, replicated
        if len(devices) > 1 and shared_out:
            train_all, evaluate_all = by_members(mesh, train_from, eval_step, keep)
            if several == 1:
                metrics = batches  # (K, N): collected only where a process could not read all of them
        elif len(devices) > 1:
            train_all, evaluate_all = sharing(mesh, train_from), sharing(mesh, eval_step)
        train = jax.jit(
            train_all,
            in_shardings=(states, {"order": batches, "columns": kept} if keep else batches),
            out_shardings=(states, metrics),
            donate_argnums=0,
            compiler_options=options(devices[0].platform),
        )
        evaluate = jax.jit(
            evaluate_all,
            in_shardings=(states, events),
            out_shardings=replicated,
            compiler_options=options(devices[0].platform),
        )
        return Parallel(
            train if train_step else None,
            evaluate if several == 1 else lambda state, batch: evaluate(state, joined(batch, events)),
            place,
            states,
            kept,
            part,
            Part() if shared_out else part,
            lambda batch: joined(batch, batches),
        )

    def evaluate_shard(state: State, batch: Batch):
        result = eval_step(state, batch)
        outputs = jax.lax.all_gather(result.pop("outputs"), AXIS, axis=0 if members == 1 else 1, tiled=True)
        return jax.lax.psum(result, AXIS) | {"outputs": outputs}

    # in_axes=None keeps one logical copy of the state on all devices: no leading device axis to add or strip.
    in_axes: Any = (None, {"order": axis, "columns": None} if keep else axis)
    pmap_train = jax.pmap(train_from, AXIS, in_axes=in_axes, out_axes=None, devices=devices)  # type: ignore[arg-type]
    pmap_evaluate = jax.pmap(evaluate_shard, AXIS, in_axes=(None, 0), out_axes=None, devices=devices)  # type: ignore[arg-type]

    def split(batch: Batch, axis: int) -> Batch:
        def cut(array):
            shape = array.shape
            own = len(devices) // several  # devices of this process, whose part the array is
            return array.reshape(*shape[:axis], own, shape[axis] // own, *shape[axis + 1 :])

        return {name: array if name == "columns" else cut(array) for name, array in batch.items()}

    return Parallel(
        (lambda state, batches: pmap_train(state, split(batches, axis))) if train_step else None,
        lambda state, batch: pmap_evaluate(state, split(batch, 0)),
        place,
        replicated,
        kept,
        part,
        part,
    )


def by_members(mesh: Mesh, train: Callable, evaluate: Callable, keep: bool) -> tuple[Callable, Callable]:
    """Return both steps with each device at work on its own members, none of whom waits for another device.

    Left to XLA, a convolution of several members becomes a grouped one, whose operands it collects on every device.
    """
    own, second, all_of_it = PartitionSpec(AXIS), PartitionSpec(None, AXIS), PartitionSpec()
    batches: Any = {"order": second, "columns": all_of_it} if keep else second
    shard = partial(jax.shard_map, mesh=mesh, check_vma=False)
    return (
        shard(train, in_specs=(own, batches), out_specs=(own, second)),
        shard(evaluate, in_specs=(own, all_of_it), out_specs=own),
    )


def take_shared(mesh: Mesh, members: int) -> Callable:
    """Return `take_rows` for columns whose events are shared among the devices, and batches split among them.

    Every device looks up the whole batch in its own events, and the sum over devices brings each row to its place.
    """
    axis = min(members - 1, 1)  # of the batch in an order

    def take(column: jax.Array, order: jax.Array) -> jax.Array:
        order = jax.lax.all_gather(order, AXIS, axis=axis, tiled=True)
        own = order - jax.lax.axis_index(AXIS) * column.shape[0]
        mine = (own >= 0) & (own < column.shape[0])
        rows = take_rows(column, jnp.clip(own, 0, column.shape[0] - 1))
        # Collectives of 16-bit integers do not exist on every accelerator.
        wide = jnp.promote_types(column.dtype, jnp.int32)
        rows = jnp.where(mine.reshape(*mine.shape, *(1,) * (rows.ndim - mine.ndim)), rows, 0).astype(wide)
        return jax.lax.psum_scatter(rows, AXIS, scatter_dimension=axis, tiled=True).astype(column.dtype)

    spec = PartitionSpec(*(None,) * axis, AXIS)
    return jax.shard_map(take, mesh=mesh, in_specs=(PartitionSpec(AXIS), spec), out_specs=spec)
