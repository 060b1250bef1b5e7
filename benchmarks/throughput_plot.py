"""The plot of one machine's throughput: events per second against batch, a panel for each network."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from benchmarks.throughput_expect import best_rows
from benchmarks.throughput_table import limit_of

COLOURS = {"jax": "#0072B2", "torch": "#D55E00"}  # told apart by colour-blind readers too
LABELS = {"jax": "JAX", "torch": "PyTorch"}
LINES: dict[str, Any] = {"train": "-", "infer": "--"}
WORDS = {"train": "training", "infer": "inference"}


def plot(rows: list[dict], path: Path, cells: dict[tuple, list[dict]], name: str) -> None:
    """Write the plot: the best variant of each framework, with extremes, and the limit by matrix products.

    cells: the newest rows by (network, mode, asked batch, points). The limit is the highest measured rate of matrix
    products of the types that the rows have, divided by operations per event.
    """
    models = list(dict.fromkeys(model for (model, *_), found in cells.items() if best_rows(found)))
    if not models:
        return
    columns = min(3, len(models))
    lines = -(-len(models) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(4.2 * columns, 3.4 * lines + 0.9), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(models) :]:
        axis.set_visible(False)
    for axis, model in zip(axes.flat, models, strict=False):
        batches = sorted({asked for own, _, asked, _ in cells if own == model})
        for mode in LINES:
            of_mode = [found for (own, its_mode, *_), found in cells.items() if (own, its_mode) == (model, mode)]
            for framework, colour in COLOURS.items():
                # Two batches that were asked for may have ended as one: the faster is drawn.
                drawn = [best_rows(found)[framework] for found in of_mode if framework in best_rows(found)]
                best = {row["batch"]: row for row in sorted(drawn, key=lambda row: row["events_per_s"])}
                points = [best[batch] for batch in sorted(best)]
                if not points:
                    continue
                rates = [row["events_per_s"] for row in points]
                below = [row["events_per_s"] - row["min"] for row in points]
                above = [row["max"] - row["events_per_s"] for row in points]
                style = {"color": colour, "linestyle": LINES[mode], "marker": "o" if mode == "train" else "s"}
                filled = {"markersize": 4.5, "markerfacecolor": colour if mode == "train" else "white"}
                axis.errorbar(sorted(best), rates, [below, above], capsize=2, linewidth=1.5, **style, **filled)
            limit = limit_per_event(rows, [row for found in of_mode for row in found])
            if limit:
                axis.axhline(limit, color="0.45", linestyle=LINES[mode], linewidth=1)
        axis.set(title=model, xscale="log", yscale="log", xlabel="batch (events)", ylabel="events/s")
        axis.set_xticks(batches, [f"{batch:,}" for batch in batches])
        axis.minorticks_off()
        axis.margins(x=0.15, y=0.12)
        low, high = axis.get_ylim()
        if high < 4 * low:
            low, high = axis.set_ylim((low * high) ** 0.5 / 2, (low * high) ** 0.5 * 2)
        # A logarithmic axis of less than two decades would be left with one labelled tick, or none.
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)))
        axis.yaxis.set_major_formatter(lambda value, place: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        axis.grid(True, alpha=0.3)
    handles = legend(rows)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) // 2, frameon=False)
    devices = {row["device"] for row in rows if row["kind"] == "row" and "rates" in row and row["framework"] == "jax"}
    figure.suptitle(
        f"Events per second, best variant of each framework: {name} ({', '.join(sorted(devices))})", fontsize=11
    )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def legend(rows: list[dict]) -> list[Line2D]:
    """Handles that say what colours and lines mean."""
    measured = {row["framework"] for row in rows if "rates" in row}
    handles = [
        Line2D(
            [],
            [],
            color=colour,
            linestyle=line,
            marker="o" if mode == "train" else "s",
            markersize=4.5,
            markerfacecolor=colour if mode == "train" else "white",
            label=f"{LABELS[framework]}, {WORDS[mode]}",
        )
        for framework, colour in COLOURS.items()
        if framework in measured
        for mode, line in LINES.items()
    ]
    if any(row["kind"] == "limit" for row in rows):
        for mode, line in LINES.items():
            handles.append(
                Line2D([], [], color="0.45", linestyle=line, linewidth=1, label=f"limit of products, {WORDS[mode]}")
            )
    return handles


def limit_per_event(rows: list[dict], drawn: list[dict]) -> float:
    """Events per second that the measured rate of matrix products allows, 0 where it was not measured."""
    rates = [limit_of(rows, dtype) for dtype in {row["dtype"] for row in drawn if "rates" in row}]
    devices = max(
        (row.get("devices") or 1 for row in drawn if not row.get("device", "cpu").startswith("cpu")), default=1
    )
    return devices * max(rates, default=0.0) / drawn[0]["flop_per_event"] if drawn else 0.0
