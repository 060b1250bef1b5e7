"""Plots in the style that collaborations publish, PNG and PDF; what is drawn is what metrics.json holds.

Figures are matplotlib's own objects, without pyplot: a user's backend, open figures and settings stay as they are.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from jaxhep.files import aside

SIZE = (8.0, 6.4)
STYLE = mplhep.style.ROOT | {
    "figure.figsize": SIZE,
    "font.size": 16,
    "axes.labelsize": 18,
    "legend.fontsize": 13,
    "lines.linewidth": 1.8,
    "xtick.labelsize": 15,
    "ytick.labelsize": 15,
    "savefig.bbox": "tight",
    "axes.prop_cycle": matplotlib.rcParamsDefault["axes.prop_cycle"],
}
"""Everything is drawn and saved within `matplotlib.rc_context(STYLE)`."""


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as `path`.png and `path`.pdf; return both paths."""
    paths = [path.with_name(f"{path.name}.{suffix}") for suffix in ("png", "pdf")]
    for target in paths:
        metadata = {"CreationDate": None} if target.suffix == ".pdf" else {}
        with aside(target) as partial:
            figure.savefig(partial, dpi=120, format=target.suffix[1:], metadata=metadata)
    return paths


def new_figure(note: str, title: str = "") -> tuple[Figure, Axes]:
    """Return a figure and its axes, the title above and the note below, in small print; call within `STYLE`."""
    figure = Figure()
    axes = figure.subplots()
    if title:
        axes.set_title(title, loc="left", fontsize=15)
    if note:
        write_note(axes, note)
    return figure, axes


def write_note(axes: Axes, note: str, lower: float = 0.17) -> None:
    """Write small print below the axes, `lower` of their height below their lower end."""
    axes.text(0.0, -lower, note, transform=axes.transAxes, fontsize=9, color="0.35", va="top")


def legend_height(lines: int, line: float = 0.056) -> float:
    """Return the part of the frame that a legend of so many lines takes, at most 0.7."""
    return min(0.05 + line * lines, 0.7)


def make_headroom(axes: Axes) -> None:
    """Raise the upper end of the y axis, so that a legend at the top hides nothing."""
    low, high = axes.get_ylim()
    part = legend_height(len(axes.get_legend_handles_labels()[1]))
    part = part / (1 - part)
    axes.set_ylim(low, high * (high / low) ** part if axes.get_yscale() == "log" else high + part * (high - low))


def _plain(value: float) -> str:
    text = f"{value:g}"
    if "e" not in text:
        return text
    digits, power = text.split("e")
    factor = "" if digits == "1" else rf"{digits} \times "
    return f"${factor}10^{{{int(power)}}}$"


def plain_numbers(axis: Axis) -> None:
    """Write 200, 300, 500 on a logarithmic axis, where powers of ten alone would leave one label or none."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    low, high = axis.get_view_interval()
    digits = "235" if high / low < 300 else ""
    axis.set_minor_formatter(FuncFormatter(lambda value, _: _plain(value) if f"{value:g}"[0] in digits else ""))


def training_curves(lines: Iterable[dict[str, Any]], title: str, quantity: str, label: str, path: Path) -> list[Path]:
    """Draw loss and the quantity followed beside it, in training and validation, against the epoch, from the log."""
    epochs = [line for line in lines if "validation_loss" in line]
    number = [line["epoch"] for line in epochs]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(SIZE[0], 8.0))
        panels = figure.subplots(2, 1, sharex=True, gridspec_kw={"hspace": 0.08})
        for panel, name, what in zip(panels, ("loss", quantity), ("Loss", label), strict=True):
            for split, marker in (("train", "o"), ("validation", "s")):
                values = [line[f"{split}_{name}"] for line in epochs]
                panel.plot(number, values, marker=marker, ms=4, label=split.capitalize())
            panel.set_ylabel(what)
        panels[0].legend()
        panels[0].set_title(title, loc="left", fontsize=15)
        panels[1].set_xlabel("Epoch")
        panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
        return save_figure(figure, path)


def confusion_matrix(
    rows: Sequence[Sequence[float | None]],
    counts: Sequence[Sequence[int]],
    classes: Sequence[str],
    title: str,
    note: str,
    path: Path,
) -> list[Path]:
    """Draw a confusion matrix (K, K): colours are the rows normalised, null for a class without events; true classes
    downwards. Numbers in the cells are percentages, up to six classes with the counts below them.
    """
    number = len(classes)
    side = 3.4 + 0.95 * min(max(number, 3), 16)
    values = np.array([[np.nan if value is None else value for value in row] for row in rows], float)
    with matplotlib.rc_context(STYLE | {"figure.figsize": (side + 1.2, side)}):
        figure, axes = new_figure("", title)
        image = axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
        size = 12 if number <= 10 else max(4, 120 / number)
        for row, column in np.ndindex(number, number):
            value = values[row, column]
            text = "-" if np.isnan(value) else f"{100 * value:.1f} %" if number <= 6 else f"{100 * value:.1f}"
            text += f"\n{counts[row][column]}" if number <= 6 else ""
            color = "white" if value > 0.55 else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)
        slanted: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if number > 3 else {}
        axes.set_xticks(range(number), classes, **slanted)
        axes.set_yticks(range(number), classes)
        axes.tick_params(which="both", length=0)
        axes.minorticks_off()
        axes.set(xlabel="Predicted class", ylabel="True class")
        figure.colorbar(image, ax=axes, label="Fraction of the true class", fraction=0.046, pad=0.03)
        units = "" if number <= 6 else "Numbers in per cent. "
        figure.text(0.125, -0.02 if number > 3 else 0.0, units + note, fontsize=9, color="0.35", va="top")
        return save_figure(figure, path)


def roc_curves(curves: dict[str, dict[str, Any]], title: str, note: str, path: Path) -> list[Path]:
    """Draw one ROC curve per name, each `background` and `signal` efficiency (M,) and `auc`.

    Curves that are null are named in the legend alone.
    """
    lines = ("-", "--", ":")
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(note, title)
        axes.plot([0, 1], [0, 1], color="0.6", lw=1.0, ls="--")
        for index, (name, curve) in enumerate(curves.items()):
            style: dict[str, Any] = {"color": f"C{index % 10}", "ls": lines[index // 10 % len(lines)]}
            if curve["auc"] is None:
                axes.plot([], [], label=f"{name}: no events", **style)
            else:
                label = f"{name}, AUC {curve['auc']:.4f}"
                axes.plot(curve["background"], curve["signal"], label=label, **style)
        axes.set(
            xlabel="Efficiency for all other classes", ylabel="Efficiency for the class", xlim=(0, 1), ylim=(0, 1.02)
        )
        columns = 1 if len(curves) <= 12 else 2
        axes.legend(loc="lower right", fontsize=13 if len(curves) <= 8 else 10, ncols=columns)
        return save_figure(figure, path)
