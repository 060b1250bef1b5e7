"""What was compiled as tables and a plot: results/compiled.jsonl, and results/compiled_before.jsonl of the first such compile.

    python -m benchmarks.compiled_report

Writes between the markers of benchmarks/README.md, and results/compiled.png. Numbers are those of XLA's programs and of data
sheets: compiled, not run.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks.compiled import key_of
from benchmarks.links import spread
from benchmarks.operations import MODELS
from benchmarks.process import command
from benchmarks.rows import read_rows
from benchmarks.targets import TARGETS
from jaxhep.errors import BadInput

HERE = Path(__file__).parent
BEGIN, END = "<!-- compiled:begin -->", "<!-- compiled:end -->"
NOTE = "Compiled, not run. Written by `python -m benchmarks.compiled_report`."
# Events/s of the training step in bfloat16, by target, network and batch: what the kernels were written for.
AIMS = {
    ("h100", "cvt", 128): 26_000,
    ("h100", "cvt", 1024): 32_000,
    ("h100", "pointnet", 128): 180_000,
    ("h100", "pointnet", 1024): 300_000,
    ("h100", "resnet18", 128): 200_000,
    ("h100", "resnet18", 1024): 650_000,
    ("v5e", "cvt", 128): 4_000,
    ("v5e", "pointnet", 128): 50_000,
    ("v5e", "resnet18", 128): 250_000,
}
Rows = dict[tuple, dict[str, Any]]


def newest(path: Path) -> Rows:
    """Return the last row of each program that compiled, or, where none did, that says why."""
    found: Rows = {}
    for row in read_rows(path):
        if "failed" not in row or "failed" in found.get(key_of(row), row):
            found[key_of(row)] = row
    return found


def plain(row: dict[str, Any]) -> bool:
    """Return whether a row is of one network on one device, one step a dispatch, with all kept for the gradient."""
    usual = {"devices": 1, "parallel": "jit", "steps_per_dispatch": 1, "members": 1, "recompute": "nothing"}
    return all(row.get(name) == value for name, value in usual.items())


def place(row: dict[str, Any]) -> tuple:
    """Return where a row stands in the tables."""
    names = [*TARGETS]
    return (names.index(row["target"]), row["mode"] != "train", MODELS.index(row["model"]), row["dtype"], row["batch"])


def in_order(rows: Rows) -> list[dict[str, Any]]:
    """Return the rows of one network on one device that compiled, in the order of the tables."""
    return sorted((row for row in rows.values() if plain(row) and "failed" not in row), key=place)


def progress_table(now: Rows, before: Rows) -> str:
    """Return training in bfloat16: kernels, GB and events/s at best, before and now, with the aim."""
    lines = [
        "| target | network | batch | kernels | GB a step | peak MB | events/s at best | gain | aim |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in in_order(now):
        old = before.get(key_of(row))
        if row["mode"] != "train" or row["dtype"] != "bfloat16" or old is None or "failed" in old:
            continue

        def both(name: str, scale: float = 1, text: str = "{:,.0f}", old: dict = old, row: dict = row) -> str:
            return f"{text.format(old[name] / scale)} → {text.format(row[name] / scale)}"

        aim = AIMS.get((row["target"], row["model"], row["batch"]))
        values = (
            both("kernels"),
            both("bytes", 1e9, "{:,.3g}"),
            both("peak_bytes", 1e6),
            both("events_per_s"),
            f"{row['events_per_s'] / old['events_per_s']:.2f}",
            "-" if aim is None else f"{aim:,} ({'met' if row['events_per_s'] >= aim else 'missed'})",
        )
        lines.append(f"| {row['target']} | {row['model']} | {row['batch']:,} | {' | '.join(values)} |")
    return "\n".join(lines)


def bound_table(now: Rows) -> str:
    """Return events/s at best of every network, mode, batch and type, a column for each target, and what bounds it."""
    columns = [name for name in TARGETS if any(row["target"] == name for row in in_order(now))]
    lines = [
        "| network | mode | batch | type | " + " | ".join(columns) + " |",
        "|---|---|---|---|" + "---|" * len(columns),
    ]
    found: dict[tuple, dict[str, str]] = {}
    for row in in_order(now):
        parts = {name: seconds for name, seconds in row["bound_parts_s"].items() if seconds}
        why = max(parts, key=lambda name: parts[name])
        fits = "" if row.get("fits", True) else ", does not fit"
        key = (MODELS.index(row["model"]), row["model"], row["mode"], row["batch"], row["dtype"])
        found.setdefault(key, {})[row["target"]] = f"{row['events_per_s']:,.0f} ({why}{fits})"
    for (_, model, mode, batch, dtype), values in sorted(found.items()):
        texts = " | ".join(values.get(name, "-") for name in columns)
        lines.append(f"| {model} | {mode} | {batch:,} | {dtype} | {texts} |")
    return "\n".join(lines)


def spread_table(now: Rows) -> str:
    """Return what a step on many devices sends, and the efficiency that the links would allow."""
    lines = [
        "| target | network | devices | batch a device | collectives a step | MB a device | step, ms | their bytes, ms "
        "| their hops, ms | efficiency without overlap | with overlap |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = [row for row in now.values() if "failed" not in row and row["devices"] > 1 and row["mode"] == "train"]
    for row in sorted(rows, key=lambda row: (*place(row)[:3], row.get("batch_norm", "global"), row["devices"])):
        found, sums = spread(row), row["collectives"].values()
        name = row["model"] + (f", {row['members']} members" if row["members"] > 1 else "")
        name += ", BatchNorm of each device" if row.get("batch_norm", "global") != "global" else ""
        values = (
            f"{sum(one['number'] for one in sums):.0f}",
            f"{sum(one['bytes'] for one in sums) / 1e6:,.1f}",
            *(f"{1e3 * seconds:.2f}" for seconds in found[:3]),
            *(f"{100 * share:.0f} %" for share in found[3:]),
        )
        start = f"| {row['target']} | {name} | {row['devices']} | {row['batch'] // row['devices']:,} |"
        lines.append(f"{start} {' | '.join(values)} |")
    return "\n".join(lines)


def plot(now: Rows, before: Rows, path: Path) -> None:
    """Draw, for training in bfloat16 on an H100, the parts of the bound of an event: before, above, and now."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in in_order(now) if (row["target"], row["mode"], row["dtype"]) == ("h100", "train", "bfloat16")]
    rows = [
        row for row in rows if row["batch"] in (128, 1024) and "failed" not in before.get(key_of(row), {"failed": 1})
    ]
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure, axes = pyplot.subplots(
        1, len(models), figsize=(3.2 * len(models), 3.6), layout="constrained", squeeze=False
    )
    colours = {"products": "#0072B2", "bytes": "#D55E00", "launches": "0.6"}
    for axis, model in zip(axes.flat, models, strict=True):
        own, ticks = [row for row in rows if row["model"] == model], []
        for number, row in enumerate(own):
            for shift, one, word in ((0, before[key_of(row)], "before"), (1, row, "now")):
                bottom, spot = 0.0, 2.6 * number + shift
                for part, colour in colours.items():
                    height = 1e6 * one["bound_parts_s"][part] / one["batch"]
                    axis.bar(spot, height, 0.85, bottom, color=colour, alpha=0.55 if word == "before" else 1.0)
                    bottom += height
                ticks.append((spot, f"{row['batch']:,}\n{word}"))
        axis.set_xticks([spot for spot, _ in ticks], [text for _, text in ticks], fontsize=8)
        axis.set(title=model)
        axis.grid(True, axis="y", alpha=0.3)
    axes[0][0].set_ylabel("time of an event alone, µs")
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=colour, label=part) for part, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle("Training in bfloat16 compiled for an H100, not run: what bounds it, by batch", fontsize=11)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def write(results: Path, readme: Path) -> list[Path]:
    """Write tables and plot; return the files. Raises BadInput where rows or the markers are missing."""
    now, before = newest(results / "compiled.jsonl"), newest(results / "compiled_before.jsonl")
    if not in_order(now):
        raise BadInput(f"no compiled rows in {results / 'compiled.jsonl'}")
    head, begin, rest = readme.read_text().partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise BadInput(f"{readme} lacks the markers {BEGIN} and {END}")
    one = in_order(now)[0]
    versions = ", ".join(f"{name} {one[name]}" for name in ("jax", "jax-cuda13-pjrt", "libtpu") if one.get(name))
    commits = (", ".join(dict.fromkeys(str(row["commit"]) for row in rows.values())) for rows in (before, now))
    picture = results / "compiled.png"
    plot(now, before, picture)
    parts = [
        f"{NOTE} {versions}; before: commit {next(commits)}; now: commit {next(commits)}.",
        "#### Training in bfloat16: before and now\n\n" + progress_table(now, before),
        f"![what bounds a training step]({picture.relative_to(readme.parent).as_posix()})",
        "#### Events/s at best, and what bounds them\n\n" + bound_table(now),
        "#### On many devices: predicted from the collectives\n\n" + spread_table(now),
    ]
    readme.write_text(f"{head}{BEGIN}\n" + "\n\n".join(parts) + f"\n{END}{tail}")
    return [readme, picture]


def main(arguments: list[str] | None = None) -> None:
    """Write tables and plot, and print which files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    options = parser.parse_args(arguments)
    print("\n".join(map(str, write(options.results.resolve(), options.readme.resolve()))))


if __name__ == "__main__":
    command(main)
