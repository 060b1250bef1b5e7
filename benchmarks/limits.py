"""Measured ceilings of a machine: the rate of a large matrix product and of a large copy, by JAX or PyTorch.

python -m benchmarks.limits --framework jax

Prints JSON lines of kind "limit": operations per second in float32 and bfloat16, bytes per second read plus written;
each the median of five timings, with their extremes. On one device; a run on several has as many times as much.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

SECONDS = 0.2  # that one product, or one series of copies, takes
REPEATS = 5
START = 512  # side of the first matrix, grown until a product takes long enough
LARGEST = 32768  # side: 4 GiB in float32
COPIED = {"cpu": 2**28, "gpu": 2**33, "tpu": 2**31}  # bytes, far more than any cache holds


def seconds_of(run: Callable[[int], Any], count: int) -> float:
    """Return how long `count` of it take."""
    start = time.perf_counter()
    run(count)
    return time.perf_counter() - start


def repeated(run: Callable[[int], Any], seconds: float) -> tuple[int, list[float]]:
    """Return how many times `run` was done in each timing, so that it takes about `seconds`, and the timings."""
    run(1)
    once = min(seconds_of(run, 1) for _ in range(3))
    count = max(1, round(seconds / max(once, 1e-6)))
    return count, [seconds_of(run, count) for _ in range(REPEATS)]


def grown(multiply: Callable[[str, int], Callable[[int], Any]], dtype: str, seconds: float) -> int:
    """Return the side of the square matrices whose product takes about `seconds`, `LARGEST` at most."""
    side = START
    while True:
        run = multiply(dtype, side)
        run(1)
        taken = min(seconds_of(run, 1) for _ in range(2))
        if taken > seconds / 4 or side >= LARGEST:
            # To a multiple of 256: matrix units work on blocks.
            wanted = side * (seconds / taken) ** (1 / 3)
            return int(min(max(wanted // 256 * 256, START), LARGEST))
        side *= 2


def jax_operations() -> tuple[Callable, Callable, dict]:
    """Return multiply(dtype, side) and copy(bytes), each giving a function that does it n times, and the device."""
    import jax
    import jax.numpy as jnp

    device = jax.devices()[0]

    def multiply(dtype: str, side: int):
        a = jax.random.normal(jax.random.key(0), (side, side), dtype)
        product = jax.jit(jnp.matmul)

        def run(count: int):
            for _ in range(count):
                out = product(a, a)
            jax.block_until_ready(out)

        return run

    def copy(size: int):
        source, target = jnp.zeros(size // 4, jnp.float32), jnp.ones(size // 4, jnp.float32)
        # Into the other array's memory: what is measured is the copy, not how the system gives out fresh pages.
        into = jax.jit(lambda target, source: source + 1, donate_argnums=0, keep_unused=True)

        def run(count: int):
            nonlocal source, target
            for _ in range(count):
                source, target = into(target, source), source
            jax.block_until_ready(source)

        return run

    digits = {"gpu": "TF32", "tpu": "bfloat16 passes"}.get(device.platform, "float32")
    about = {"device": f"{device.platform} {device.device_kind}", "jax": jax.__version__, "float32_products": digits}
    return multiply, copy, {"platform": device.platform, "devices": len(jax.local_devices()), **about}


def torch_operations() -> tuple[Callable, Callable, dict]:
    """Return the same of PyTorch."""
    import torch

    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    torch.set_float32_matmul_precision("high")

    def finish() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    def multiply(dtype: str, side: int):
        a = torch.randn(side, side, device=device, dtype=getattr(torch, dtype))
        out = torch.empty_like(a)

        def run(count: int):
            for _ in range(count):
                torch.matmul(a, a, out=out)
            finish()

        return run

    def copy(size: int):
        source = torch.zeros(size // 4, device=device)
        target = torch.ones_like(source)

        def run(count: int):
            for _ in range(count):
                target.copy_(source)
            finish()

        return run

    name = f"gpu {torch.cuda.get_device_name()}" if on_gpu else f"cpu {torch.get_num_threads()} threads"
    about = {"device": name, "torch": torch.__version__, "float32_products": "TF32" if on_gpu else "float32"}
    return multiply, copy, {"platform": "gpu" if on_gpu else "cpu", "devices": 1, **about}


OPERATIONS: dict[str, Callable] = {"jax": jax_operations, "torch": torch_operations}


def limit_rows(framework: str, seconds: float = SECONDS) -> list[dict]:
    """Measure and return the rows: two of `limit` "product" (operations/s) and one of "copy" (bytes/s)."""
    multiply, copy, about = OPERATIONS[framework]()
    rows = []

    def row(limit: str, amount: float, count: int, timings: list[float], **more) -> None:
        rates = [count * amount / taken for taken in timings]
        values = {"per_s": statistics.median(rates), "min": min(rates), "max": max(rates), "repeats": len(rates)}
        rows.append({"kind": "limit", "limit": limit, "framework": framework, **about, **more, **values})

    for dtype in ("float32", "bfloat16"):
        side = grown(multiply, dtype, seconds)
        row("product", 2.0 * side**3, *repeated(multiply(dtype, side), seconds), dtype=dtype, side=side)
    size = COPIED[about["platform"]]
    row("copy", 2.0 * size, *repeated(copy(size), seconds), bytes=size)
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Print the limits as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", default="jax", choices=OPERATIONS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one timing, about")
    options = parser.parse_args(arguments)
    print("\n".join(map(json.dumps, limit_rows(options.framework, options.seconds))))


if __name__ == "__main__":
    main()
