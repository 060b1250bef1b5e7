"""Rows of the throughput benchmark: reading them, the ratio of the frameworks, and the Markdown table of all variants.

python -m benchmarks.throughput_table FILE
"""

import json
import statistics
import sys
from pathlib import Path

from benchmarks.throughput_expect import best_rows, key_of


def read_rows(path: Path) -> list[dict]:
    """Rows of an earlier run, if there was one. Leaves the program on a line that is not whole."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise SystemExit(f"error: line {number} of {path} is not JSON; remove it to go on") from None
    return rows


def newest(rows: list[dict]) -> list[dict]:
    """The last row of each variant that was measured, or, where none was, that says why not; in the order of the file."""
    found: dict[tuple, dict] = {}
    for row in rows:
        if row["kind"] == "row" and ("rates" in row or "rates" not in found.get(key_of(row), {})):
            found[key_of(row)] = row
    return list(found.values())


def per_device(row: dict) -> float:
    """What rates are divided by before frameworks are compared: PyTorch uses one GPU, JAX all there are."""
    return 1.0 if row["device"].startswith("cpu") else row.get("devices", 1)


def ratio_of(best: dict[str, dict]) -> dict:
    """JAX over PyTorch, pair by pair over the rounds that both finished; empty where one of them is missing.

    On accelerators the rates are those of one device. Rows of different runs have no pairs: then the ratio of medians
    with the range that the extremes allow, and `pairs` 0.
    """
    if not {"jax", "torch"} <= best.keys():
        return {}
    ours, theirs = best["jax"], best["torch"]
    scale = per_device(theirs) / per_device(ours)
    same_run = ours.get("cell_began") == theirs.get("cell_began")
    if same_run and ours.get("alternated", True) and theirs.get("alternated", True):
        ratios = [scale * a / b for a, b in zip(ours["rates"], theirs["rates"], strict=False)]
        return {"ratio": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "pairs": len(ratios)}
    middle = ours["events_per_s"] / theirs["events_per_s"]
    low, high = ours["min"] / theirs["max"], ours["max"] / theirs["min"]
    return {"ratio": scale * middle, "min": scale * low, "max": scale * high, "pairs": 0}


def ratio_row(cell: dict, rows: list[dict]) -> dict:
    """The best variant of each framework by median among the rows of one cell, and their ratio."""
    best = best_rows(rows)
    return {
        "kind": "ratio",
        **cell,
        **{f"{name}_variant": row["variant"] for name, row in best.items()},
        **ratio_of(best),
    }


def percent_of_limit(row: dict, rows: list[dict]) -> float | None:
    """Percentage of the measured rate of matrix products of its type that a row's counted operations make up."""
    best = limit_of(rows, row["dtype"])
    operations = row.get("flop_per_event")
    if not best or not operations or "events_per_s" not in row:
        return None
    return 100 * row["events_per_s"] * operations / (best * per_device(row))


def limit_of(rows: list[dict], dtype: str) -> float:
    """The highest measured rate of matrix products of a type, operations/s, of either framework; 0 where none is."""
    rates = [row["per_s"] for row in rows if row["kind"] == "limit" and row.get("dtype") == dtype]
    return max(rates, default=0.0)


def table(rows: list[dict]) -> str:
    """All variants as a Markdown table, one row each."""
    lines = [
        "| network | batch | mode | framework | variant | events/s (min-max) | compile s | peak MiB | % of product limit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in newest(rows):
        asked = row.get("asked_batch", row["batch"])
        batch = f"{asked:,}" if asked == row["batch"] else f"{row['batch']:,} (of {asked:,})"
        start = f"| {row['model']} | {batch} | {row['mode']} | {row['framework']} | {row['variant']} |"
        if "rates" not in row:
            lines.append(f"{start} skipped: {row['skipped'].replace('|', '/')} | | | |")
            continue
        rate = f"{row['events_per_s']:,.0f} ({row['min']:,.0f}-{row['max']:,.0f})"
        percent = percent_of_limit(row, rows)
        share = "" if percent is None else f"{percent:.1f}"
        lines.append(f"{start} {rate} | {row['compile_s']:.1f} | {row['peak_bytes'] / 2**20:,.0f} | {share} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(read_rows(Path(sys.argv[1]))))
