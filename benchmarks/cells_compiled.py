"""One program compiled for an accelerator that need not be there, in a process of its own: a row of what it launches.

    echo CELL | python -m benchmarks.cells_compiled      CELL and the row are JSON

A compiler that crashes or runs out of memory takes this process with it, and nothing else.
"""

import json
import re
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks import targets
from benchmarks.bounds import bound, seconds_of
from benchmarks.hlo import computations, loops_of_unknown_length
from benchmarks.launches import COLLECTIVES, Launch, launches
from benchmarks.machine import stamp, version

KEPT = 60  # costs of a row: those of most time
PACKAGES = ("jax", "jaxlib", "flax", "jax-cuda13-pjrt", "libtpu")
SAID = 400  # characters of a compiler's complaint that a row keeps


def row_of(cell: dict) -> dict[str, Any]:
    """Compile a cell for its target; return the row, with `failed` where the compiler refused it."""
    import jax

    name, target = cell["target"], targets.TARGETS[cell["target"]]
    row: dict[str, Any] = {"kind": "compiled", **{key: value for key, value in cell.items() if key not in ("hlo",)}}
    row |= stamp() | {package: version(package) for package in PACKAGES}
    try:
        devices = targets.devices(name, cell["devices"])
        start = time.perf_counter()
        with targets.context(name), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of donated buffers, which say nothing here
            lowered, declared = lower(cell, devices)
            row["trace_s"], start = time.perf_counter() - start, time.perf_counter()
            compiled, row["products"] = compile_for(target.platform, lowered)
        row["compile_s"] = time.perf_counter() - start
    except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError) as error:
        return row | {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:SAID]}"}
    text = compiled.as_text()
    if cell.get("hlo"):
        folder = Path(cell["hlo"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / (file_name(cell) + ".txt")).write_text(text)
    found = launches(text, declared)
    row |= counted(found, target) | {"loops_of_unknown_length": loops_of_unknown_length(*computations(text))}
    memory = compiled.memory_analysis()
    if memory is not None:
        sizes = {part: getattr(memory, f"{part}_size_in_bytes") for part in ("argument", "output", "temp", "alias")}
        row["peak_bytes"] = sizes["argument"] + sizes["output"] + sizes["temp"] - sizes["alias"]
        row["device_bytes"], row["fits"] = target.memory, row["peak_bytes"] <= target.memory
    analysis = compiled.cost_analysis()
    analysis = analysis[0] if isinstance(analysis, list) and analysis else analysis
    row["flops_by_xla"] = (analysis or {}).get("flops")
    events = cell["steps_per_dispatch"] * cell["batch"] * cell["members"]
    row["events_per_s"] = events / row["bound_s"]
    return row


def compile_for(platform: str, lowered: Any) -> tuple[Any, str]:
    """Return the compiled program, and whose kernels multiply on a GPU.

    Without a GPU nothing is tuned, and XLA's own kernels for products fail for some shapes, where a GPU's tuning would
    choose cuBLAS: so do these programs.
    """
    import jax

    if platform != "gpu":
        return lowered.compile(), ""
    try:
        return lowered.compile(), "XLA"
    except jax.errors.JaxRuntimeError as error:
        if "tile sizes" not in str(error):
            raise
        return lowered.compile(compiler_options={"xla_gpu_enable_triton_gemm": False}), "cuBLAS"


def lower(cell: dict, devices: list[Any]) -> tuple[Any, dict[str, float]]:
    """Return a cell lowered for devices, and the operations that kernels of our own declare, by name."""
    import jax

    from benchmarks import cells

    jitted = cells.jit_cell(cell, devices)
    alone = jax.sharding.SingleDeviceSharding(devices[0]) if len(devices) == 1 else None

    def shapes(tree: Any, sharding: Any) -> Any:
        if isinstance(sharding, tuple):
            return tuple(shapes(part, own) for part, own in zip(tree, sharding, strict=True))
        where = None if cell["parallel"] == "pmap" else sharding or alone
        return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=where), tree)

    # State and data have shapes alone: nothing is computed.
    state = shapes(jax.eval_shape(jitted.make_state), jitted.of_state)
    data = shapes(jitted.data, jitted.of_data)
    if cell["parallel"] == "pmap":
        return jitted.program.lower(state, data), declared_flops(jax.make_jaxpr(jitted.program)(state, data).jaxpr)
    traced = jitted.program.trace(state, data)
    return traced.lower(), declared_flops(traced.jaxpr.jaxpr)


def declared_flops(jaxpr: Any) -> dict[str, float]:
    """Return the floating-point operations that Pallas kernels declare as their cost, by the kernel's name."""
    found: dict[str, float] = {}
    for equation in jaxpr.eqns:
        if equation.primitive.name == "pallas_call":
            cost = equation.params.get("cost_estimate")
            named = equation.params.get("name") or getattr(equation.params.get("name_and_src_info"), "name", None)
            if named and cost is not None:
                found[named] = float(cost.flops)
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    found |= declared_flops(inner)
    return found


def counted(found: list[Launch], target: targets.Target) -> dict[str, Any]:
    """Return the sums of all launches: by kind, by type, by layer, and the bound on time."""
    kinds: dict[str, float] = {}
    types: dict[str, float] = {}
    sums: dict[str, dict[str, float]] = {}
    costs: dict[str, list[float]] = {}
    for one in found:
        kinds[one.kind] = kinds.get(one.kind, 0) + one.times
        for kind, count in one.flops.items():
            types[kind] = types.get(kind, 0) + one.times * count
        if one.kind in COLLECTIVES:
            here = sums.setdefault(one.kind, {"number": 0, "bytes": 0})
            here["number"] += one.times
            here["bytes"] += one.times * one.sent
        cost = costs.setdefault(f"{one.kind}: {short(one.layer)}", [0.0, 0.0, 0.0])
        for place, value in enumerate((seconds_of(one, target), one.bytes, 1)):
            cost[place] += one.times * value
    limit = bound(found, target)
    return {
        "kernels": sum(kinds.values()),
        "kernels_by_kind": dict(sorted(kinds.items(), key=lambda pair: -pair[1])),
        "flops": sum(types.values()),
        "flops_by_type": types,
        "bytes": sum(one.times * one.bytes for one in found),
        "collectives": sums,
        "bound_s": limit.seconds,
        "bound_parts_s": {name: value for name, value in limit._asdict().items() if name != "seconds"},
        # Seconds, bytes, launches by kind and layer.
        "costs": dict(sorted(costs.items(), key=lambda pair: -pair[1][0])[:KEPT]),
    }


def short(layer: str) -> str:
    """Return where in the network an operation comes from: pass, layers, operation."""
    back = "backward " if "transpose(" in layer else "forward " if "jvp(" in layer else ""
    names = re.sub(r"\b(?:jit|jvp|transpose|vmap|checkpoint)\(|[()]", "", layer).split("/")
    dull = ("train_step", "train_steps", "infer", "while", "body", "closed_call", "")
    return back + "/".join(name for name in names if name not in dull) or "no name"


def file_name(cell: dict) -> str:
    """Return what tells the text of a program from others."""
    parts = ("target", "model", "mode", "batch", "dtype", "devices", "parallel", "steps_per_dispatch", "members")
    return "_".join(str(cell[part]) for part in parts)


def main() -> None:
    """Read a cell and print its row."""
    cell = json.loads(sys.stdin.read())
    targets.prepare_environment(cell["target"])
    row = row_of(cell)
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
