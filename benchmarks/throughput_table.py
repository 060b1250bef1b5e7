"""Rows of the throughput benchmark: reading them, the ratio of the frameworks, and the Markdown table."""

import json
import statistics
from pathlib import Path


def ratio_row(cell: dict, rows: list[dict]) -> dict:
    """JAX over PyTorch, best variant of each by median, pair by pair over the rounds that both finished."""
    best: dict[str, dict] = {}
    for row in rows:
        if "rates" in row and row["events_per_s"] > best.get(row["framework"], {"events_per_s": 0})["events_per_s"]:
            best[row["framework"]] = row
    result = {"kind": "ratio", **cell, **{f"{name}_variant": row["variant"] for name, row in best.items()}}
    if len(best) == 2:
        ratios = [ours / theirs for ours, theirs in zip(best["jax"]["rates"], best["torch"]["rates"], strict=False)]
        result |= {
            "ratio": statistics.median(ratios),
            "min": min(ratios),
            "max": max(ratios),
            "pairs": len(ratios),
        }
    return result


def table(rows: list[dict]) -> str:
    """All rows as a Markdown table, the ratio beside the best variant of JAX."""
    ratios = {(r["model"], r["batch"], r["mode"], r.get("jax_variant")): r for r in rows if r["kind"] == "ratio"}
    lines = [
        "| network | batch | mode | framework | variant | events/s (min-max) | compile s | peak MiB | JAX / PyTorch |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        if row["kind"] != "row":
            continue
        start = f"| {row['model']} | {row['batch']} | {row['mode']} | {row['framework']} | {row['variant']} |"
        if "skipped" in row:
            lines.append(f"{start} skipped: {row['skipped'].replace('|', '/')} | | | |")
            continue
        key = (row["model"], row["batch"], row["mode"], row["variant"])
        found = ratios.get(key, {}) if row["framework"] == "jax" else {}
        ratio = f"{found['ratio']:.2f} ({found['min']:.2f}-{found['max']:.2f})" if "ratio" in found else ""
        rate = f"{row['events_per_s']:,.0f} ({row['min']:,.0f}-{row['max']:,.0f})"
        lines.append(f"{start} {rate} | {row['compile_s']:.1f} | {row['peak_bytes'] / 2**20:,.0f} | {ratio} |")
    return "\n".join(lines)


def read_rows(path: Path) -> list[dict]:
    """Rows of an earlier run, if there was one. Leaves the program on a line that is not whole."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise SystemExit(f"error: line {number} of {path} is not JSON; remove it to go on") from None
    return rows
