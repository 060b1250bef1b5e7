"""What a cell of a benchmark is in JAX: its network, its step, and the compiled program that is timed.

B batch, K steps per dispatch, N members of an ensemble, D devices.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.events import events_of
from benchmarks.machine import version
from benchmarks.process import Program, dispatched
from jaxhep import ensemble, steps
from jaxhep.compiled import options
from jaxhep.kernels import Kernels, attention, choose
from jaxhep.kernels.partition import sharing
from jaxhep.models import MODELS

ATTENTION = {"explicit": attention.attention, "by_head": attention.by_head, "fused": attention.fused}
RESIDENT = 8192  # events whose columns lie on the device where batches are gathered there
AXIS = "data"
LEARNING_RATE = 1e-4  # small: Adam makes full steps of gradients that are rounding alone, as of a bias before BatchNorm


def build_network(cell: dict, platform: str, axis_name: str | None = None) -> Any:
    """Return the network of a cell as the package builds it for a platform, or with the operations that it names.

    The only place of the benchmarks that builds one. `formulation` is "plain" (nothing but XLA's own operations), "one
    step" (what is best for that), or "auto" (what is best in loops); `attention` is "auto" or one of ATTENTION.
    """
    written, in_loops = cell.get("formulation", "auto"), 1 if cell.get("formulation") == "one step" else 2
    kernels = Kernels() if written == "plain" else choose(platform, in_loops, cell.get("members", 1))
    kind = cell.get("attention", "auto")
    if kind != "auto":
        by_cudnn = kind == "fused" and platform == "gpu"
        kernels = kernels._replace(attention=attention.by_cudnn if by_cudnn else ATTENTION[kind])
    build: Any = MODELS[cell["model"]]
    return build(dtype=jnp.dtype(cell["dtype"]), kernels=kernels, axis_name=axis_name, **cell.get("settings", {}))


def compiler_options(cell: dict, platform: str) -> dict[str, str | bool] | None:
    """Return XLA's options for a cell: those of the package, unless XLA's own schedule is asked for."""
    # pmap takes no options of the compiler.
    return None if cell["parallel"] == "pmap" or cell["schedule"] == "default" else options(platform)


def inputs(batch: dict) -> Any:
    """Return the network's input."""
    return batch["image"]


def loss_of(model: str) -> steps.Loss:
    """Return the loss of each event: Huber's of the vertex, or cross entropy of the label."""
    if model == "pointnet":
        return lambda outputs, batch: jnp.mean(optax.huber_loss(outputs, batch["label"]), axis=-1)
    return lambda logits, batch: optax.sigmoid_binary_cross_entropy(logits, batch["label"])


def train_step(cell: dict, network: Any, optimiser: optax.GradientTransformation, axis_name: str | None = None) -> Any:
    """Return the package's training step of a cell, (state, batch) -> (state, metrics)."""
    options = {"parts": cell.get("parts", 1), "recompute": cell.get("recompute", "nothing")}
    return steps.make_train_step(
        network,
        optimiser,
        inputs,
        loss_of(cell["model"]),
        lambda step: jnp.float32(LEARNING_RATE),
        axis_name=axis_name,
        **options,
    )


def build_step(cell: dict, network: Any, optimiser: optax.GradientTransformation, axis_name: str | None) -> Any:
    """Return what one dispatch runs, (state, data) -> (state, metrics) or outputs; `data` are as in `lay_out`."""
    members, several = cell["members"], cell["steps_per_dispatch"] > 1
    if cell["mode"] == "train":
        step = ensemble.train_together(train_step(cell, network, optimiser, axis_name), members, 0)
        if cell["data"] == "gathered":
            return lambda state, data: steps.gather_steps(step)(state, *data)
        return steps.scan_steps(step) if several else step

    def infer(state: steps.State, batch: dict) -> jax.Array:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        return network.apply(variables, inputs(batch), train=False)

    together = ensemble.train_together(infer, members, 0)
    if several:
        return lambda state, batches: jax.lax.map(lambda batch: together(state, batch), batches)
    return together


def lay_out(cell: dict, devices: int) -> tuple[Any, int]:
    """Return what each dispatch is fed, as NumPy arrays, and the axis of events that is split among devices.

    A batch is (B, ...), (N, B, ...) for members and (K, B, ...) for several steps; gathered data are the pair of
    columns (events, ...) and orders (K, B). For pmap the leading axis is (D, B / D, ...). Raises ValueError for a
    batch that does not divide among the devices.
    """
    batch, members, count = cell["batch"], cell["members"], cell["steps_per_dispatch"]
    if batch % devices:
        raise ValueError(f"a batch of {batch} does not divide among {devices} devices")
    if cell["data"] == "gathered":
        random = np.random.default_rng(1)
        orders = random.permuted(np.tile(np.arange(max(RESIDENT, batch)) % RESIDENT, (count, 1)), axis=1)[:, :batch]
        return (events_of(cell, RESIDENT), orders.astype(np.int32)), 1
    arrays = events_of(cell, batch)
    if cell["parallel"] == "pmap":
        return {name: array.reshape(devices, -1, *array.shape[1:]) for name, array in arrays.items()}, 0
    leading = [size for size in (count, members) if size > 1]
    return {name: np.tile(array, (*leading, *(1,) * array.ndim)) for name, array in arrays.items()}, len(leading)


def shardings(cell: dict, devices: list[jax.Device], axis: int) -> tuple[Any, Any]:
    """Return shardings of state and data over a mesh: the state everywhere, events split along their axis."""
    mesh = Mesh(np.array(devices), (AXIS,))
    everywhere = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec(*(None,) * axis, AXIS))
    return everywhere, (everywhere, split) if cell["data"] == "gathered" else split


