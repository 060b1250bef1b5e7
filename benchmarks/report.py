"""The measured throughput as tables and plots, from every benchmarks/results/throughput_<machine>.jsonl.

    python -m benchmarks.report [FILE]

Writes the table of best variants between the throughput markers of benchmarks/README.md, all variants to
results/variants.md, and a plot for each machine, results/throughput_<machine>.png. With a FILE it only prints the table
of all its variants.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.operations import MODELS
from benchmarks.process import command
from benchmarks.rows import best_rows, cell_of, limit_of, newest, per_device, ratio_of, read_rows, share_of_limit
from jaxhep.errors import BadInput

HERE = Path(__file__).parent
BEGIN, END = "<!-- throughput:begin -->", "<!-- throughput:end -->"
NOTE = (
    "Written by `python -m benchmarks.report`. \\* the two were not timed in turn: ratio of medians, range of extremes."
)
# Colours that are told apart by colour-blind readers too; solid lines are training, broken ones inference.
FRAMEWORKS = {"jax": ("JAX", "#0072B2"), "torch": ("PyTorch", "#D55E00")}
MODES: dict[str, tuple[str, Any]] = {"train": ("training", "-"), "infer": ("inference", "--")}
GREY: dict[str, Any] = {"color": "0.45", "linewidth": 1}

Cells = dict[tuple, list[dict]]  # rows by network, mode, batch and points


def cells(rows: list[dict]) -> Cells:
    """Return the newest rows by cell, networks in their order, batches ascending."""
    found: Cells = {}
    for row in newest(rows):
        found.setdefault(cell_of(row), []).append(row)

    def place(key: tuple) -> tuple:
        model, mode, batch, points = key
        return (MODELS.index(model) if model in MODELS else len(MODELS), model, [*MODES].index(mode), batch, points)

    return {key: found[key] for key in sorted(found, key=place)}


def rate_text(rate: float) -> str:
    """Return a rate with three digits at least."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def table(rows: list[dict]) -> str:
    """Return all variants as a Markdown table, one row each."""
    lines = [
        "| network | batch | mode | framework | variant | events/s (min-max) | compile s | peak MiB | % of product limit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in newest(rows):
        asked = row["asked_batch"]
        batch = f"{asked:,}" if asked == row["batch"] else f"{row['batch']:,} (of {asked:,})"
        start = f"| {row['model']} | {batch} | {row['mode']} | {row['framework']} | {row['variant']} |"
        if "rates" not in row:
            lines.append(f"{start} skipped: {row['skipped'].replace('|', '/')} | | | |")
            continue
        rate = f"{row['events_per_s']:,.0f} ({row['min']:,.0f}-{row['max']:,.0f})"
        share = share_of_limit(row, rows)
        percent = "" if share is None else f"{100 * share:.1f}"
        lines.append(f"{start} {rate} | {row['compile_s']:.1f} | {row['peak_bytes'] / 2**20:,.0f} | {percent} |")
    return "\n".join(lines)


def best_table(rows: list[dict]) -> str:
    """Return one line for each network, mode and batch, with the best variant of each framework."""
    lines = [
        "| network | mode | batch | JAX, events/s (best variant) | PyTorch, events/s (best variant) | JAX / PyTorch (min-max) "
        "| MFLOP an event | % of product limit, JAX / PyTorch | peak MiB, JAX / PyTorch |",
        "|---|---|---|---|---|---|---|---|---|",
    ]

    def percent(row: dict) -> str:
        share = share_of_limit(row, rows)
        return "-" if share is None else f"{100 * share:.1f}"

    for (model, mode, asked, points), found in cells(rows).items():
        best = best_rows(found)

        def pair(value: Callable[[dict], str], best: dict = best) -> str:
            return " / ".join(value(best[name]) if name in best else "-" for name in FRAMEWORKS)

        def rate(framework: str, best: dict = best, asked: int = asked) -> str:
            if framework not in best:
                return "not measured"
            row = best[framework]
            halved = f", batch {row['batch']:,}" if row["batch"] != asked else ""
            few = f", {len(row['rates'])} rounds" if len(row["rates"]) < 5 else ""
            return f"{rate_text(row['events_per_s'])} ({row['variant']}{halved}{few})"

        ratio, million = ratio_of(best), found[0].get("flop_per_event", 0) / 1e6
        star = "" if ratio.get("pairs") else "*"
        texts = [
            f"{model}, {points} points" if points and points != 800 else model,
            mode,
            f"{asked:,}",
            rate("jax"),
            rate("torch"),
            f"{ratio['ratio']:.2f}{star} ({ratio['min']:.2f}-{ratio['max']:.2f})" if ratio else "-",
            (f"{million:,.3g}" if million < 1e3 else f"{million:,.0f}") if million else "-",
            pair(percent),
            pair(lambda row: f"{row['peak_bytes'] / 2**20:,.0f}"),
        ]
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join(lines)


def about(rows: list[dict]) -> str:
    """Return what a machine is, what it ran, when, and its limits, in words."""
    measured = [row for row in rows if row["kind"] == "row" and "rates" in row]

    def values(name: str) -> str:
        return ", ".join(dict.fromkeys(str(row[name]) for row in measured if row.get(name)))

    devices = {row["device"] for row in measured if row["framework"] == "jax"} or {row["device"] for row in measured}
    days = sorted({row["date"][:10] for row in measured})
    loads = [row["load"] for row in measured]
    parts = [
        f"{', '.join(sorted(devices))}{'; ' * bool(values('cpu'))}{values('cpu')}, {values('cores')} cores",
        ", ".join(f"{name} {values(name)}" for name in ("python", "jax", "flax", "torch", "driver") if values(name)),
        f"{days[0]}{f' to {days[-1]}' if len(days) > 1 else ''}, commit {values('commit') or 'unknown'}",
        f"load of the machine when cells began {min(loads):.1f} to {max(loads):.1f} (median {statistics.median(loads):.1f})",
    ]
    text = "; ".join(parts) + "."
    rates = {dtype: limit_of(rows, dtype) for dtype in ("float32", "bfloat16")}
    products = ", ".join(f"{dtype} {rate / 1e12:.3g} TFLOP/s" for dtype, rate in rates.items() if rate)
    copies = [row["per_s"] for row in rows if row["kind"] == "limit" and row["limit"] == "copy"]
    if products and copies:
        digits = sorted({row["float32_products"] for row in rows if row["kind"] == "limit"} - {"float32"})
        written = f" (float32 as {', '.join(digits)})" if digits else ""
        copied = rate_text(max(copies) / 1e9)
        text += f" Limits measured beside: matrix product {products}{written}, copy {copied} GB/s."
    return text


def draw_rates(axis: Any, of_mode: list[list[dict]], mode: str, framework: str) -> None:
    """Draw the best variant of a framework against the batch, with its extremes."""
    # Two batches that were asked for may have ended as one: the faster is drawn.
    drawn = [best_rows(found)[framework] for found in of_mode if framework in best_rows(found)]
    best = {row["batch"]: row for row in sorted(drawn, key=lambda row: row["events_per_s"])}
    points = [best[batch] for batch in sorted(best)]
    if points:
        rates = [row["events_per_s"] for row in points]
        below, above = ([abs(row["events_per_s"] - row[name]) for row in points] for name in ("min", "max"))
        axis.errorbar(sorted(best), rates, [below, above], capsize=2, linewidth=1.5, **style(framework, mode))


def style(framework: str, mode: str) -> dict[str, Any]:
    """Return how the points of a framework and a mode look."""
    colour, training = FRAMEWORKS[framework][1], mode == "train"
    markers = {
        "marker": "o" if training else "s",
        "markersize": 4.5,
        "markerfacecolor": colour if training else "white",
    }
    return {"color": colour, "linestyle": MODES[mode][1], **markers}


def limit_per_event(rows: list[dict], drawn: list[dict]) -> float:
    """Return the events per second that the measured rate of matrix products allows, 0 where it was not measured."""
    limits = [
        limit_of(rows, row["dtype"]) * per_device(row) / row["flop_per_event"]
        for row in drawn
        if "rates" in row and "flop_per_event" in row
    ]
    return max(limits, default=0.0)


def plot(rows: list[dict], path: Path, name: str) -> None:
    """Write a panel for each network: the best variant of each framework, and the limit by matrix products.

    The limit is the highest measured rate of matrix products of the types that the rows have, divided by operations
    per event.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator

    known = cells(rows)
    models = list(dict.fromkeys(model for (model, *_), found in known.items() if best_rows(found)))
    columns = min(3, len(models))
    lines = -(-len(models) // columns)
    size = (4.2 * columns, 3.4 * lines + 0.9)
    figure, axes = pyplot.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat[len(models) :]:
        axis.set_visible(False)
    for axis, model in zip(axes.flat, models, strict=False):
        for mode, (_, line) in MODES.items():
            of_mode = [found for (own, its_mode, *_), found in known.items() if (own, its_mode) == (model, mode)]
            for framework in FRAMEWORKS:
                draw_rates(axis, of_mode, mode, framework)
            limit = limit_per_event(rows, [row for found in of_mode for row in found])
            if limit:
                axis.axhline(limit, linestyle=line, **GREY)
        batches = sorted({asked for own, _, asked, _ in known if own == model})
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
    measured = [row for row in rows if "rates" in row]
    handles = [
        Line2D([], [], label=f"{label}, {word}", **style(framework, mode))
        for framework, (label, _) in FRAMEWORKS.items()
        if framework in {row["framework"] for row in measured}
        for mode, (word, _) in MODES.items()
    ]
    if any(row["kind"] == "limit" for row in rows):
        for word, line in MODES.values():
            handles.append(Line2D([], [], linestyle=line, label=f"limit of products, {word}", **GREY))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) // 2, frameon=False)
    devices = ", ".join(sorted({row["device"] for row in measured if row["framework"] == "jax"}))
    figure.suptitle(f"Events per second, best variant of each framework: {name} ({devices})", fontsize=11)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def write(results: Path, readme: Path) -> list[Path]:
    """Write tables and plots of all machines in the folder `results`; return the files.

    Raises BadInput where there is nothing to report, or no place for it.
    """
    short, full, written = [], ["# All variants\n\nWritten by `python -m benchmarks.report`; see ../README.md."], []
    for path in sorted(results.glob("throughput_*.jsonl")):
        rows = read_rows(path)
        if not any("rates" in row for row in rows):
            continue
        name, picture = path.stem.removeprefix("throughput_"), path.with_suffix(".png")
        plot(rows, picture, name)
        link = f"![events per second against batch]({picture.relative_to(readme.parent).as_posix()})"
        short.append(f"### {name}\n\n{about(rows)}\n\n{best_table(rows)}\n\n{link}")
        full.append(f"## {name}\n\n{about(rows)}\n\n{table(rows)}")
        written.append(picture)
    if not short:
        raise BadInput(f"no throughput_*.jsonl with measured rows in {results}")
    head, begin, rest = readme.read_text().partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise BadInput(f"{readme} lacks the markers {BEGIN} and {END}")
    content = "\n\n".join([NOTE, *short])
    readme.write_text(f"{head}{BEGIN}\n{content}\n{END}{tail}")
    variants = results / "variants.md"
    variants.write_text("\n\n".join(full) + "\n")
    return [readme, variants, *written]


def main(arguments: list[str] | None = None) -> None:
    """Write the tables and plots, and print which files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", help="print the table of this file, and write nothing")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    options = parser.parse_args(arguments)
    if options.file:
        print(table(read_rows(options.file)))
    else:
        print("\n".join(map(str, write(options.results.resolve(), options.readme.resolve()))))


if __name__ == "__main__":
    command(main)
