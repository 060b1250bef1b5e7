"""Measuring one cell of the throughput benchmark: its variants set up, timed in turn, and what becomes too large halved."""

import os
import re
import time
from collections.abc import Callable
from typing import NamedTuple

from benchmarks import process
from benchmarks.machine import environment
from benchmarks.process import SLOWER, Timed, Worker, workers
from benchmarks.rows import expected, largest_batch, side_by_side

SPARE = 0.9  # of a device's memory that several processes may share
TARGETS = {"jax": "benchmarks.cells:set_up", "torch": "benchmarks.cells_torch:set_up"}
TOO_LARGE = re.compile(
    r"out of memory|of memory|resource_exhausted|alloc_failed|bad_alloc|can't allocate|memoryerror|32.?bit|"
    r"invalid configuration argument",
    re.IGNORECASE,
)


class Settings(NamedTuple):
    """How a cell is measured."""

    repeats: int  # rounds
    budget_s: float  # for each set-up, and for all timings of a cell
    together: int = 1  # set-ups at the same time
    floor: int = 16  # batch below which nothing is halved
    device_bytes: float = 0  # memory of one device, 0 where unknown
    one_process: bool = False  # whether the device belongs to one process at a time, as a TPU does
    deadline: float = float("inf")  # of time.monotonic(), after which nothing new begins

    def left(self) -> float:
        """Seconds to the deadline."""
        return self.deadline - time.monotonic()


def too_large(program: Timed) -> bool:
    """Return whether a program failed because its batch is too large for the memory."""
    return bool(program.failed and not program.answers and TOO_LARGE.search(program.failed))


def measure_cell(cells: list[dict], rows: list[dict], settings: Settings) -> list[dict]:
    """Measure the variants of one cell and return their rows; `alternated` tells whether they were timed in turn.

    Those that the deadline cut short in their set-up have none. `rows` are all earlier ones.
    """
    together, alone = side_by_side(cells, rows, SPARE * settings.device_bytes)
    if settings.one_process:
        together, alone = [], list(cells)
    found: list[dict] = []
    for cell in cells:
        # By the rate at a smaller batch, the two dispatches of the set-up alone would take longer than the budget.
        seconds = expected(cell, rows)["seconds"]
        if 2 * seconds > settings.budget_s:
            together, alone = ([other for other in group if other is not cell] for group in (together, alone))
            hopeless = Timed(cell)
            hopeless.failed = f"a dispatch takes some {seconds:.3g} s, too long for the budget"
            found.append(row_of(hopeless))
    for program in in_turn(together, settings):
        if too_large(program):
            # Others held memory, or JAX had to take it piece by piece: alone, it may have enough.
            cell = program.cell
            batch = cell["batch"] // 2 if cell["platform"] == "cpu" and len(together) == 1 else cell["batch"]
            alone.append(cell | {"batch": max(batch, min(settings.floor, cell["batch"]))})
        else:
            found.append(row_of(program))
    return found + [row for cell in alone for row in by_itself(cell, rows, settings)]


def begin(start: Callable[..., Worker], cell: dict, alone: bool) -> Timed:
    """Start the process of a variant, without waiting for its set-up."""
    given = environment(os.environ, cell["platform"], cell["devices"], alone, cell.get("passive", False))
    return Timed(cell, start(TARGETS[cell["framework"]], given), sole=True)


def wait(program: Timed, settings: Settings) -> None:
    """Wait for a set-up until its budget or the deadline ends."""
    limit = min(program.worker.asked + settings.budget_s, settings.deadline) - time.monotonic()
    program.set_up(max(limit, 0), cut=settings.left() < settings.budget_s)


def in_turn(cells: list[dict], settings: Settings, alone: bool = False) -> list[Timed]:
    """Measure variants that live at the same time, round after round; return those that the deadline let begin."""
    programs: list[Timed] = []
    with workers() as start:
        for first in range(0, len(cells), settings.together):
            group = []
            for cell in cells[first : first + settings.together]:
                if settings.left() > 0:
                    group.append(begin(start, cell, alone))
            for program in group:
                wait(program, settings)
            programs += group
        for program in programs if settings.together > 1 else []:
            if not program.failed:  # its set-up was disturbed by others: one dispatch is timed anew
                answer = program.run(1, min(settings.budget_s, max(settings.left(), 0)))
                program.choose(answer.get("seconds", program.dispatch_s))
        process.rounds(programs, settings.repeats, settings.budget_s, settings.deadline, affordable)
    return [program for program in programs if program.answers or not program.cut]


def by_itself(cell: dict, rows: list[dict], settings: Settings) -> list[dict]:
    """Measure a variant that needs the device for itself, its batch halved until it fits; nothing after the deadline."""
    needed = expected(cell, rows)["bytes"]
    cell = cell | {"batch": largest_batch(cell["batch"], needed, settings.device_bytes, settings.floor)}
    while found := in_turn([cell], settings, alone=True):
        half = cell["batch"] // 2
        if not too_large(found[0]) or half < settings.floor:
            return [row_of(found[0], alternated=False)]
        cell = cell | {"batch": half}
    return []


def affordable(racing: list[Timed], rounds_left: int, left_s: float) -> list[Timed]:
    """Return those that the rest of the budget is spent on: all if it lasts, else without the slowest of each framework.

    The best of each framework always stays. In the first round the others need time for this one only.
    """

    def rate(program: Timed) -> float:
        cell = program.cell
        events = program.amount * cell["steps_per_dispatch"] * cell["batch"] * cell["members"]
        return events / max(program.next_s(), 1e-9)

    best: dict[str, Timed] = {}
    for program in sorted(racing, key=rate):
        best[program.cell["framework"]] = program
    others = rounds_left if any(program.answers for program in racing) else 1

    def cost(programs: list[Timed]) -> float:
        return sum(p.next_s() * (rounds_left if p is best[p.cell["framework"]] else others) for p in programs)

    kept = sorted(racing, key=lambda p: rate(p) / rate(best[p.cell["framework"]]))
    while len(kept) > len(best) and cost(kept) > left_s:
        slowest = next(p for p in kept if p is not best[p.cell["framework"]])
        kept.remove(slowest)
        if not slowest.answers:
            slowest.failed = f"{SLOWER} ({rate(slowest):.3g} events/s in its set-up)"
    return [program for program in racing if program in kept]


def row_of(program: Timed, alternated: bool = True) -> dict:
    """Return the row of a finished variant."""
    row = program.row() | {"kind": "row", "alternated": alternated}
    if program.answers:
        row |= {"peak_bytes": program.answers[-1]["peak_bytes"], "cut_short": program.cut}
    return row
