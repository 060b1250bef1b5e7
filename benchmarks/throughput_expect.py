"""What the throughput benchmark expects of a variant from its rows at other batches: time, memory, whether it was measured."""

from typing import Any

from benchmarks.throughput_variants import MAIN

FIXED_BYTES = {"cpu": 0.5 * 2**30}  # of a process whatever its batch: libraries and compilation
MARGIN = 1.25  # that the expected memory must exceed the limit by before a batch is halved without trying


def key_of(row: dict) -> tuple:
    """What makes two rows measurements of the same thing; rows of older files lack some of the fields."""
    points = row.get("points", 800 if row["model"] == "pointnet" else 0)
    asked = (row.get("asked_batch", row["batch"]), row["mode"], points, row.get("asked_devices", 0))
    return (row["model"], *asked, row["framework"], row["variant"])


def best_rows(rows: list[dict]) -> dict[str, dict]:
    """The fastest measured row of each framework, by median events per second.

    Those that can be the fastest count, the others only say what an option costs; without any of the former they count
    too, but never ensembles, whose events are of several networks.
    """
    measured = [row for row in rows if "rates" in row and row.get("members", 1) == 1]
    best: dict[str, dict] = {}
    for row in measured:
        theirs = [other for other in measured if other["framework"] == row["framework"]]
        main = [other for other in theirs if other.get("group", "base") in MAIN]
        best[row["framework"]] = max(main or theirs, key=lambda other: other["events_per_s"])
    return best


def left_to_measure(cells: list[dict], rows: list[dict]) -> list[dict]:
    """The variants of one cell without a row, and with them the best earlier one of each framework, for pairs in turn."""
    found = {key_of(row): row for row in rows if row["kind"] == "row" and not row.get("cut_short")}
    missing = [cell for cell in cells if key_of(cell) not in found]
    if not missing:
        return []
    earlier = best_rows([found[key_of(cell)] for cell in cells if key_of(cell) in found])
    names = {(name, row["variant"]) for name, row in earlier.items()}
    return [cell for cell in cells if cell in missing or (cell["framework"], cell["variant"]) in names]


def expected(cell: dict, rows: list[dict]) -> dict[str, Any]:
    """What the newest row at the nearest smaller batch says: `bytes` and `seconds` of one dispatch, 0 where unknown."""
    wanted = key_of(cell | {"asked_batch": 0})
    same = [row for row in rows if row["kind"] == "row" and key_of(row | {"asked_batch": 0}) == wanted]
    others = {row["batch"]: row for row in same if "rates" in row and row["batch"] < cell["batch"]}
    if not others:
        return {"bytes": 0.0, "seconds": 0.0, "rate": 0.0}
    row = others[max(others)]
    scale = cell["batch"] / row["batch"]
    needed = max(0.0, row["peak_bytes"] - FIXED_BYTES.get(cell["platform"], 0)) * scale
    events = cell["batch"] * cell["steps_per_dispatch"] * cell["members"]
    return {"bytes": needed, "seconds": events / row["events_per_s"], "rate": row["events_per_s"]}


def fastest(cells: list[dict], rows: list[dict], most: int) -> list[dict]:
    """The cells without those of either framework that `most` others beat at the next smaller batch, 0: none left out.

    A cell that failed there is left out too; one that nothing is known of stays.
    """
    if not most or not cells:
        return cells
    smaller = [row for row in rows if row["kind"] == "row" and row["asked_batch"] < cells[0]["asked_batch"]]
    tried = {key_of(row | {"asked_batch": 0}) for row in smaller}
    rates = [expected(cell, rows)["rate"] for cell in cells]
    unknown = [key_of(cell | {"asked_batch": 0}) not in tried for cell in cells]
    kept = []
    for cell, rate, new in zip(cells, rates, unknown, strict=True):
        theirs = [other for other, one in zip(rates, cells, strict=True) if one["framework"] == cell["framework"]]
        if new or (rate > 0 and sum(other > rate for other in theirs) < most):
            kept.append(cell)
    return kept


def largest_batch(batch: int, needed: float, capacity: float, floor: int) -> int:
    """The batch, halved until what it is expected to need is near what there is, but not below the floor."""
    while needed > MARGIN * capacity > 0 and batch // 2 >= floor:
        batch, needed = batch // 2, needed / 2
    return batch


def side_by_side(cells: list[dict], rows: list[dict], capacity: float) -> tuple[list[dict], list[dict]]:
    """The cells whose expected memory fits together, the fastest first, and those that have to run alone."""
    together, alone, total = [], [], 0.0
    for cell in sorted(cells, key=lambda cell: -expected(cell, rows)["rate"]):
        needed = expected(cell, rows)["bytes"]
        if capacity and total + needed > capacity:
            alone.append(cell)
        else:
            together.append(cell)
            total += needed
    # In the order given: the frameworks take turns.
    return [cell for cell in cells if cell in together], [cell for cell in cells if cell in alone]
