"""How well a step would spread over many devices: its collectives by the links between them. A prediction, never a measurement.

Each collective sends, in a ring, 2 (n - 1) / n of its bytes over the links of a device, and waits for 2 log2(n) hops
(NVIDIA: NVLink inside a host of 8, InfiniBand between hosts, there each device with an eighth) or 2 sqrt(n) hops (a TPU's
square). Without overlap all of them wait for the step and the step for them; with overlap the gradients' sum hides behind
the backward pass, two thirds of the step, and the small ones do not. Rates are those of `targets.py`.
"""

import math
from typing import Any, NamedTuple

from benchmarks.targets import TARGETS, Target

BACKWARD = 2 / 3  # of a step, behind which sums of gradients can hide


class Spread(NamedTuple):
    """A step on n devices: seconds of one device's work and of its collectives, and the efficiency that follows."""

    step: float
    moved: float  # seconds that the bytes of all collectives take
    waited: float  # seconds that their hops take
    efficiency: float  # without overlap
    overlapped: float  # with it


def seconds_of_bytes(count: float, devices: int, target: Target) -> float:
    """Return the seconds of one all-reduce of so many bytes on each of n devices."""
    inside = min(devices, target.hosts_of)
    seconds = 2 * (inside - 1) / inside * count / target.link
    hosts = devices // inside
    return seconds + (2 * (hosts - 1) / hosts * count / inside / target.network if hosts > 1 else 0.0)


def seconds_of_hops(number: float, devices: int, target: Target) -> float:
    """Return the seconds that so many collectives, one after the other, wait for their hops."""
    hops = math.sqrt(devices) if target.clock else math.log2(devices)
    return number * 2 * hops * target.latency if devices > 1 else 0.0


def spread(row: dict[str, Any]) -> Spread:
    """Return the prediction for a program compiled for n devices (a row of `benchmarks.compiled`)."""
    target, devices = TARGETS[row["target"]], row["devices"]
    number = sum(one["number"] for one in row["collectives"].values())
    moved = seconds_of_bytes(sum(one["bytes"] for one in row["collectives"].values()), devices, target)
    waited = seconds_of_hops(number, devices, target)
    # The bound of a GPU's program counts collectives as kernels that read and write memory; that is part of the step.
    step = row["bound_s"]
    hidden = max(moved - BACKWARD * step, 0.0)
    return Spread(step, moved, waited, step / (step + moved + waited), step / (step + hidden + waited))
