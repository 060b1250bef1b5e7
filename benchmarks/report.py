"""The measured throughput as tables and plots, from every benchmarks/results/throughput_<machine>.jsonl.

python -m benchmarks.report

Writes the table of best variants between the throughput markers of benchmarks/README.md, all variants to
results/variants.md, and a plot for each machine, results/throughput_<machine>.png.
"""

import argparse
import statistics
from pathlib import Path

from benchmarks.operations import TRAINING, by_hand
from benchmarks.throughput_expect import best_rows
from benchmarks.throughput_table import limit_of, newest, percent_of_limit, ratio_of, read_rows, table

HERE = Path(__file__).parent
BEGIN, END = "<!-- throughput:begin -->", "<!-- throughput:end -->"
ORDER = ("mlp", "cnn", "resnet10", "resnet18", "cvt", "pointnet")  # of networks; others follow
MODES = ("train", "infer")


def machine_of(path: Path) -> str:
    """The machine's name, from results/throughput_<machine>.jsonl."""
    return path.stem.removeprefix("throughput_")


def with_counts(row: dict) -> dict:
    """The row with its operations per event: rows of older files lack XLA's count, so that by hand stands in."""
    if row["kind"] != "row" or row.get("flop_per_event"):
        return row
    passes = TRAINING if row["mode"] == "train" else 1
    points = row.get("points") or 800
    return row | {"flop_per_event": passes * by_hand(row["model"], points, padded=False)}


def read_machine(path: Path) -> list[dict]:
    """Rows of one machine's file, with operations per event."""
    return [with_counts(row) for row in read_rows(path)]


def cells(rows: list[dict]) -> dict[tuple, list[dict]]:
    """The newest rows by (network, mode, asked batch, points), networks in their order, batches ascending."""
    found: dict[tuple, list[dict]] = {}
    for row in newest(rows):
        points = row.get("points", 800 if row["model"] == "pointnet" else 0)
        found.setdefault((row["model"], row["mode"], row.get("asked_batch", row["batch"]), points), []).append(row)

    def place(key: tuple):
        model, mode, batch, points = key
        return (ORDER.index(model) if model in ORDER else len(ORDER), model, MODES.index(mode), batch, points)

    return {key: found[key] for key in sorted(found, key=place)}


def best_cell(best: dict[str, dict], framework: str, asked: int) -> str:
    """Rate and variant of a framework's best row, with the batch where it is not the one asked for."""
    if framework not in best:
        return "not measured"
    row = best[framework]
    halved = f", batch {row['batch']:,}" if row["batch"] != asked else ""
    few = f", {len(row['rates'])} rounds" if len(row["rates"]) < 5 else ""
    return f"{rate_text(row['events_per_s'])} ({row['variant']}{halved}{few})"


