"""Draw the comparison of the built-in AMS ECAL simulation with Geant4: `benchmarks.compare_geant4` calls it."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import itertools

import matplotlib.pyplot as plt
import mplhep

GEANT4 = "Geant4 (approx. low-energy tables)"
SIMULATION = "jaxhep simulation"
ELECTRON_BINS = ((50, 100), (100, 300), (300, 700))
PROTON_BINS = ((100, 300), (300, 1000), (1000, 2000))


def cut(events: dict[str, np.ndarray], low: float, high: float) -> dict[str, np.ndarray]:
    """Return the events of true energy low to high."""
    chosen = (events["energy"] >= low) & (events["energy"] < high)
    return {name: values[chosen] for name, values in events.items()}


def interacting(events: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the events that leave more than 1 GeV."""
    chosen = events["visible"] > 1
    return {name: values[chosen] for name, values in events.items()}


def draw(reference: dict[str, dict], simulation: dict[str, dict], path: Path) -> None:
    """Draw the comparison, one panel per quantity: Geant4 as points, the simulation as lines."""
    plt.style.use(mplhep.style.CMS)
    plt.rcParams.update({"font.size": 15, "axes.labelsize": 16, "legend.fontsize": 12, "lines.linewidth": 2})
    figure, axes = plt.subplots(3, 3, figsize=(20, 17), layout="constrained")
    colours = ("#3f90da", "#ffa90e", "#bd1f01")
    electrons, protons = (
        (reference["electron"], simulation["electron"]),
        (reference["proton"], simulation["proton"]),
    )
    layer = np.arange(18)

    def profile(axis, pair, bins, select):
        for (low, high), colour in zip(bins, colours, strict=True):
            for events, line in zip(pair, ("o", "-"), strict=True):
                some = select(cut(events, low, high))
                mean = 100 * (some["layers"] / some["energy"][:, None]).mean(0)
                axis.plot(layer, mean, line, color=colour, label=f"{low}-{high} GeV" if line == "-" else None)
        axis.set(xlabel="Layer", ylabel="Mean energy per layer [% of E]")
        axis.legend()

    profile(axes[0, 0], electrons, ELECTRON_BINS, lambda events: events)
    axes[0, 0].set_title("Electrons: layer profile", fontsize=16)
    for (low, high), colour in zip(ELECTRON_BINS, colours, strict=True):
        for events, line in zip(electrons, ("o", "-"), strict=True):
            some = cut(events, low, high)
            outside = 1 - some["near"].sum(0) / some["visible"].sum()
            axes[0, 1].plot((0, 1, 2, 3, 5, 8, 15), outside, line, color=colour)
    axes[0, 1].set(xlabel="Cells either side of the layer's maximum", ylabel="Energy outside", yscale="log")
    axes[0, 1].set_title("Electrons: transverse containment", fontsize=16)
    edges = np.geomspace(50, 700, 8)
    centre = np.sqrt(edges[1:] * edges[:-1])
    for events, line in zip(electrons, ("o", "-"), strict=True):
        parts = [cut(events, low, high) for low, high in itertools.pairwise(edges)]
        fractions = [some["visible"] / some["energy"] for some in parts]
        axes[0, 2].plot(centre, [f.mean() for f in fractions], line, color=colours[0])
        axes[0, 2].plot(centre, [10 * f.std() for f in fractions], line, color=colours[2])
        axes[1, 0].plot(centre, [some["hits"].mean() for some in parts], line, color=colours[0])
    axes[0, 2].text(60, 0.8, "mean", color=colours[0])
    axes[0, 2].text(60, 0.5, "standard deviation x 10", color=colours[2])
    axes[0, 2].set(xlabel="E [GeV]", ylabel="Visible energy / E", xscale="log", ylim=(0.2, 1.05))
    axes[0, 2].set_title("Electrons: visible energy", fontsize=16)
    edges = np.geomspace(1, 1000, 13)
    centre = np.sqrt(edges[1:] * edges[:-1])
    for events, line in zip(protons, ("o", "-"), strict=True):
        hits = [
            events["hits"][(events["visible"] >= a) & (events["visible"] < b)] for a, b in itertools.pairwise(edges)
        ]
        axes[1, 0].plot(centre, [h.mean() if len(h) > 9 else np.nan for h in hits], line, color=colours[2])
    axes[1, 0].text(100, 150, "electrons, against E", color=colours[0])
    axes[1, 0].text(100, 115, "protons, against visible energy", color=colours[2], ha="center")
    axes[1, 0].set(xlabel="Energy [GeV]", ylabel="Mean hit cells after readout", xscale="log")
    axes[1, 0].set_title("Hit cells", fontsize=16)

    def spectrum(axis, values, bins, colour, text):
        for sample, line in zip(values, ("o", "-"), strict=True):
            count, _ = np.histogram(sample, bins)
            density = count / len(sample)
            if line == "o":
                error = np.where(count > 0, np.sqrt(count), np.nan) / len(sample)
                axis.errorbar((bins[1:] + bins[:-1]) / 2, density, error, fmt="o", color=colour)
            else:
                axis.stairs(density, bins, color=colour, label=text, linewidth=2)

    for (low, high), colour in zip(PROTON_BINS, colours, strict=True):
        values = [interacting(cut(events, low, high)) for events in protons]
        shares = [some["visible"] / some["energy"] for some in values]
        spectrum(axes[1, 1], shares, np.linspace(0, 0.9, 19), colour, f"{low}-{high} GeV")
    axes[1, 1].set(xlabel="Visible energy / E", ylabel="Fraction per bin", yscale="log")
    axes[1, 1].set_title("Protons above 1 GeV: visible energy", fontsize=16)
    axes[1, 1].legend()
    edges = np.geomspace(100, 2000, 7)
    centre = np.sqrt(edges[1:] * edges[:-1])
    for events, line in zip(protons, ("o", "-"), strict=True):
        crossing = [cut(events, low, high)["visible"] < 1 for low, high in itertools.pairwise(edges)]
        error = [np.sqrt(p.mean() * (1 - p.mean()) / len(p)) if line == "o" else 0 for p in crossing]
        axes[1, 2].errorbar(centre, [p.mean() for p in crossing], error, fmt=line, color=colours[0])
    axes[1, 2].set(xlabel="E [GeV]", ylabel="Fraction", xscale="log", ylim=(0.3, 0.7))
    axes[1, 2].set_title("Protons that leave under 1 GeV", fontsize=16)
    profile(axes[2, 0], protons, PROTON_BINS, interacting)
    axes[2, 0].set_title("Protons above 1 GeV: layer profile", fontsize=16)
    logarithm = [np.log10(1e3 * np.maximum(events["layers"][:, 0], 1e-6)) for events in protons]
    spectrum(axes[2, 1], logarithm, np.linspace(0.5, 4, 29), colours[2], "protons")
    logarithm = [np.log10(1e3 * np.maximum(events["layers"][:, 0], 1e-6)) for events in electrons]
    spectrum(axes[2, 1], logarithm, np.linspace(0.5, 4, 29), colours[0], "electrons")
    axes[2, 1].set(xlabel=r"$\log_{10}$(energy in layer 0 / MeV)", ylabel="Fraction per bin", yscale="log")
    axes[2, 1].set_title("First layer", fontsize=16)
    axes[2, 1].legend()
    values = [interacting(events) for events in protons]
    for column, (cells, colour) in zip((1, 2, 4), zip((1, 2, 5), colours, strict=True), strict=True):
        shares = [some["near"][:, column] / some["visible"] for some in values]
        spectrum(axes[2, 2], shares, np.linspace(0.3, 1, 29), colour, rf"$\pm${cells} cells")
    axes[2, 2].set(xlabel="Energy within, / visible energy", ylabel="Fraction per bin", yscale="log")
    axes[2, 2].set_title("Protons above 1 GeV: transverse containment", fontsize=16)
    axes[2, 2].legend(loc="upper left")
    handles = [plt.Line2D([], [], marker="o", linestyle="", color="black"), plt.Line2D([], [], color="black")]
    figure.legend(handles, [GEANT4, SIMULATION], loc="outside upper center", ncols=2, fontsize=18)
    figure.savefig(path, dpi=60)
    plt.close(figure)
