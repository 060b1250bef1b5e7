"""The least time that a compiled program can take on a device, and what bounds it.

A GPU runs kernels one after the other: of each the larger of bytes over bandwidth and operations over the peak rate of their
type, and a fixed cost of its launch. A TPU runs one program that moves and multiplies at once: the largest of all
operations, all bytes, and XLA's own estimate of cycles, which lacks our own kernels: of these the larger of bytes over
bandwidth and operations over the peak rate stands in. What this cannot tell: how near a kernel comes to these rates, what
runs at the same time, and clocks under load.
"""

from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.launches import OURS, Launch
from benchmarks.targets import Target


class Bound(NamedTuple):
    """Seconds of one run: in all, and what products, bytes, launches and XLA's cycles alone would take."""

    seconds: float
    products: float
    bytes: float
    launches: float
    cycles: float


def seconds_of_products(flops: dict[str, float], target: Target) -> float:
    """Return the seconds of operations at the peak rate of their type; types without a rate take that of float32 or bfloat16."""
    slowest = target.peaks.get("f32", target.peaks["bf16"])
    return sum(count / target.peaks.get(kind, slowest) for kind, count in flops.items())


def seconds_of(launch: Launch, target: Target) -> float:
    """Return the least seconds of one kernel with its launch."""
    least = max(launch.bytes / target.bandwidth, seconds_of_products(launch.flops, target))
    if target.clock:
        return launch.cycles / target.clock if launch.cycles else least
    return least + target.launch


def bound(found: Iterable[Launch], target: Target) -> Bound:
    """Return the bound of a program."""
    found = list(found)
    products = sum(one.times * seconds_of_products(one.flops, target) for one in found)
    moved = sum(one.times * one.bytes for one in found) / target.bandwidth
    launched = sum(one.times for one in found) * target.launch
    timed = [one for one in found if target.clock and (one.cycles or one.kind == OURS)]
    cycles = sum(one.times * seconds_of(one, target) for one in timed)
    seconds = max(products, moved, cycles)
    if not target.clock:
        seconds = sum(one.times * seconds_of(one, target) for one in found)
    return Bound(seconds, products, moved, launched, cycles)
