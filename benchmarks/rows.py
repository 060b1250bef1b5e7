"""Rows of results files: reading and adding, the newest and the best of each variant, ratios, what they let expect.

A file holds JSON lines: of throughput a "row" per variant, a "ratio" per cell, "limit" of the machine and "operations"
of the networks. Old and new rows live in one file.
"""

import json
import statistics
from pathlib import Path
from typing import Any

from jaxhep.errors import BadInput

MAIN = ("base", "autotune")  # groups of variants that can be the fastest
FIXED_BYTES = {"cpu": 0.5 * 2**30}  # of a process whatever its batch: libraries and compilation
MARGIN = 1.25  # that the expected memory must exceed the limit by before a batch is halved without trying


def read_rows(path: Path) -> list[dict]:
    """Return the rows of an earlier run, if there was one. Raises BadInput for a line that is not whole."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise BadInput(f"line {number} of {path} is not JSON; remove it to go on") from None
    return rows


def add_rows(path: Path | None, rows: list[dict]) -> None:
    """Append rows to a file, if there is one: in one write, so that an interrupted cell leaves nothing half written."""
    if path and rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))


def cell_of(row: dict) -> tuple:
    """Return what tells cells apart: network, mode, batch that was asked for, points of an event."""
    return (row["model"], row["mode"], row["asked_batch"], row["points"])


def key_of(row: dict) -> tuple:
    """Return what makes two rows measurements of the same thing."""
    return (*cell_of(row), row["asked_devices"], row["framework"], row["variant"])


def newest(rows: list[dict]) -> list[dict]:
    """Return the last row of each variant that was measured, or, where none was, that says why not."""
    found: dict[tuple, dict] = {}
    for row in rows:
        if row["kind"] == "row" and ("rates" in row or "rates" not in found.get(key_of(row), {})):
            found[key_of(row)] = row
    return list(found.values())


def best_rows(rows: list[dict]) -> dict[str, dict]:
    """Return the fastest measured row of each framework, by median events per second.

    Those that can be the fastest count, the others only say what an option costs; without any of the former they count
    too, but never ensembles, whose events are of several networks.
    """
    measured = [row for row in rows if "rates" in row and row["members"] == 1]
    best: dict[str, dict] = {}
    for name in dict.fromkeys(row["framework"] for row in measured):
        theirs = [row for row in measured if row["framework"] == name]
        main = [row for row in theirs if row["group"] in MAIN]
        best[name] = max(main or theirs, key=lambda row: row["events_per_s"])
    return best


def per_device(row: dict) -> float:
    """Return what rates are divided by before frameworks are compared: PyTorch uses one GPU, JAX all there are."""
    return 1.0 if row["device"].startswith("cpu") else row["devices"]


def ratio_of(best: dict[str, dict]) -> dict[str, Any]:
    """Return JAX over PyTorch, pair by pair over the rounds that both finished; empty where one of them is missing.

    On accelerators the rates are those of one device. Rows of different runs have no pairs: then the ratio of medians
    with the range that the extremes allow, and `pairs` 0.
    """
    if not {"jax", "torch"} <= best.keys():
        return {}
    ours, theirs = best["jax"], best["torch"]
    scale = per_device(theirs) / per_device(ours)
    if ours["cell_began"] == theirs["cell_began"] and ours["alternated"] and theirs["alternated"]:
        ratios = [scale * a / b for a, b in zip(ours["rates"], theirs["rates"], strict=False)]
        return {"ratio": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "pairs": len(ratios)}
    middle = ours["events_per_s"] / theirs["events_per_s"]
    low, high = ours["min"] / theirs["max"], ours["max"] / theirs["min"]
    return {"ratio": scale * middle, "min": scale * low, "max": scale * high, "pairs": 0}


def limit_of(rows: list[dict], dtype: str) -> float:
    """Return the highest measured rate of matrix products of a type, operations/s, of either framework; 0 for none."""
    rates = [row["per_s"] for row in rows if row["kind"] == "limit" and row.get("dtype") == dtype]
    return max(rates, default=0.0)


def share_of_limit(row: dict, rows: list[dict]) -> float | None:
    """Return the fraction of the measured rate of matrix products of its type that a row's operations make up."""
    limit, operations = limit_of(rows, row["dtype"]), row.get("flop_per_event")
    if not limit or not operations or "events_per_s" not in row:
        return None
    return row["events_per_s"] * operations / (limit * per_device(row))


