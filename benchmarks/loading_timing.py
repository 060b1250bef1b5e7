"""Timing of things in turn: cases that are set up together and timed round after round, and what a row says of its machine."""

import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib import metadata
from typing import Any, NamedTuple

from benchmarks.throughput_machine import cpu_field
from jaxhep.log import commit

PACKAGES = ("jax", "jaxlib", "flax", "grain", "numpy", "uproot")


class Burst(NamedTuple):
    """One timing."""

    events: int
    seconds: float
    notes: dict[str, Any] = {}  # noqa: RUF012  read only


class Case(NamedTuple):
    """One row: `set_up(stack)` gives `burst(seconds)`, which runs about so long; what it opens goes on the stack."""

    kind: str
    what: str
    fields: dict[str, Any]  # more of the row
    set_up: Callable[[ExitStack], Callable[[float], Burst]]
    judge: Callable[[list[dict]], dict] | None = None  # the notes of all bursts -> more of the row


def repeat_for(seconds: float, element: Callable[[], int], most: int = 2**62) -> Burst:
    """Call `element`, which returns its number of events, until the time is over, at least once, at most so often."""
    events, calls, began = 0, 0, time.perf_counter()
    while True:
        events += element()
        calls += 1
        elapsed = time.perf_counter() - began
        if elapsed >= seconds or calls >= most:
            return Burst(events, elapsed)


def alternate(cases: list[Case], repeats: int, seconds: float) -> list[dict]:
    """Return a row per case, timed in turn: one short round to warm up, then `repeats` rounds of `seconds` each.

    Whatever stops a case is the reason for which its row is skipped; the others go on.
    """
    bursts: dict[int, Callable[[float], Burst]] = {}
    reasons: dict[int, str] = {}
    found: list[list[Burst]] = [[] for _ in cases]
    with ExitStack() as stack:
        for number in range(-1, repeats):
            for index, case in enumerate(cases):
                if index in reasons:
                    continue
                try:
                    if index not in bursts:
                        bursts[index] = case.set_up(stack)
                    burst = bursts[index](seconds if number >= 0 else seconds / 4)
                except Exception as error:  # any failure of a case is a result
                    reasons[index] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                    continue
                if number >= 0:
                    found[index].append(burst)
    return [row_of(case, found[index], reasons.get(index, "")) for index, case in enumerate(cases)]


def row_of(case: Case, bursts: list[Burst], reason: str) -> dict:
    """Return the row of a case: median, extremes and each rate in events/s, or the reason why there are none."""
    row = {"kind": case.kind, "what": case.what, **case.fields, **machine()}
    if reason:
        return row | {"skipped": reason}
    row |= summary([burst.events / burst.seconds for burst in bursts])
    return row | (case.judge([burst.notes for burst in bursts]) if case.judge else {})


def summary(rates: list[float]) -> dict[str, Any]:
    """Return median, extremes and each of the rates, events/s."""
    return {"events_per_s": statistics.median(rates), "min": min(rates), "max": max(rates), "rates": rates}


def machine() -> dict[str, Any]:
    """Return date, commit, machine and its load as every row has them; cores are those that the process may use."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": cpu_field("model name") or platform.processor() or platform.machine(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "load": os.getloadavg()[0],
    }


def version(package: str) -> str | None:
    """Return the installed version of a package, None where it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
