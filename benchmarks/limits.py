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
from typing import Any, NamedTuple

SECONDS = 0.2  # that one product, or one series of copies, takes
REPEATS = 5
START = 512  # side of the first matrix, grown until a product takes long enough
LARGEST = 32768  # side: 4 GiB in float32
COPIED = {"cpu": 2**28, "gpu": 2**33, "tpu": 2**31}  # bytes, far more than any cache holds


class Framework(NamedTuple):
    """What is measured of a framework on one device; each function begins the work, and `finish` waits for all of it."""

    about: dict[str, Any]  # of the row
    product: Callable[[str, int], Callable[[], Any]]  # dtype, side of the matrices
    copy: Callable[[int], Callable[[], Any]]  # bytes
    finish: Callable[[Any], Any]  # what the last call gave


def seconds_of(once: Callable[[], Any], finish: Callable[[Any], Any], count: int) -> float:
    """Return how long `count` calls take."""
    start = time.perf_counter()
    for _ in range(count):
        out = once()
    finish(out)
    return time.perf_counter() - start


def repeated(once: Callable[[], Any], finish: Callable[[Any], Any], seconds: float) -> tuple[int, list[float]]:
    """Return how many calls are in each timing, so that it takes about `seconds`, and the timings."""
    finish(once())
    shortest = min(seconds_of(once, finish, 1) for _ in range(3))
    count = max(1, round(seconds / max(shortest, 1e-6)))
    return count, [seconds_of(once, finish, count) for _ in range(REPEATS)]


def grown(framework: Framework, dtype: str, seconds: float) -> int:
    """Return the side of the square matrices whose product takes about `seconds`, `LARGEST` at most."""
    side = START
    while True:
        once = framework.product(dtype, side)
        framework.finish(once())
        taken = min(seconds_of(once, framework.finish, 1) for _ in range(2))
        if taken > seconds / 4 or side >= LARGEST:
            # To a multiple of 256: matrix units work on blocks.
            wanted = side * (seconds / taken) ** (1 / 3)
            return int(min(max(wanted // 256 * 256, START), LARGEST))
        side *= 2


def by_jax() -> Framework:
    """Return what JAX does."""
    import jax
    import jax.numpy as jnp

    device = jax.devices()[0]

    def product(dtype: str, side: int) -> Callable[[], Any]:
        a, multiply = jax.random.normal(jax.random.key(0), (side, side), dtype), jax.jit(jnp.matmul)
        return lambda: multiply(a, a)

    def copy(size: int) -> Callable[[], Any]:
        held = [jnp.zeros(size // 4, jnp.float32), jnp.ones(size // 4, jnp.float32)]
        # Into the other array's memory: what is measured is the copy, not how the system gives out fresh pages.
        into = jax.jit(lambda target, source: source + 1, donate_argnums=0, keep_unused=True)

        def once() -> Any:
            held[:] = into(held[1], held[0]), held[0]
            return held[0]

        return once

    digits = {"gpu": "TF32", "tpu": "bfloat16 passes"}.get(device.platform, "float32")
    about: dict[str, Any] = {"device": f"{device.platform} {device.device_kind}", "jax": jax.__version__}
    about |= {"platform": device.platform, "devices": len(jax.local_devices()), "float32_products": digits}
    return Framework(about, product, copy, jax.block_until_ready)


def by_torch() -> Framework:
    """Return what PyTorch does."""
    import torch

    platform = "gpu" if torch.cuda.is_available() else "cpu"
    device = torch.device("cuda" if platform == "gpu" else "cpu")
    torch.set_float32_matmul_precision("high")

    def product(dtype: str, side: int) -> Callable[[], Any]:
        a = torch.randn(side, side, device=device, dtype=getattr(torch, dtype))
        out = torch.empty_like(a)
        return lambda: torch.matmul(a, a, out=out)

    def copy(size: int) -> Callable[[], Any]:
        source = torch.zeros(size // 4, device=device)
        target = torch.ones_like(source)
        return lambda: target.copy_(source)

    name = torch.cuda.get_device_name() if platform == "gpu" else f"{torch.get_num_threads()} threads"
    about = {"device": f"{platform} {name}", "torch": torch.__version__, "platform": platform, "devices": 1}
    about |= {"float32_products": "TF32" if platform == "gpu" else "float32"}
    return Framework(about, product, copy, lambda out: torch.cuda.synchronize() if platform == "gpu" else None)


FRAMEWORKS: dict[str, Callable[[], Framework]] = {"jax": by_jax, "torch": by_torch}


def limit_rows(name: str, seconds: float = SECONDS) -> list[dict]:
    """Measure and return the rows: two of `limit` "product" (operations/s) and one of "copy" (bytes/s)."""
    framework = FRAMEWORKS[name]()
    rows = []

    def row(limit: str, amount: float, once: Callable[[], Any], **more: Any) -> None:
        count, timings = repeated(once, framework.finish, seconds)
        rates = [count * amount / taken for taken in timings]
        values = {"per_s": statistics.median(rates), "min": min(rates), "max": max(rates), "repeats": len(rates)}
        rows.append({"kind": "limit", "limit": limit, "framework": name, **framework.about, **more, **values})

    for dtype in ("float32", "bfloat16"):
        side = grown(framework, dtype, seconds)
        row("product", 2.0 * side**3, framework.product(dtype, side), dtype=dtype, side=side)
    size = COPIED[framework.about["platform"]]
    row("copy", 2.0 * size, framework.copy(size), bytes=size)
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Print the limits as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", default="jax", choices=FRAMEWORKS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one timing, about")
    options = parser.parse_args(arguments)
    print("\n".join(map(json.dumps, limit_rows(options.framework, options.seconds))))


if __name__ == "__main__":
    main()
