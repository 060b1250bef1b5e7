"""Plots of electron / proton separation: rejection against efficiency and energy, distributions of scores."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from jaxhep.plots import STYLE, make_headroom, new_figure, plain_numbers, save_figure

ENERGY = "Reconstructed energy [GeV]"
REJECTION = "Proton rejection"
THRESHOLDS = {  # by source: marker, steps that points are moved to the right, words
    "bin": ("o", 0, "threshold set in each bin"),
    "range": ("s", 1, "one threshold per range"),
    "training": ("^", 3, "thresholds from training"),
}
STEP = 1.025  # in energy, so that intervals do not hide each other


def _points(
    axes: Axes,
    x: np.ndarray,
    points: list[dict[str, Any]],
    label: str,
    color: str,
    width: np.ndarray | None = None,
    fill: bool = True,
    marker: str = "o",
) -> None:
    """Draw rejections with their intervals, and lower limits as arrows where no proton passes."""
    seen = np.array([point["proton_rejection"] is not None for point in points], bool)
    value = np.array([point["proton_rejection"] or point["low"] for point in points])
    low = np.array([point["low"] for point in points])
    high = np.array([point["high"] or point["low"] for point in points])
    style: dict[str, Any] = {"fmt": marker, "color": color, "mfc": color if fill else "white"}
    if seen.any():
        errors = np.maximum([value - low, high - value], 0)[:, seen]
        across = None if width is None else width[:, seen]
        axes.errorbar(x[seen], value[seen], errors, across, capsize=2, label=label, ms=5, **style)
    if (~seen).any():
        across = None if width is None else width[:, ~seen]
        name = None if seen.any() else f"{label} (lower limit)"
        axes.errorbar(x[~seen], value[~seen], 0.35 * value[~seen], across, lolims=True, label=name, ms=3, **style)


def _legend_or(axes: Axes, nothing: str) -> None:
    if axes.get_legend_handles_labels()[1]:
        make_headroom(axes)
        axes.legend(loc="upper right")
    else:
        axes.text(0.5, 0.5, nothing, transform=axes.transAxes, ha="center")


def rejection_against_efficiency(methods: dict[str, dict[str, Any]], title: str, note: str, path: Path) -> list[Path]:
    """Draw proton rejection against electron efficiency, bars for the interval, arrows for lower limits."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(note, title)
        for index, (name, method) in enumerate(methods.items()):
            for source, fill in (("test", True), ("training", False)):
                points = [
                    point for point in method["rejection"] if point["threshold_source"] == source and point["protons"]
                ]
                if points:
                    label = f"{name}, thresholds from training" if source == "training" else name
                    if source == "test" and method["auc"] is not None:
                        label += f", AUC {method['auc']:.4f}"
                    x = np.array([point["electron_efficiency"] for point in points])
                    _points(axes, x, points, label, f"C{index}", fill=fill, marker="o" if fill else "s")
        axes.set(xlabel="Electron efficiency", ylabel=REJECTION, yscale="log")
        axes.margins(y=0.15)
        _legend_or(axes, "no electrons, or no protons")
        plain_numbers(axes.yaxis)
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
    names = list(dict.fromkeys(name for content in ranges.values() for name in content["methods"]))
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(note, title)
        for index, name in enumerate(names):
            for source, (marker, steps, words) in THRESHOLDS.items():
                points = [
                    point
                    for content in ranges.values()
                    for point in content["methods"].get(name, {"rejection_vs_energy": []})["rejection_vs_energy"]
                    if point["threshold_source"] == source
                ]
                wanted = source == "bin" or (index == 0 and every_threshold)
                if not points or not wanted:
                    continue
                low, high = (np.array([point[key] for point in points]) for key in ("energy_low", "energy_high"))
                centre = np.sqrt(low * high) * STEP ** (2 * index + steps)
                color = f"C{index}" if source == "bin" else f"C{len(names) + (source == 'training')}"
                across = np.array([centre - low, high - centre])
                _points(axes, centre, points, f"{name}, {words}", color, across, source == "bin", marker)
        label = f"{REJECTION} at {100 * efficiency:g} % electron efficiency"
        axes.set(xlabel=ENERGY, ylabel=label, xscale="log", yscale="log")
        axes.margins(y=0.2)
        _legend_or(axes, "no energy bin has both electrons and protons")
        plain_numbers(axes.xaxis)
        plain_numbers(axes.yaxis)
        return save_figure(figure, path)


def score_distributions(
    scores: np.ndarray,
    labels: np.ndarray,
    threshold: float | None,
    efficiency: float,
    name: str,
    title: str,
    note: str,
    path: Path,
) -> list[Path]:
    """Draw the distributions of a method's score (N,) for electrons and protons, each normalised to one.

    `threshold` is that of the electron `efficiency`, None where there is none.
    """
    low, high = float(scores.min()), float(scores.max())
    edges = np.linspace(low, high if high > low else low + 1, 61)
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(note, title)
        for label, species, color in ((1, "Electrons", "C0"), (0, "Protons", "C3")):
            chosen = scores[labels == label]
            if len(chosen):
                fractions = np.histogram(chosen, edges)[0] / len(chosen)
                words = f"{species} ({len(chosen)})"
                # mplhep's histplot would make matplotlib choose a backend.
                axes.stairs(fractions, edges, color=color, label=words, fill=True, alpha=0.35)
                axes.stairs(fractions, edges, color=color, lw=1.5)
        if threshold is not None:
            words = f"Threshold at {100 * efficiency:g} % efficiency"
            axes.axvline(threshold, ymax=0.75, color="0.3", ls="--", label=words)  # below the legend
        axes.set(xlabel=f"{name} score (logit)", ylabel="Fraction of events", yscale="log")
        make_headroom(axes)
        axes.legend(loc="upper right")
        return save_figure(figure, path)
