"""Training steps on a number of devices, in a process of their own: requests are JSON lines on stdin, replies on stdout.

Started by `benchmarks.scaling`, as the number of fake CPU devices is fixed when JAX starts. `{"set_up": program}`
compiles and runs three steps; `{"run": index, "dispatches": n}` times the program of that index. With the argument
`probe` the process says what devices there are and ends. B batch over all devices, K steps in a dispatch.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple

import numpy as np

CHECKED_STEPS = 3  # whose losses are compared
LEARNING_RATE = 1e-4  # small: Adam makes full steps of gradients that are rounding alone, as of a bias before BatchNorm
POINTS = 800
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Program(NamedTuple):
    """A compiled training step with its state and data."""

    run: Callable[[int], float]  # dispatches -> seconds
    facts: dict[str, Any]


def made_up_batch(model: str, events: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return random sparse showers (B, 18, 72, 1) with labels (B,); for PointNet points (B, 800, 3) and z (B, 1), mm.

    The first events of a larger batch are those of a smaller one.
    """
    generator = np.random.default_rng(seed)
    if model == "pointnet":
        vertex = generator.uniform(-1000, 1000, (events, 1))
        points = generator.normal(0, 100, (events, POINTS, 3)) + np.stack([0 * vertex, 0 * vertex, vertex / 10], -1)
        return {"input": points.astype(np.float32), "label": (vertex / 10).astype(np.float32)}
    distance = np.abs(np.arange(72) - generator.uniform(10, 62, (events, 1, 1)))
    energy = generator.exponential(10.0, (events, 18, 72)) * np.exp(-distance / 2)
    cells = np.log1p(np.where(energy > 0.3, energy, 0))[..., None]
    return {"input": cells.astype(np.float32), "label": (np.arange(events) % 2).astype(np.float32)}


def build(program: dict, initial: dict) -> Program:
    """Set a program up: keys model, devices, whole_batch, parallel (jit, pmap), dtype, steps_per_dispatch.

    `initial` keeps states before the first step, in the host's memory, for the programs that follow. Raises BadInput where the devices or the memory are not there.
    """
    import jax
    import jax.numpy as jnp
    import optax

    from jaxhep import ensemble, parallel, steps
    from jaxhep.errors import BadInput
    from jaxhep.models import MODELS

    name, whole, count = program["model"], program["whole_batch"], program["steps_per_dispatch"]
    devices = parallel.choose_devices(program["parallel"], program["devices"], whole)
    axis = parallel.AXIS if program["parallel"] == "pmap" else None
    network: Any = MODELS[name]
    module: Any = network.func if isinstance(network, partial) else network
    of_axis = {"axis_name": axis} if axis and "axis_name" in {field.name for field in fields(module)} else {}
    dtype = jnp.dtype(program["dtype"])

    def inputs(batch):
        return batch["input"]

    def loss(outputs, batch):
        if name == "pointnet":
            return jnp.mean(optax.huber_loss(outputs, batch["label"]), axis=-1)
        return optax.sigmoid_binary_cross_entropy(outputs, batch["label"])

    optimiser, model = steps.build_optimiser(), network(dtype=dtype, **of_axis)
    train_step = steps.make_train_step(
        model, optimiser, inputs, loss, lambda step: jnp.float32(LEARNING_RATE), axis_name=axis
    )
    run = parallel.build_parallel(program["parallel"], devices, train_step, steps.make_eval_step(model, inputs, loss))
    if (name, program["dtype"]) not in initial:  # compiling it takes as long as compiling the step
        example, plain = made_up_batch(name, 1), network(dtype=dtype)
        made = jax.jit(lambda: steps.init_state(plain, optimiser, inputs, example, 0))()
        initial[name, program["dtype"]] = jax.tree.map(np.asarray, made)
    state = run.place(initial[name, program["dtype"]])
    batch: Any = made_up_batch(name, whole)
    batch = {key: np.repeat(values[None], count, axis=0) for key, values in batch.items()}
    facts: dict[str, Any] = {"devices_used": len(devices), "memory_per_device": None, "data": "host"}
    train, began = run.train, time.perf_counter()
    if program["parallel"] == "jit":
        train = run.train.lower(state, batch).compile()
        facts["compile_s"] = time.perf_counter() - began
        facts["collectives"] = collectives(train.as_text())
        needed = train.memory_analysis()
        if needed is not None:
            facts["memory_per_device"] = needed.argument_size_in_bytes + needed.temp_size_in_bytes
            all_devices = facts["memory_per_device"] * (len(devices) if devices[0].platform == "cpu" else 1)
            free = ensemble.free_bytes(devices[0])
            if free is not None and all_devices > free:
                raise BadInput(f"needs {all_devices / 1e9:.3g} GB of memory, {free / 1e9:.3g} GB are free")
        batch = jax.device_put(batch, train.input_shardings[0][1])
        facts["data"] = "device"  # pmap's batches are cut up on the host, as in training
    wait_for_each = devices[0].platform == "cpu"  # fake devices wait for each other in one pool of threads

    def dispatches(number: int) -> float:
        nonlocal state
        start = time.perf_counter()
        for _ in range(number):
            state, metrics = train(state, batch)
            if wait_for_each:
                jax.block_until_ready(metrics)
        jax.block_until_ready(state)
        return time.perf_counter() - start

    losses: list[float] = []
    while len(losses) < CHECKED_STEPS:
        state, metrics = train(state, batch)
        losses += np.asarray(metrics["loss"], np.float64).tolist()
    facts.setdefault("compile_s", time.perf_counter() - began)  # of pmap with its first steps
    facts |= {"losses": losses[:CHECKED_STEPS], "dispatch_s": dispatches(1)}
    if devices[0].platform != "cpu":
        peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in devices]
        facts["allocator_peak"] = max((peak for peak in peaks if peak is not None), default=None)
    return Program(dispatches, facts)


def collectives(text: str) -> dict[str, int]:
    """Return how often a compiled program has each collective operation.

    Data parallelism needs all-reduce alone; an all-gather or all-to-all tells of a formulation that the compiler could
    not split among the devices.
    """
    counts = {name: len(re.findall(rf" {name}(?:-start)?\(", text)) for name in COLLECTIVES}
    return {name: count for name, count in counts.items() if count}


def probe() -> dict[str, Any]:
    """Return platform, kind and number of this host's devices."""
    import jax

    devices = jax.local_devices()
    return {"platform": devices[0].platform, "device_kind": devices[0].device_kind, "available": len(devices)}


def serve() -> None:
    """Answer requests until stdin closes; a failed set-up is an answer too."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr, not between the replies
    programs: list[Program] = []
    initial: dict = {}
    if sys.argv[1:] == ["probe"]:
        print(json.dumps(probe()), file=replies, flush=True)
        return
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "set_up" in request:
                programs.append(build(request["set_up"], initial))
                answer = {"index": len(programs) - 1, **programs[-1].facts}
            else:
                answer = {"seconds": programs[request["run"]].run(request["dispatches"])}
        except Exception as error:  # any failure is a result: the row is skipped with this reason
            answer = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        print(json.dumps(answer), file=replies, flush=True)


if __name__ == "__main__":
    serve()
