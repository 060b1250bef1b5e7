"""Rows of the scaling benchmark: efficiency against one device, whether the loss is the same, the Markdown table."""

import statistics
from typing import Any

TOLERANCE = 1e-4  # relative, of the losses of the first three steps on N devices and on one


def compare(row: dict, one: dict) -> dict[str, Any]:
    """Return what a row shows beside the row of one device, round by round: speed-up, efficiency, difference of losses.

    Efficiency is the speed-up over the number of devices, for weak and strong scaling alike. Losses are of the same
    events in strong scaling only; under pmap BatchNorm takes each device's own statistics, so there the difference is
    told and not judged.
    """
    pairs = list(zip(row.get("rates", []), one.get("rates", []), strict=False))
    if not pairs:
        return {}
    ratios = [many / single for many, single in pairs]
    found: dict[str, Any] = {
        "speed_up": statistics.median(ratios),
        "efficiency": statistics.median(ratios) / row["devices"],
        "efficiency_min": min(ratios) / row["devices"],
        "efficiency_max": max(ratios) / row["devices"],
    }
    if row["scaling"] == "strong":
        losses = zip(row["losses"], one["losses"], strict=True)
        found["loss_difference"] = max(abs(many - single) / abs(single) for many, single in losses)
        if row["parallel"] == "jit" and row["dtype"] == "float32":
            found["same_loss"] = found["loss_difference"] <= TOLERANCE
    return found


def table(rows: list[dict]) -> str:
    """Return all rows as a Markdown table, and below it what fake devices mean where there are any."""
    lines = [
        "| network | batch | by | devices | scaling | events/s (min-max) | efficiency | loss differs by | MiB per device | collectives |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        number = f"{row['devices']} fake" if row["fake"] else f"{row['devices']}"
        start = f"| {row['model']} | {row['whole_batch']} | {row['parallel']} | {number} | {row['scaling']} |"
        if "skipped" in row:
            lines.append(f"{start} skipped: {row['skipped'].replace('|', '/')} | | | | |")
            continue
        rate = f"{row['events_per_s']:,.0f} ({row['min']:,.0f}-{row['max']:,.0f})"
        efficiency = (
            f"{row['efficiency']:.2f} ({row['efficiency_min']:.2f}-{row['efficiency_max']:.2f})"
            if "efficiency" in row
            else ""
        )
        difference = f"{row['loss_difference']:.1e}" if "loss_difference" in row else ""
        difference += " (not the same)" if row.get("same_loss") is False else ""
        sizes = [row.get("memory_per_device"), row.get("allocator_peak")]
        memory = ", peak ".join(f"{size / 2**20:,.0f}" for size in sizes if size is not None)
        operations = ", ".join(f"{count} {name}" for name, count in row.get("collectives", {}).items())
        lines.append(f"{start} {rate} | {efficiency} | {difference} | {memory} | {operations} |")
    if any(row["fake"] for row in rows):
        lines += [
            "",
            "Fake devices share the cores of one CPU: they show that the mechanics work, not how speed scales.",
        ]
    return "\n".join(lines)