class Jitted(NamedTuple):
    """A cell before it is compiled: its dispatch, what makes the state, what it is fed, and where both lie."""

    program: Any  # (state, data) -> (state, metrics) or outputs
    make_state: Callable[[], Any]
    data: Any
    of_state: Any  # a sharding, None for one device
    of_data: Any


def jit_cell(cell: dict, devices: list[jax.Device]) -> Jitted:
    """Return the dispatch of a cell for devices, which need not be there."""
    platform = devices[0].platform
    by_pmap, training = cell["parallel"] == "pmap", cell["mode"] == "train"
    axis_name = AXIS if by_pmap else None
    optimiser = steps.build_optimiser(flat=cell["flat"])
    # Without the device axis, which initial values know nothing of; in plain kernels, which every machine has.
    plain, one = build_network(cell | {"formulation": "plain", "attention": "auto"}, platform), events_of(cell, 2)
    make = ensemble.stack(
        lambda seed: steps.init_state(plain, optimiser, inputs, one, seed), np.arange(cell["members"])
    )
    over = axis_name if cell.get("batch_norm", "global") == "global" else None
    step = build_step(cell, build_network(cell, platform, over), optimiser, axis_name)
    data, axis = lay_out(cell, len(devices))

    donated = (0,) if training else ()
    of_state, of_data = shardings(cell, devices, axis) if by_pmap or len(devices) > 1 else (None, None)
    if by_pmap:
        # One logical copy of the state on all devices, as in jaxhep.parallel.
        out_axes: Any = None if training else 0
        jitted: Any = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=out_axes, devices=devices)  # type: ignore[arg-type]
    elif len(devices) > 1 and cell["members"] > 1 and cell["members"] % len(devices) == 0:
        # Members shared out, as in jaxhep.parallel.
        mesh, lead = Mesh(np.array(devices), (AXIS,)), (None,) * (cell["steps_per_dispatch"] > 1)
        own, each = PartitionSpec(AXIS), PartitionSpec(*lead, AXIS)
        out = (own, each) if training else each
        jitted = jax.jit(
            jax.shard_map(step, mesh=mesh, in_specs=(own, each), out_specs=out, check_vma=False), donate_argnums=donated
        )
        of_state, of_data = NamedSharding(mesh, own), NamedSharding(mesh, each)
    elif len(devices) > 1:
        outputs = (of_state, of_state) if training else None
        shared = sharing(Mesh(np.array(devices), (AXIS,)), step)
        jitted = jax.jit(shared, in_shardings=(of_state, of_data), out_shardings=outputs, donate_argnums=donated)
    else:
        jitted = jax.jit(step, donate_argnums=donated)
    return Jitted(jitted, make, data, of_state, of_data)


def set_up(cell: dict) -> Program:
    """Compile a cell of the throughput benchmark."""
    platform = jax.local_devices()[0].platform
    devices = jax.local_devices()[: cell["devices"] or (1 if platform == "cpu" else None)]
    training = cell["mode"] == "train"
    jitted, make, data, of_state, of_data = jit_cell(cell, devices)
    state = jax.device_put(jax.jit(make)(), of_state)
    fed = data if cell["data"] == "host" else jax.device_put(data, of_data)
    start = time.perf_counter()
    compiled = jitted.lower(state, fed).compile(compiler_options=compiler_options(cell, platform))
    seconds = time.perf_counter() - start

    # Several programs with sums over made-up devices can block one another, as their threads are few.
    one_by_one = platform == "cpu" and len(devices) > 1

    def run(dispatches: int) -> None:
        nonlocal state
        for _ in range(dispatches):
            out = compiled(state, fed)
            if training:
                state, out = out
            if one_by_one:
                jax.block_until_ready(out)
        jax.block_until_ready(out)

    def peak_bytes() -> int:
        if platform == "cpu":
            return 0
        return max((device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in devices)

    facts = {"device": f"{platform} {devices[0].device_kind}", "devices": len(devices), "compile_s": seconds}
    facts |= {name: version(name) for name in ("jax", "jaxlib", "flax", "optax")}
    events = cell["steps_per_dispatch"] * cell["batch"] * cell["members"]
    return dispatched(facts, run, events, platform == "cpu", peak_bytes)
