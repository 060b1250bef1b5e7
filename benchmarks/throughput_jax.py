"""A variant of the throughput benchmark in JAX, compiled and ready to run.

B batch, K steps per dispatch, N members of an ensemble, D devices.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.throughput_worker import Prepared, events_of, version
from jaxhep import ensemble, steps
from jaxhep.compiled import options as compiled_options
from jaxhep.models import MODELS

RESIDENT = 8192  # events whose columns lie on the device where batches are gathered there
AXIS = "data"


def inputs(batch):
    """The network's input of a batch."""
    return batch["image"]


def vertex_loss(outputs, batch):
    """Loss of each event of a point cloud."""
    return optax.huber_loss(outputs, batch["label"])


def label_loss(logits, batch):
    """Loss of each shower."""
    return optax.sigmoid_binary_cross_entropy(logits, batch["label"])


def build_step(cell: dict, model, optimiser, axis_name: str | None):
    """The function that one dispatch runs, (state, data) -> (state, metrics) or outputs; `data` are as in `lay_out`."""
    members, count = cell["members"], cell["steps_per_dispatch"]
    if cell["mode"] == "train":
        loss = vertex_loss if cell["model"] == "pointnet" else label_loss
        step = steps.make_train_step(
            model, optimiser, inputs, loss, lambda step: jnp.float32(1e-4), axis_name=axis_name, parts=cell["parts"]
        )
        step = ensemble.train_together(step, members, 0)
        if cell["data"] == "gathered":
            return lambda state, data: steps.gather_steps(step)(state, *data)
        return steps.scan_steps(step) if count > 1 else step

    def infer(state, batch):
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        return model.apply(variables, inputs(batch), train=False)

    together = ensemble.train_together(infer, members, 0)
    if count > 1:
        return lambda state, batches: jax.lax.map(lambda batch: together(state, batch), batches)
    return together


def lay_out(cell: dict, devices: int) -> tuple[Any, int]:
    """What each dispatch is fed, as NumPy arrays, and the axis of events that is split among devices.

    A batch is (B, ...), (N, B, ...) for members and (K, B, ...) for several steps; gathered data are the pair of
    columns (events, ...) and orders (K, B). For pmap the leading axis is (D, B / D, ...).
    """
    batch, members, count = cell["batch"], cell["members"], cell["steps_per_dispatch"]
    if batch % devices:
        raise ValueError(f"a batch of {batch} does not divide among {devices} devices")
    if cell["data"] == "gathered":
        columns = dict(zip(("image", "label"), events_of(cell, RESIDENT), strict=True))
        random = np.random.default_rng(1)
        orders = random.permuted(np.tile(np.arange(max(RESIDENT, batch)) % RESIDENT, (count, 1)), axis=1)[:, :batch]
        return (columns, orders.astype(np.int32)), 1
    arrays = dict(zip(("image", "label"), events_of(cell, batch), strict=True))
    if cell["parallel"] == "pmap":
        return {name: array.reshape(devices, -1, *array.shape[1:]) for name, array in arrays.items()}, 0
    leading = [size for size in (count, members) if size > 1]
    return {name: np.tile(array, (*leading, *(1,) * array.ndim)) for name, array in arrays.items()}, len(leading)


def shardings(cell: dict, devices: list, axis: int) -> tuple[Any, Any]:
    """Shardings of state and data over a mesh: the state everywhere, events split along their axis."""
    mesh = Mesh(np.array(devices), (AXIS,))
    everywhere = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec(*(None,) * axis, AXIS))
    if cell["data"] == "gathered":
        return everywhere, (everywhere, split)
    return everywhere, split


def prepare(cell: dict) -> Prepared:
    """Compile the cell."""
    platform = jax.local_devices()[0].platform
    devices = jax.local_devices()[: cell["devices"] or (1 if platform == "cpu" else None)]
    by_pmap = cell["parallel"] == "pmap"
    axis_name = AXIS if by_pmap else None
    options: dict[str, Any] = {"dtype": jnp.dtype(cell["dtype"]), "formulation": cell["formulation"]}
    if cell["model"] == "cvt":
        options["attention"] = cell["attention"]
    build: Any = MODELS[cell["model"]]
    optimiser = steps.build_optimiser(flat=True) if cell["flat"] else steps.build_optimiser()
    one = dict(zip(("image", "label"), events_of(cell, 2), strict=True))
    # Without the device axis, which initial values know nothing of.
    plain = build(**options)
    make = ensemble.stack(
        lambda seed: steps.init_state(plain, optimiser, inputs, one, seed), np.arange(cell["members"])
    )
    state = jax.jit(make)()
    step = build_step(cell, build(**options, axis_name=axis_name), optimiser, axis_name)
    data, axis = lay_out(cell, len(devices))

    training = cell["mode"] == "train"
    donated = (0,) if training else ()
    of_state, of_data = shardings(cell, devices, axis) if by_pmap or len(devices) > 1 else (None, None)
    if by_pmap:
        # One logical copy of the state on all devices, as in jaxhep.parallel.
        out_axes = None if training else 0
        jitted: Any = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=out_axes, devices=devices)  # type: ignore[arg-type]
    elif len(devices) > 1:
        outputs = (of_state, of_state) if training else None
        jitted = jax.jit(step, in_shardings=(of_state, of_data), out_shardings=outputs, donate_argnums=donated)
    else:
        jitted = jax.jit(step, donate_argnums=donated)
    state = jax.device_put(state, of_state)
    fed = data if cell["data"] == "host" else jax.device_put(data, of_data)
    start = time.perf_counter()
    # pmap takes no options of the compiler.
    compiler_options = None if by_pmap or cell["schedule"] == "default" else compiled_options()
    compiled = jitted.lower(state, fed).compile(compiler_options=compiler_options)
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

    setup = {
        "device": f"{platform} {devices[0].device_kind}",
        "devices": len(devices),
        "jax": jax.__version__,
        "jaxlib": version("jaxlib"),
        "flax": version("flax"),
        "optax": version("optax"),
        "compile_s": seconds,
    }
    return Prepared(setup, run, peak_bytes, lambda: None)
