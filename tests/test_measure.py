"""How a cell is measured, with made-up processes: turns, budgets, deadlines, memory; what earlier rows let expect."""

import contextlib
import time

import pytest

from benchmarks import measure, process
from benchmarks.measure import Settings, measure_cell
from benchmarks.process import ENOUGH
from benchmarks.rows import expected, fastest, left_to_measure

CLOCK = {"now": 0.0}
LOG: list[str] = []


class MadeUp:
    """A process that takes `seconds` a dispatch, and fails where its batch or what others hold leaves no memory."""

    holding: dict[int, float] = {}  # noqa: RUF012
    started: list[dict] = []  # noqa: RUF012

    def __init__(self, target, environment):
        self.failed, self.asked, self.cell, self.request = "", time.monotonic(), {}, {}
        self.started.append(environment)

    def send(self, request):
        self.request, self.asked = request, time.monotonic()
        self.cell = request.get("set_up", self.cell)

    def reply(self, limit_s):
        if "set_up" not in self.request:
            seconds, batch = self.request["amount"] * self.cell["seconds"], self.cell["batch"]
            CLOCK["now"] += seconds
            LOG.append(self.cell["variant"])
            return {"seconds": seconds, "events": self.request["amount"] * batch, "peak_bytes": batch}
        LOG.append(f"start {self.cell['variant']} {self.cell['batch']}")
        needed, taken = self.cell["batch"] * self.cell.get("bytes_each", 0), self.cell.get("setup_s", 1.0)
        CLOCK["now"] += taken
        if taken > limit_s:
            return {"failed": "no answer within it"}
        if needed + sum(self.holding.values()) > self.cell.get("memory", 1e9):
            return {"failed": "RuntimeError: CUDA out of memory"}
        self.holding[id(self)] = needed
        return {"index": 0, "device": "made up", "dispatch_s": self.cell["seconds"]}

    def stop(self, reason=""):
        self.holding.pop(id(self), None)


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    @contextlib.contextmanager
    def workers():
        started = []
        yield lambda *given: started.append(MadeUp(*given)) or started[-1]
        for worker in started:
            worker.stop()

    monkeypatch.setattr(measure, "workers", workers)
    monkeypatch.setattr(process, "BURST_S", {"elsewhere": 0.0})  # one dispatch makes a timing
    monkeypatch.setattr(time, "monotonic", lambda: CLOCK["now"])
    CLOCK["now"] = 0.0
    LOG.clear()
    MadeUp.holding.clear()
    MadeUp.started.clear()


def cell(framework, variant, seconds=1.0, batch=64, platform="cpu", **more):
    known = {
        "model": "cvt",
        "group": "base",
        "mode": "train",
        "batch": batch,
        "asked_batch": batch,
        "platform": platform,
        "points": 0,
    }
    about = {"devices": 0, "asked_devices": 0, "steps_per_dispatch": 1, "members": 1, "dtype": "float32"}
    return {**known, **about, "framework": framework, "variant": variant, "seconds": seconds, **more}


def row(given, rate, peak=0.0, **more):
    rates = [rate] * 5
    return {**given, "kind": "row", "events_per_s": rate, "rates": rates, "peak_bytes": peak, **more}


def test_frameworks_take_turns():
    found = measure_cell([cell("jax", "A"), cell("torch", "B")], [], Settings(repeats=5, budget_s=60))
    assert ["start A 64", "start B 64", *["A", "B"] * 5] == LOG
    assert [row["rates"] for row in found] == [[64.0] * 5] * 2


def test_set_ups_at_the_same_time_are_followed_by_a_rehearsal():
    cells = [cell("jax", "A"), cell("torch", "B"), cell("jax", "C")]
    measure_cell(cells, [], Settings(repeats=1, budget_s=60, together=2))
    assert ["start A 64", "start B 64", "start C 64", *"ABC", *"ABC"] == LOG


def test_a_short_budget_goes_to_the_best_of_each_framework():
    cells = [cell("jax", "slow", 4), cell("torch", "B", 2), cell("jax", "A", 1), cell("torch", "slower", 6)]
    found = measure_cell(cells, [], Settings(repeats=5, budget_s=20))
    rounds = {row["variant"]: row.get("repeats", 0) for row in found}
    assert rounds["A"] == rounds["B"] == 5
    assert rounds["slow"] <= 1
    assert rounds["slower"] == 0
    assert found[3]["skipped"].startswith("slower than others of its framework (10.7 events/s")


def test_what_the_deadline_cuts_short_is_measured_again():
    cells = [cell("jax", "A", 2.0), cell("torch", "B", 1.0), cell("jax", "late", 9.0)]
    rows = measure_cell(cells, [], Settings(repeats=7, budget_s=60, deadline=12.5))
    assert {row["variant"] for row in rows} == {"A", "B"}
    assert all(0 < row["repeats"] < ENOUGH and row["cut_short"] for row in rows)
    assert left_to_measure(cells[:2], rows) == cells[:2]
    assert left_to_measure(cells[:2], [given | {"cut_short": False} for given in rows]) == []


