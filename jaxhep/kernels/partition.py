"""How a kernel of our own runs: on its platform, and on many devices that share a batch.

XLA does not look into such a kernel. Under `jit` over a mesh it gathers the whole batch on every device of a GPU machine,
and on TPUs it refuses the program. So each device is handed its own events by shard_map, which has to know the mesh: the
program is traced in `sharing`. JAX has custom_partitioning for kernels whose mesh is not known; on TPUs it does not work
(jax issue 38196), and it cannot be mapped over members of an ensemble.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType, Mesh, PartitionSpec

Arrays = tuple[jax.Array, ...]
EVENTS, SUMMED, WHOLE = "events", "summed", "whole"


def pallas(call: Callable[[bool], Callable[..., Any]], *arrays: jax.Array) -> Any:
    """Return the results of `call(interpret)(*arrays)`: compiled on an accelerator, interpreted on a CPU.

    `call` makes the `pallas_call` of an accelerator. The platform is that of the program, not of this process. A CPU
    runs kernels of accelerators in tests alone, and slowly.
    """
    return lax.platform_dependent(*arrays, cpu=call(True), default=call(False))


def sharing(mesh: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, whose kernels split events among the devices of this mesh: what is handed to `jax.jit`.

    Not for pmap, nor inside shard_map, where each device has its own events anyway.
    """

    @wraps(function)
    def traced(*arguments: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*arguments)

    return traced


def over_batch(
    function: Callable[..., Arrays], arguments: tuple[str, ...], results: tuple[str, ...]
) -> Callable[..., Arrays]:
    """Return `function`, (*arrays) -> tuple of arrays, so that devices which share a batch each work on their events.

    `arguments` are "events" for an array with a leading axis of events and "whole" for one that every device has.
    `results` are "events" too, or "summed" for a sum over events, which is then one over the devices as well.
    Members of an ensemble are mapped by vmap as ever. Under pmap and inside shard_map `function` sees the events of one
    device, and sums are those of the device. Use it inside a custom_vjp: sums over devices have no derivative here.
    """

    def run(*arrays: jax.Array) -> Arrays:
        mesh = jax.sharding.get_abstract_mesh()
        names = tuple(n for n, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind != AxisType.Manual)
        devices = 1
        for name in names:
            devices *= mesh.shape[name]
        events = {len(array) for array, kind in zip(arrays, arguments, strict=True) if kind == EVENTS}
        if devices == 1 or any(count % devices for count in events):
            return function(*arrays)

        def on_one_device(*arrays: jax.Array) -> Arrays:
            pairs = zip(function(*arrays), results, strict=True)
            return tuple(lax.psum(value, names) if kind == SUMMED else value for value, kind in pairs)

        split, everywhere = PartitionSpec(names), PartitionSpec()
        return jax.shard_map(
            on_one_device,
            mesh=mesh,
            in_specs=tuple(split if kind == EVENTS else everywhere for kind in arguments),
            out_specs=tuple(split if kind == EVENTS else everywhere for kind in results),
            axis_names=set(names),
            check_vma=False,  # kernels do not say how their results vary
        )(*arrays)

    return run
