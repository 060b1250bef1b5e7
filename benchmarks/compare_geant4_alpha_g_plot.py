"""Draw the comparison of the built-in ALPHA-g simulation with Geant4: `benchmarks.compare_geant4_alpha_g` calls it."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import mplhep

GEANT4 = "Geant4 (approx. low-energy tables)"
SIMULATION = "jaxhep simulation"
COLOURS = ("#5790fc", "#f89c20", "#e42536")


def _compare(axis, values, bins: np.ndarray, weights=(None, None)) -> None:
    """Draw Geant4 as points with errors and the simulation as steps, each normalised to all its values."""
    for sample, weight, geant4 in zip(values, weights, (True, False), strict=True):
        number = np.histogram(sample, bins)[0]
        total = len(sample) if weight is None else weight
        if geant4:
            error = np.where(number > 0, np.sqrt(number), np.nan) / total
            centre = (bins[1:] + bins[:-1]) / 2
            axis.errorbar(centre, np.where(number > 0, number / total, np.nan), error, fmt="o", color="black", ms=5)
        else:
            axis.stairs(number / total, bins, color=COLOURS[0], linewidth=2)


def draw(samples: tuple[dict, dict], events: list[dict], path: Path) -> None:
    """Write the figure: Geant4 first, then the simulation, in `samples` and `events` as the benchmark makes them."""
    plt.style.use(mplhep.style.CMS)
    plt.rcParams.update({"font.size": 16, "figure.constrained_layout.use": True})
    figure, axes = plt.subplots(3, 3, figsize=(21, 18))
    finite = [
        {name: v[np.isfinite(v)] for name, v in some.items() if v.ndim < 3 and name != "radii"} for some in events
    ]

    axis = axes[0, 0]
    _compare(axis, [some["charged"] for some in finite], np.arange(-0.5, 7.5))
    axis.set(xlabel="Charged pions at the vertex", ylabel="Fraction of events")
    axis = axes[0, 1]
    transverse = [np.hypot(*sample["pions"][:, :2].T) for sample in samples]
    _compare(axis, transverse, np.linspace(0, 900, 37))
    axis.set(xlabel="Pion transverse momentum [MeV/c]", ylabel="Fraction of pions per bin")
    axis = axes[0, 2]
    # The last bin holds the events that were cut at 1,500 points.
    _compare(axis, [some["count"] for some in finite], np.linspace(0, 1550, 32))
    axis.set(xlabel="Spacepoints per event", ylabel="Fraction of events per bin", yscale="log")
    axis = axes[1, 0]
    _compare(axis, [some["shift"] for some in finite], np.linspace(-700, 700, 57))
    axis.set(xlabel="Median z - vertex z [mm]", ylabel="Fraction of events per bin", yscale="log")
    axis = axes[1, 1]
    radius = [np.hypot(*sample["points"][:, :2].T) for sample in samples]
    _compare(axis, radius, np.linspace(108, 183, 26))
    axis.set(xlabel="Radius of spacepoints [mm]", ylabel="Fraction of points per bin", ylim=(0, None))
    axis = axes[1, 2]
    _compare(axis, [some["resultant"] for some in finite], np.linspace(0, 1, 26))
    axis.set(xlabel="Mean resultant length of azimuths", ylabel="Fraction of events per bin")
    axis = axes[2, 0]
    bins = np.linspace(0, 12, 61)
    for name, colour, text, place in (
        ("neighbour", COLOURS[0], "nearest", (1.8, 0.12)),
        ("fifth", COLOURS[2], "fifth nearest", (6.0, 0.045)),
    ):
        values = [some[name] for some in finite]
        number = [np.histogram(v, bins)[0] / len(v) for v in values]
        axis.plot((bins[1:] + bins[:-1]) / 2, np.where(number[0] > 0, number[0], np.nan), "o", color="black", ms=4)
        axis.stairs(number[1], bins, color=colour, linewidth=2)
        axis.text(*place, text, color=colour)
    axis.set(xlabel="Distance to other points, event median [mm]", ylabel="Fraction of events per bin")
    axis = axes[2, 1]
    bins = np.linspace(-50, 50, 51)
    total = [len(some["tracks"]) for some in events]
    _compare(axis, [some["residual"] for some in finite], bins, total)
    axis.set(xlabel="Helix Fit z - vertex z [mm]", ylabel="Fraction of events per bin")
    axis = axes[2, 2]
    _compare(axis, [some["approach"] for some in finite], np.linspace(0, 60, 31))
    axis.set(xlabel="Track to vertex, across the axis [mm]", ylabel="Fraction of tracks per bin")
    handles = [
        plt.Line2D([], [], marker="o", linestyle="", color="black"),
        plt.Line2D([], [], color=COLOURS[0], linewidth=2),
    ]
    figure.legend(handles, [GEANT4, SIMULATION], loc="outside upper center", ncols=2, fontsize=18)
    figure.savefig(path, dpi=55)
    plt.close(figure)
