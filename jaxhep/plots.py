"""Plots in the style that collaborations publish, PNG and PDF; what is drawn is what metrics.json holds."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import mplhep
import numpy as np

SIZE = (8.0, 6.4)
STYLE = mplhep.style.ROOT | {
    "figure.figsize": SIZE, "font.size": 16, "axes.labelsize": 18, "legend.fontsize": 13, "lines.linewidth": 1.8,
    "xtick.labelsize": 15, "ytick.labelsize": 15, "savefig.bbox": "tight", "axes.prop_cycle": matplotlib.rcParamsDefault["axes.prop_cycle"],
}  # fmt: skip
ENERGY = "Reconstructed energy [GeV]"
REJECTION = "Proton rejection"


def save_figure(figure, path: Path) -> list[Path]:
    """Write a figure as `path`.png and `path`.pdf and close it; return both paths."""
    paths = [path.with_name(f"{path.name}.{suffix}") for suffix in ("png", "pdf")]
    for target in paths:
        figure.savefig(target, dpi=120, metadata={"CreationDate": None} if target.suffix == ".pdf" else {})
    plt.close(figure)
    return paths


def new_figure(note: str, title: str = ""):
    """Return a figure and its axes, the title above and the note below, in small print; call within `STYLE`."""
    figure, axes = plt.subplots()
    if title:
        axes.set_title(title, loc="left", fontsize=15)
    if note:
        axes.text(0.0, -0.17, note, transform=axes.transAxes, fontsize=9, color="0.35", va="top")
    return figure, axes


def plain_numbers(axis) -> None:
    """Write 200, 300, 500 on a logarithmic axis, where powers of ten alone would leave one label or none."""
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    low, high = axis.get_view_interval()
    digits = "235" if high / low < 300 else ""
    axis.set_minor_formatter(
        matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}" if f"{value:g}"[0] in digits else "")
    )


def _points(
    axes,
    x: np.ndarray,
    points: list[dict[str, Any]],
    label: str,
    color: str,
    width=None,
    fill: bool = True,
    marker: str = "o",
) -> None:
    """Draw rejections with their intervals, and lower limits as arrows where no proton passes."""
    seen = np.array([point["proton_rejection"] is not None for point in points], bool)
    value = np.array([point["proton_rejection"] or point["low"] for point in points])
    low = np.array([point["low"] for point in points])
    high = np.array([point["high"] or point["low"] for point in points])
    face = color if fill else "white"
    if seen.any():
        errors = np.maximum([value - low, high - value], 0)[:, seen]
        across = None if width is None else width[:, seen]
        axes.errorbar(
            x[seen],
            value[seen],
            errors,
            across,
            fmt=marker,
            color=color,
            mfc=face,
            capsize=2,
            label=label,
            ms=5,
        )
    if (~seen).any():
        across = None if width is None else width[:, ~seen]
        height = 0.35 * value[~seen]
        axes.errorbar(
            x[~seen],
            value[~seen],
            height,
            across,
            fmt=marker,
            color=color,
            mfc=face,
            lolims=True,
            ms=3,
            label=None if seen.any() else f"{label} (lower limit)",
        )


def rejection_against_efficiency(methods: dict[str, dict[str, Any]], title: str, note: str, path: Path) -> list[Path]:
    """Draw proton rejection against electron efficiency, a band for the interval, arrows for lower limits."""
    with plt.style.context(STYLE):
        figure, axes = new_figure(note, title)
        for index, (name, method) in enumerate(methods.items()):
            color = f"C{index}"
            for source, fill in (("test", True), ("training", False)):
                points = [
                    point for point in method["rejection"] if point["threshold_source"] == source and point["protons"]
                ]
                if points:
                    label = (
                        f"{name}, AUC {method['auc']:.4f}" if source == "test" else f"{name}, thresholds from training"
                    )
                    _points(
                        axes,
                        np.array([point["electron_efficiency"] for point in points]),
                        points,
                        label,
                        color,
                        fill=fill,
                        marker="o" if fill else "s",
                    )
        axes.set(xlabel="Electron efficiency", ylabel=REJECTION, yscale="log")
        axes.margins(y=0.15)
        plain_numbers(axes.yaxis)
        axes.legend(loc="best")
        return save_figure(figure, path)


def rejection_against_energy(
    ranges: dict[str, dict[str, Any]],
    efficiency: float,
    title: str,
    note: str,
    path: Path,
    every_threshold: bool = True,
) -> list[Path]:
    """Draw rejection against energy at one efficiency, the threshold set in each bin.

    With `every_threshold` also, for the first method, with one threshold per range and with those from training.
    """
    with plt.style.context(STYLE):
        figure, axes = new_figure(note, title)
        names = list(dict.fromkeys(name for content in ranges.values() for name in content["methods"]))
        labels = {
            "bin": "threshold set in each bin",
            "range": "one threshold per range",
            "training": "thresholds from training",
        }
        drawn = set()
        for index, name in enumerate(names):
            for source, marker in (("bin", "o"), ("range", "s"), ("training", "^")):
                points = [
                    point
                    for content in ranges.values()
                    for point in content["methods"].get(name, {"rejection_vs_energy": []})["rejection_vs_energy"]
                    if point["threshold_source"] == source
                ]
                if points and (source == "bin" or (index == 0 and every_threshold)):
                    low, high = (np.array([point[key] for point in points]) for key in ("energy_low", "energy_high"))
                    # Geometric centres, moved a little apart so that intervals do not hide each other.
                    centre = np.sqrt(low * high) * 1.012 ** (2 * index + "osr^".find(marker))
                    color = f"C{index}" if source == "bin" else f"C{len(names) + (source == 'training')}"
                    _points(
                        axes,
                        centre,
                        points,
                        f"{name}, {labels[source]}",
                        color,
                        np.array([centre - low, high - centre]),
                        source == "bin",
                        marker,
                    )
                    drawn.add(source)
        axes.set(
            xlabel=ENERGY,
            ylabel=f"{REJECTION} at {100 * efficiency:g} % electron efficiency",
            xscale="log",
            yscale="log",
        )
        axes.margins(y=0.2)
        plain_numbers(axes.xaxis)
        plain_numbers(axes.yaxis)
        if drawn:
            axes.legend(loc="best")
        else:
            axes.text(
                0.5,
                0.5,
                "no energy bin has both electrons and protons",
                transform=axes.transAxes,
                ha="center",
            )
        return save_figure(figure, path)


def score_distributions(
    scores: np.ndarray,
    labels: np.ndarray,
    threshold: float | None,
    name: str,
    title: str,
    note: str,
    path: Path,
) -> list[Path]:
    """Draw the distributions of a method's score for electrons and protons, each normalised to one."""
    with plt.style.context(STYLE):
        figure, axes = new_figure(note, title)
        low, high = float(scores.min()), float(scores.max())
        edges = np.linspace(low, high if high > low else low + 1, 61)
        for label, species, color in ((1, "Electrons", "C0"), (0, "Protons", "C3")):
            chosen = scores[labels == label]
            if len(chosen):
                counts, _ = np.histogram(chosen, edges)
                mplhep.histplot(
                    counts / len(chosen),
                    edges,
                    ax=axes,
                    color=color,
                    label=f"{species} ({len(chosen)})",
                    histtype="fill",
                    alpha=0.35,
                )
                mplhep.histplot(counts / len(chosen), edges, ax=axes, color=color)
        if threshold is not None:
            axes.axvline(threshold, color="0.3", ls="--", label="threshold")
        axes.set(xlabel=f"{name} score (logit)", ylabel="Fraction of events", yscale="log")
        axes.legend(loc="best")
        return save_figure(figure, path)


def training_curves(lines: Iterable[dict[str, Any]], title: str, quantity: str, label: str, path: Path) -> list[Path]:
    """Draw loss and the quantity followed beside it, in training and validation, against the epoch, from the log."""
    epochs = [line for line in lines if "validation_loss" in line]
    with plt.style.context(STYLE):
        figure, panels = plt.subplots(2, 1, sharex=True, figsize=(SIZE[0], 8.0), gridspec_kw={"hspace": 0.08})
        number = [line["epoch"] for line in epochs]
        for panel, name, what in zip(panels, ("loss", quantity), ("Loss", label), strict=True):
            for split, marker in (("train", "o"), ("validation", "s")):
                panel.plot(
                    number,
                    [line[f"{split}_{name}"] for line in epochs],
                    marker=marker,
                    ms=4,
                    label=split.capitalize(),
                )
            panel.set_ylabel(what)
        panels[0].legend()
        panels[0].set_title(title, loc="left", fontsize=15)
        panels[1].set_xlabel("Epoch")
        panels[1].xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        return save_figure(figure, path)
