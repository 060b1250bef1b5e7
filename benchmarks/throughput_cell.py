"""Measuring one cell of the throughput benchmark: its variants set up, timed in turn, and what becomes too large halved."""

import statistics
import time
from typing import NamedTuple

from benchmarks.throughput_expect import expected, largest_batch, side_by_side
from benchmarks.throughput_process import NO_ANSWER, SLOWER, Worker, uninterrupted

ENOUGH = 5  # rounds; a row that the deadline left with fewer is measured again by the next call
SPARE = 0.9  # of a device's memory that several processes may share


class Settings(NamedTuple):
    """How a cell is measured."""

    repeats: int  # rounds
    budget_s: float  # for each set-up, and for all timings of a cell
    together: int = 1  # set-ups at the same time
    floor: int = 16  # batch below which nothing is halved
    memory_bytes: float = 0  # of the host, that stop a variant; 0: most of what is free
    device_bytes: float = 0  # memory of one device, 0 where unknown
    one_process: bool = False  # whether the device belongs to one process at a time, as a TPU does
    deadline: float = float("inf")  # of time.monotonic(), after which nothing new begins

    def left(self) -> float:
        """Seconds to the deadline."""
        return self.deadline - time.monotonic()


def measure_cell(cells: list[dict], rows: list[dict], settings: Settings) -> list[Worker]:
    """Measure the variants of one cell: stopped workers, of which `alternated` tells whether they were timed in turn.

    Workers that the deadline cut short are not among them. `rows` are all earlier ones.
    """
    capacity = SPARE * settings.device_bytes
    together, alone = ([], cells) if settings.one_process else side_by_side(cells, rows, capacity)
    done: list[Worker] = []
    for cell in hopeless(cells, rows, settings):
        together, alone = ([other for other in group if other is not cell] for group in (together, alone))
        worker = Worker(cell, start=False)
        worker.failed = f"a dispatch takes some {expected(cell, rows)['seconds']:.3g} s, too long for the budget"
        done.append(worker)
    for worker in in_turn(together, settings):
        if worker.too_large:
            # Others held memory, or JAX had to take it piece by piece: alone, it may have enough.
            only_one = worker.cell["platform"] == "cpu" and len(together) == 1
            batch = worker.cell["batch"] // 2 if only_one else worker.cell["batch"]
            alone.append(worker.cell | {"batch": max(batch, min(settings.floor, worker.cell["batch"]))})
        else:
            done.append(worker)
    return done + [worker for cell in alone for worker in by_itself(cell, rows, settings)]


def hopeless(cells: list[dict], rows: list[dict], settings: Settings) -> list[dict]:
    """Cells whose two dispatches of the set-up alone would take longer than the budget, by their rate at a smaller batch."""
    return [cell for cell in cells if 2 * expected(cell, rows)["seconds"] > settings.budget_s]


def in_turn(cells: list[dict], settings: Settings) -> list[Worker]:
    """Measure variants that live at the same time, round after round."""
    workers: list[Worker] = []
    try:
        for first in range(0, len(cells), settings.together):
            group = []
            for cell in cells[first : first + settings.together]:
                if settings.left() > 0:
                    with uninterrupted():
                        workers.append(Worker(cell, settings.memory_bytes))
                    group.append(workers[-1])
            for worker in group:
                limit = min(worker.asked + settings.budget_s, settings.deadline) - time.monotonic()
                worker.set_up(max(limit, 0), cut=settings.left() < settings.budget_s)
        if settings.together > 1:
            for worker in workers:
                if not worker.failed:
                    worker.rehearse(min(settings.budget_s, max(settings.left(), 0)))
        rounds(workers, settings)
    finally:
        for worker in workers:
            worker.stop()
    return [worker for worker in workers if worker.seconds or not worker.cut]


def by_itself(cell: dict, rows: list[dict], settings: Settings) -> list[Worker]:
    """Measure a variant that needs the device for itself, its batch halved until it fits; nothing after the deadline."""
    capacity = settings.device_bytes
    cell = cell | {"batch": largest_batch(cell["batch"], expected(cell, rows)["bytes"], capacity, settings.floor)}
    while settings.left() > 0:
        workers: list[Worker] = []
        try:
            with uninterrupted():
                workers.append(Worker(cell, settings.memory_bytes, alone=True))
            workers[0].set_up(min(settings.budget_s, settings.left()), cut=settings.left() < settings.budget_s)
            rounds(workers, settings)
        finally:
            for worker in workers:
                worker.stop()
        worker = workers[0]
        worker.alternated = False
        if worker.cut and not worker.seconds:
            break
        half = cell["batch"] // 2
        if not worker.too_large or half < settings.floor:
            return [worker]
        cell = cell | {"batch": half}
    return []


def rounds(workers: list[Worker], settings: Settings) -> None:
    """Time all that are set up, one after the other, again and again: A B A B ..."""
    until = min(time.monotonic() + settings.budget_s, settings.deadline)
    starting = racing = [worker for worker in workers if not worker.failed]
    for number in range(settings.repeats):
        racing = affordable(racing, settings.repeats - number, until - time.monotonic(), first=number == 0)
        for worker in list(racing):
            left = until - time.monotonic()
            # Who misses a round is out, so that the rounds of any two stay pairs.
            if worker.failed or left <= 0 or (number and worker.next_s() > left):
                racing.remove(worker)
                continue
            # One that hangs, or is held up, must not take the time of all others.
            worker.measure(min(left, max(settings.budget_s / 3, 10 * worker.next_s())))
    if until == settings.deadline:
        for worker in starting:
            own_fault = worker.failed and not worker.failed.startswith((NO_ANSWER, SLOWER))
            worker.cut = len(worker.seconds) < min(ENOUGH, settings.repeats) and not own_fault


def affordable(racing: list[Worker], rounds_left: int, left_s: float, first: bool) -> list[Worker]:
    """Those that the rest of the budget is spent on: all if it lasts, else without the slowest of their frameworks.

    The best of each framework always stays. In the first round the others need time for this one only.
    """

    def rate(worker: Worker) -> float:
        cell = worker.cell
        events = worker.dispatches * cell["steps_per_dispatch"] * cell["batch"] * cell["members"]
        return events / max(worker.next_s(), 1e-9)

    best: dict[str, Worker] = {}
    for worker in racing:
        name = worker.cell["framework"]
        if name not in best or rate(worker) > rate(best[name]):
            best[name] = worker

    def cost(workers: list[Worker]) -> float:
        others = 1 if first else rounds_left
        return sum(w.next_s() * (rounds_left if w is best[w.cell["framework"]] else others) for w in workers)

    kept = sorted(racing, key=lambda w: rate(w) / rate(best[w.cell["framework"]]))
    while len(kept) > len(best) and cost(kept) > left_s:
        slowest = next(worker for worker in kept if worker is not best[worker.cell["framework"]])
        kept.remove(slowest)
        if not slowest.seconds:
            slowest.failed = f"{SLOWER} ({rate(slowest):.3g} events/s in its set-up)"
    return [worker for worker in racing if worker in kept]


def row_of(worker: Worker, about: dict) -> dict:
    """The row of a finished worker; `about` is the stamp of its cell."""
    row = {"kind": "row", **worker.cell, **about, **worker.setup, "alternated": worker.alternated}
    if worker.seconds:
        rates = worker.rates()
        row |= {"events_per_s": statistics.median(rates), "min": min(rates), "max": max(rates), "rates": rates}
        return row | {"peak_bytes": worker.peak_bytes, "repeats": len(rates), "cut_short": worker.cut}
    return row | {"skipped": worker.failed or "the budget ended before its turn"}