def test_a_deadline_in_the_set_up_leaves_no_row_but_a_spent_budget_does():
    slow = cell("jax", "A", setup_s=30.0)
    assert measure_cell([slow], [], Settings(repeats=5, budget_s=60, deadline=20)) == []
    CLOCK["now"] = 0.0
    (found,) = measure_cell([slow], [], Settings(repeats=5, budget_s=20, deadline=200))
    assert found["skipped"].startswith("no answer")


def test_a_batch_is_halved_until_it_fits_alone():
    big = cell("jax", "A", batch=1024, platform="gpu", bytes_each=1.0, memory=300)
    (found,) = measure_cell([big], [], Settings(repeats=5, budget_s=60))
    assert (found["batch"], found["asked_batch"], found["alternated"]) == (256, 1024, False)
    # At first another could have come beside it; then it may take nearly all memory at once.
    assert [given["XLA_PYTHON_CLIENT_PREALLOCATE"] for given in MadeUp.started] == ["false", "true", "true", "true"]
    (found,) = measure_cell([big | {"memory": 3}], [], Settings(repeats=5, budget_s=60, floor=100))
    assert (found["batch"], found["skipped"]) == (128, "RuntimeError: CUDA out of memory")


def test_what_does_not_fit_beside_others_runs_alone_with_its_whole_batch():
    cells = [cell("jax", "A", platform="gpu", bytes_each=1.0, memory=100)]
    cells += [cell("torch", "B", platform="gpu", bytes_each=1.0, memory=100)]
    found = measure_cell(cells, [], Settings(repeats=5, budget_s=60))
    assert [(row["variant"], row["batch"], row["alternated"]) for row in found] == [("A", 64, True), ("B", 64, False)]
    # With the memory known from a smaller batch they are not even tried together.
    small = [given | {"batch": 32, "asked_batch": 32} for given in cells]
    rows = [row(given, rate, peak=32.0) for given, rate in zip(small, (9.0, 5.0), strict=True)]
    LOG.clear()
    measure_cell(cells, rows, Settings(repeats=2, budget_s=60, device_bytes=100))
    assert LOG == ["start A 64", "A", "A", "start B 64", "B", "B"]


def test_memory_known_from_a_smaller_batch_saves_the_attempts():
    cells = [cell("jax", "A", batch=1024, platform="gpu", bytes_each=1.0, memory=300)]
    rows = [row(cell("jax", "A", batch=128, platform="gpu"), 50.0, peak=128.0)]
    assert expected(cells[0], rows)["bytes"] == 1024
    (found,) = measure_cell(cells, rows, Settings(repeats=2, budget_s=60, device_bytes=300))
    assert [line for line in LOG if line.startswith("start")] == ["start A 256"]
    assert found["batch"] == 256


def test_a_step_too_long_for_the_budget_is_not_tried():
    rows = [row(cell("jax", "A", batch=128), 7.0)]
    (found,) = measure_cell([cell("jax", "A", batch=1024)], rows, Settings(repeats=5, budget_s=60))
    assert found["skipped"] == "a dispatch takes some 146 s, too long for the budget"
    assert LOG == []


def test_a_device_of_one_process_is_not_shared():
    measure_cell([cell("jax", "A"), cell("jax", "B")], [], Settings(repeats=2, budget_s=60, one_process=True))
    assert LOG == ["start A 64", "A", "A", "start B 64", "B", "B"]


def test_missing_variants_are_measured_beside_the_best_of_before():
    cells = [cell("jax", "A"), cell("torch", "B"), cell("jax", "C"), cell("jax", "new")]
    rows = [row(cells[0], 5.0), row(cells[1], 7.0), row(cells[2], 6.0)]
    assert [given["variant"] for given in left_to_measure(cells, rows)] == ["B", "C", "new"]
    assert left_to_measure(cells[:3], rows) == []
    skipped = {**cells[3], "kind": "row", "skipped": "out of memory"}
    assert left_to_measure(cells, [*rows, skipped]) == []


def test_only_the_fastest_at_a_smaller_batch_are_taken_to_a_larger_one():
    small = [cell(name, variant, batch=16) for name in ("jax", "torch") for variant in "ABCD"]
    rows = [row(given, rate) for given, rate in zip(small[:7], (3.0, 9.0, 5.0, 1.0, 20.0, 10.0, 30.0), strict=True)]
    rows[3] = {**small[3], "kind": "row", "skipped": "it failed"}
    cells = [cell(name, variant, batch=128) for name in ("jax", "torch") for variant in "ABCD"]
    chosen = [(one["framework"], one["variant"]) for one in fastest(cells, rows, 2)]
    assert chosen == [("jax", "B"), ("jax", "C"), ("torch", "A"), ("torch", "C"), ("torch", "D")]
    assert fastest(cells, rows, 0) == cells
    # Of the same or a larger batch nothing can be learnt: all are taken, as when the file is empty.
    assert fastest(small, [row(given, 5.0) for given in (*small, *cells)], 2) == small
    assert fastest(small, [], 2) == small
    assert fastest([], rows, 2) == []