def left_to_measure(cells: list[dict], rows: list[dict]) -> list[dict]:
    """Return the variants of one cell without a row, and the best earlier one of each framework, for pairs in turn."""
    found = {key_of(row): row for row in rows if row["kind"] == "row" and not row.get("cut_short")}
    missing = [cell for cell in cells if key_of(cell) not in found]
    if not missing:
        return []
    earlier = best_rows([found[key_of(cell)] for cell in cells if key_of(cell) in found])
    names = {(name, row["variant"]) for name, row in earlier.items()}
    return [cell for cell in cells if cell in missing or (cell["framework"], cell["variant"]) in names]


def without_batch(row: dict) -> tuple:
    """Return what rows of the same variant at different batches have in common."""
    return key_of(row | {"asked_batch": 0})


def expected(cell: dict, rows: list[dict]) -> dict[str, float]:
    """Return what the newest row at the nearest smaller batch says of one dispatch: `bytes`, `seconds`, and the `rate`.

    All are 0 where nothing is known.
    """
    same = [row for row in rows if row["kind"] == "row" and without_batch(row) == without_batch(cell)]
    others = {row["batch"]: row for row in same if "rates" in row and row["batch"] < cell["batch"]}
    if not others:
        return {"bytes": 0.0, "seconds": 0.0, "rate": 0.0}
    row = others[max(others)]
    needed = max(0.0, row["peak_bytes"] - FIXED_BYTES.get(cell["platform"], 0)) * cell["batch"] / row["batch"]
    events = cell["batch"] * cell["steps_per_dispatch"] * cell["members"]
    return {"bytes": needed, "seconds": events / row["events_per_s"], "rate": row["events_per_s"]}


def fastest(cells: list[dict], rows: list[dict], most: int) -> list[dict]:
    """Return the cells without those of either framework that `most` others beat at the next smaller batch, 0: all.

    A cell that failed there is left out too; one that nothing is known of stays.
    """
    if not most or not cells:
        return cells
    smaller = [row for row in rows if row["kind"] == "row" and row["asked_batch"] < cells[0]["asked_batch"]]
    tried = {without_batch(row) for row in smaller}
    rated = [(cell, expected(cell, rows)["rate"]) for cell in cells]

    def beaten(cell: dict, rate: float) -> bool:
        return sum(other > rate for one, other in rated if one["framework"] == cell["framework"]) >= most

    return [c for c, rate in rated if without_batch(c) not in tried or (rate > 0 and not beaten(c, rate))]


def largest_batch(batch: int, needed: float, capacity: float, floor: int) -> int:
    """Return the batch, halved until what it is expected to need is near what there is, but not below the floor."""
    while needed > MARGIN * capacity > 0 and batch // 2 >= floor:
        batch, needed = batch // 2, needed / 2
    return batch


def side_by_side(cells: list[dict], rows: list[dict], capacity: float) -> tuple[list[dict], list[dict]]:
    """Return the cells whose expected memory fits together, the fastest first, and those that have to run alone.

    Both are in the order given, so that the frameworks take turns.
    """
    together, total = [], 0.0
    for cell in sorted(cells, key=lambda cell: -expected(cell, rows)["rate"]):
        needed = expected(cell, rows)["bytes"]
        if not capacity or total + needed <= capacity:
            together.append(cell)
            total += needed
    return [cell for cell in cells if cell in together], [cell for cell in cells if cell not in together]