def rate_text(rate: float) -> str:
    """A rate with three digits at least."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def pair(best: dict[str, dict], value) -> str:
    """`value` of the best row of JAX and of PyTorch, with a dash where there is none."""
    texts = [value(best[name]) if name in best else None for name in ("jax", "torch")]
    return " / ".join("-" if text is None else text for text in texts)


def best_table(rows: list[dict]) -> str:
    """One line for each network, mode and batch, with the best variant of each framework."""
    lines = [
        "| network | mode | batch | JAX, events/s (best variant) | PyTorch, events/s (best variant) | JAX / PyTorch (min-max) "
        "| MFLOP an event | % of product limit, JAX / PyTorch | peak MiB, JAX / PyTorch |",
        "|---|---|---|---|---|---|---|---|---|",
    ]

    def percent(row: dict) -> str | None:
        found = percent_of_limit(row, rows)
        return None if found is None else f"{found:.1f}"

    for (model, mode, asked, points), found in cells(rows).items():
        best = best_rows(found)
        ratio = ratio_of(best)
        unpaired = "" if ratio.get("pairs") else "*"
        name = f"{model}, {points} points" if points and points != 800 else model
        texts = [
            name,
            mode,
            f"{asked:,}",
            best_cell(best, "jax", asked),
            best_cell(best, "torch", asked),
            f"{ratio['ratio']:.2f}{unpaired} ({ratio['min']:.2f}-{ratio['max']:.2f})" if ratio else "-",
            f"{found[0]['flop_per_event'] / 1e6:,.3g}"
            if found[0]["flop_per_event"] < 1e9
            else f"{found[0]['flop_per_event'] / 1e6:,.0f}",
            pair(best, percent),
            pair(best, lambda row: f"{row['peak_bytes'] / 2**20:,.0f}"),
        ]
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join(lines)


def about(rows: list[dict]) -> str:
    """What a machine is, what it ran, when, and its limits, in words."""
    measured = [row for row in rows if row["kind"] == "row" and "rates" in row]

    def values(*names: str) -> str:
        return ", ".join(dict.fromkeys(str(row[name]) for row in measured for name in names if row.get(name)))

    software = [f"{name} {values(name)}" for name in ("python", "jax", "flax", "torch", "driver") if values(name)]
    devices = {row["device"] for row in measured if row["framework"] == "jax"} or {row["device"] for row in measured}
    days = sorted({row["date"][:10] for row in measured})
    loads = [row["load"] for row in measured]
    parts = [
        f"{', '.join(sorted(devices))}{'; ' * bool(values('cpu'))}{values('cpu')}, {values('cores')} cores",
        ", ".join(software),
        f"{days[0]}{f' to {days[-1]}' if len(days) > 1 else ''}, commit {values('commit') or 'unknown'}",
        f"load of the machine when cells began {min(loads):.1f} to {max(loads):.1f} (median {statistics.median(loads):.1f})",
    ]
    text = "; ".join(parts) + "."
    products = [
        f"{dtype} {limit_of(rows, dtype) / 1e12:.3g} TFLOP/s"
        for dtype in ("float32", "bfloat16")
        if limit_of(rows, dtype)
    ]
    copies = [row["per_s"] for row in rows if row["kind"] == "limit" and row["limit"] == "copy"]
    if products and copies:
        digits = {row["float32_products"] for row in rows if row["kind"] == "limit"} - {"float32"}
        text += f" Limits measured beside: matrix product {', '.join(products)}{' (float32 as ' * bool(digits)}"
        text += f"{', '.join(sorted(digits))}{')' * bool(digits)}, copy {rate_text(max(copies) / 1e9)} GB/s."
    return text


def between_markers(text: str, content: str, path: Path) -> str:
    """The text with what stands between the markers replaced. Leaves the program where they are missing."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"error: {path} lacks the markers {BEGIN} and {END}")
    return f"{head}{BEGIN}\n{content}\n{END}{tail}"


def write(results: Path, readme: Path) -> list[Path]:
    """Write tables and plots of all machines in the folder `results`; return the files."""
    from benchmarks.throughput_plot import plot

    paths = sorted(results.glob("throughput_*.jsonl"))
    short, full, written = [], ["# All variants\n\nWritten by `python -m benchmarks.report`; see ../README.md."], []
    for path in paths:
        rows = read_machine(path)
        if not any("rates" in row for row in rows):
            continue
        name = machine_of(path)
        picture = results / f"throughput_{name}.png"
        plot(rows, picture, cells(rows), name)
        link = f"![events per second against batch]({picture.relative_to(readme.parent).as_posix()})"
        short.append(f"### {name}\n\n{about(rows)}\n\n{best_table(rows)}\n\n{link}")
        full.append(f"## {name}\n\n{about(rows)}\n\n{table(rows)}")
        written.append(picture)
    if not short:
        raise SystemExit(f"error: no throughput_*.jsonl with measured rows in {results}")
    note = "Written by `python -m benchmarks.report`. \\* the two were not timed in turn: ratio of medians, range of extremes."
    readme.write_text(between_markers(readme.read_text(), "\n\n".join([note, *short]), readme))
    variants = results / "variants.md"
    variants.write_text("\n\n".join(full) + "\n")
    return [readme, variants, *written]


def main(arguments: list[str] | None = None) -> None:
    """Write the tables and plots, and print which files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    options = parser.parse_args(arguments)
    print("\n".join(map(str, write(options.results.resolve(), options.readme.resolve()))))


if __name__ == "__main__":
    main()
